//! Leases that end, are kept alive and revoked.

use etcd_client::{
    Client, Error, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions,
};

use crate::{Member, refused, served, watch::next};

pub async fn lease(member: Member, mut c: Client) -> Result<(), Error> {
    let short = c.lease_grant(5, None).await?.id();
    let kept = c.lease_grant(60, Some(LeaseGrantOptions::new().with_id(4711))).await?.id();
    assert_eq!(kept, 4711);
    refused(
        c.lease_grant(60, Some(LeaseGrantOptions::new().with_id(4711))).await,
        "etcdserver: lease already exists",
    );
    c.put("lease/short", "1", Some(PutOptions::new().with_lease(short))).await?;
    let put = c.put("lease/kept", "1", Some(PutOptions::new().with_lease(kept))).await?;
    let after = put.header().expect("a header").revision() + 1;
    let mut gone = c.watch("lease/short", Some(WatchOptions::new().with_start_revision(after))).await?;
    assert!(next(&mut gone).await.created());
    let (mut keeper, mut beats) = c.lease_keep_alive(kept).await?;
    assert_eq!(next(&mut gone).await.events()[0].event_type(), EventType::Delete);
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let beat = beats.message().await?.expect("the stream goes on");
        assert_eq!((beat.id(), beat.ttl()), (4711, 60));
    }
    assert_eq!(c.lease_time_to_live(short, None).await?.ttl(), -1);
    assert!(matches!(c.lease_keep_alive(short).await, Err(Error::LeaseKeepAliveError(_))));

    member.order("kill");
    served(async || c.get("lease/kept", None).await).await;
    let held = c.lease_time_to_live(kept, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((held.granted_ttl(), held.keys()), (60, &[b"lease/kept".to_vec()][..]));
    assert!((1..=62).contains(&held.ttl()), "{held:?}");
    let leases = c.leases().await?;
    assert_eq!(leases.leases().iter().map(|lease| lease.id()).collect::<Vec<_>>(), [kept]);
    c.lease_revoke(kept).await?;
    assert_eq!(c.get("lease/kept", None).await?.count(), 0);
    refused(c.lease_revoke(kept).await, "etcdserver: requested lease not found");
    refused(
        c.put("lease/kept", "1", Some(PutOptions::new().with_lease(kept))).await,
        "etcdserver: requested lease not found",
    );
    Ok(())
}
