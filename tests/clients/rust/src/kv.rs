//! Keys, values, transactions, and what the server says of itself.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse,
};

use crate::refused;

pub async fn kv(mut c: Client) -> Result<(), Error> {
    c.put("kv/a", "1", None).await?;
    let mut second = c.put("kv/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(second.take_prev_key().expect("there was one").value_str()?, "1");
    for name in ["b", "c", "d"] {
        c.put(format!("kv/{name}"), name, None).await?;
    }
    let page = GetOptions::new().with_prefix().with_limit(2).with_sort(SortTarget::Key, SortOrder::Descend);
    let page = c.get("kv/", Some(page)).await?;
    let keys = page.kvs().iter().map(|kv| kv.key_str()).collect::<Result<Vec<_>, _>>()?;
    assert_eq!((keys, page.count(), page.more()), (vec!["kv/d", "kv/c"], 4, true));
    let revision = second.header().expect("a header").revision();
    let old = c.get("kv/a", Some(GetOptions::new().with_revision(revision - 1))).await?;
    assert_eq!((old.kvs()[0].value_str()?, old.kvs()[0].version()), ("1", 1));
    let counted = c.get("kv/", Some(GetOptions::new().with_prefix().with_count_only())).await?;
    assert_eq!((counted.count(), counted.kvs().len()), (4, 0));
    let deleted = c.delete("kv/b", Some(DeleteOptions::new().with_range("kv/d").with_prev_key())).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs()[1].value_str()?), (2, "c"));
    refused(c.put("", "x", None).await, "etcdserver: key is not provided");
    c.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    let compacted = c.get("kv/a", Some(GetOptions::new().with_revision(revision - 1))).await;
    refused(compacted, "etcdserver: mvcc: required revision has been compacted");

    let status = c.status().await?;
    assert_eq!(status.leader(), status.header().expect("a header").member_id());
    assert_eq!(c.member_list().await?.members().len(), 1);
    assert_ne!(c.hash_kv(0).await?.hash(), 0);
    c.defragment().await?;
    let mut backup = c.snapshot().await?;
    let mut bytes = 0;
    while let Some(part) = backup.message().await? {
        bytes += part.blob().len();
        assert!(part.remaining_bytes() > 0 || bytes > 4096);
    }
    Ok(())
}

pub async fn txn(mut c: Client) -> Result<(), Error> {
    let create = |value: &str| {
        Txn::new()
            .when([Compare::create_revision("txn/a", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("txn/a", value, None)])
            .or_else([TxnOp::get("txn/a", None)])
    };
    assert!(c.txn(create("1")).await?.succeeded());
    let again = c.txn(create("2")).await?;
    assert!(!again.succeeded());
    let TxnOpResponse::Get(got) = &again.op_responses()[0] else { panic!("{again:?}") };
    assert_eq!(got.kvs()[0].value_str()?, "1");
    let inner = Txn::new()
        .when([Compare::value("txn/a", CompareOp::Equal, "1")])
        .and_then([TxnOp::delete("txn/a", None), TxnOp::put("txn/b", "1", None)]);
    let nested = c.txn(Txn::new().and_then([TxnOp::txn(inner), TxnOp::get("txn/a", None)])).await?;
    let TxnOpResponse::Txn(inner) = &nested.op_responses()[0] else { panic!("{nested:?}") };
    assert!(inner.succeeded());
    let twice = Txn::new().and_then([TxnOp::put("x", "1", None), TxnOp::put("x", "2", None)]);
    refused(c.txn(twice).await, "etcdserver: duplicate key given in txn request");
    Ok(())
}
