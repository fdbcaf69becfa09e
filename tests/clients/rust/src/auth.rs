//! Users, roles, and what each may do.

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, Permission, PermissionType, PutOptions,
    RoleRevokePermissionOptions, Txn, TxnOp, WatchOptions,
};

use crate::{Member, refused, served, watch::next};

const DENIED: &str = "etcdserver: permission denied";

pub async fn auth(member: Member, mut c: Client) -> Result<(), Error> {
    c.user_add("root", "of all", None).await?;
    c.user_add("ann", "ann's", None).await?;
    refused(c.user_add("ann", "again", None).await, "etcdserver: user name already exists");
    c.role_add("root").await?;
    c.role_add("own").await?;
    c.role_grant_permission("own", Permission::read_write("own/").with_prefix()).await?;
    c.role_grant_permission("own", Permission::read("shared")).await?;
    c.user_grant_role("root", "root").await?;
    c.user_grant_role("ann", "own").await?;
    c.auth_enable().await?;

    refused(c.get("own/a", None).await, "etcdserver: user name is empty");
    let login = |name: &str, password: &str| {
        ConnectOptions::new().with_user(name, password).with_auto_token_refresh(true)
    };
    let wrong = member.connect(login("ann", "wrong")).await.map(|_| ());
    refused(wrong, "etcdserver: authentication failed, invalid user ID or password");
    let mut root = member.connect(login("root", "of all")).await?;
    let mut ann = member.connect(login("ann", "ann's")).await?;
    for order in [None, Some("kill")] {
        // Tokens end with the server; the client gets itself others.
        order.into_iter().for_each(|order| member.order(order));
        served(async || root.put("shared", "1", None).await).await;
        served(async || ann.put("own/a", "1", None).await).await;
        assert_eq!(ann.get("shared", None).await?.kvs()[0].value_str()?, "1");
        refused(ann.put("shared", "2", None).await, DENIED);
        refused(ann.get("own/", Some(GetOptions::new().with_from_key())).await, DENIED);
        let hidden = Txn::new().and_then([TxnOp::get("own/a", None), TxnOp::get("hidden", None)]);
        refused(ann.txn(Txn::new().and_then([TxnOp::txn(hidden)])).await, DENIED);
        refused(ann.role_list().await, DENIED);
        let lease = ann.lease_grant(60, None).await?.id();
        root.put("shared", "leased", Some(PutOptions::new().with_lease(lease))).await?;
        refused(ann.lease_revoke(lease).await, DENIED);
        root.lease_revoke(lease).await?;

        let mut stream = ann.watch("own/", Some(WatchOptions::new().with_prefix())).await?;
        assert!(next(&mut stream).await.created());
        stream.watch("hidden", None).await?;
        let denied = next(&mut stream).await;
        assert!(denied.canceled() && denied.cancel_reason().ends_with(DENIED), "{denied:?}");
        root.put("own/b", "2", None).await?;
        assert_eq!(next(&mut stream).await.events()[0].kv().expect("a key").value_str()?, "2");
    }

    let granted = root.role_get("own").await?.permissions();
    assert_eq!(granted.len(), 2);
    assert_eq!(granted[0], Permission::new(PermissionType::Readwrite, "own/").with_prefix());
    root.role_revoke_permission("own", "own/", Some(RoleRevokePermissionOptions::new().with_prefix()))
        .await?;
    refused(ann.put("own/a", "x", None).await, DENIED);
    root.user_change_password("ann", "new").await?;
    let old = member.connect(login("ann", "ann's")).await.map(|_| ());
    refused(old, "etcdserver: authentication failed, invalid user ID or password");
    assert_eq!(root.user_get("ann").await?.roles(), ["own"]);
    root.user_revoke_role("ann", "own").await?;
    root.role_delete("own").await?;
    root.user_delete("ann").await?;
    assert_eq!(root.user_list().await?.users(), ["root"]);
    root.auth_disable().await?;
    assert_eq!(c.get("shared", None).await?.count(), 0);
    Ok(())
}
