//! The server's own locks and elections.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, LockOptions, ProclaimOptions, ResignOptions};
use tokio::time::timeout;

use crate::{Member, PATIENCE, refused, served};

pub async fn lock(member: Member, mut c: Client) -> Result<(), Error> {
    locks(&member, &mut c).await?;
    elections(&member, &mut c).await
}

async fn locks(member: &Member, c: &mut Client) -> Result<(), Error> {
    let mine = c.lock("lock", None).await?;
    let name = String::from_utf8_lossy(mine.key()).into_owned();
    assert!(name.starts_with("lock/") && c.get(mine.key(), None).await?.count() == 1, "{name}");
    // Someone else waits until it is given back.
    let mut other = member.connect(ConnectOptions::new()).await?;
    {
        let mut waiting = std::pin::pin!(other.lock("lock", None));
        assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
        c.unlock(mine.key()).await?;
        let theirs = timeout(PATIENCE, waiting).await.expect("the lock in time")?;
        c.unlock(theirs.key()).await?;
    }

    // The same lease has it already; one that ends gives it back.
    let lease = c.lease_grant(2, None).await?.id();
    let held = c.lock("lock", Some(LockOptions::new().with_lease(lease))).await?;
    let again = c.lock("lock", Some(LockOptions::new().with_lease(lease))).await?;
    assert_eq!(held.key(), again.key());
    let heir = timeout(PATIENCE, other.lock("lock", None)).await.expect("the lock in time")?;
    member.order("kill");
    served(async || c.get(heir.key(), None).await).await;
    assert_eq!(c.get(heir.key(), None).await?.count(), 1);
    c.unlock(heir.key()).await?;
    // Whoever stops waiting leaves nothing behind.
    let mine = c.lock("lock", None).await?;
    assert!(timeout(Duration::from_millis(200), other.lock("lock", None)).await.is_err());
    c.unlock(mine.key()).await?;
    let next = timeout(PATIENCE, c.lock("lock", None)).await.expect("the lock in time")?;
    c.unlock(next.key()).await?;
    Ok(())
}

async fn elections(member: &Member, c: &mut Client) -> Result<(), Error> {
    refused(c.leader("election").await, "election: no leader");
    let (first, second) = (c.lease_grant(60, None).await?.id(), c.lease_grant(60, None).await?.id());
    let mut won = c.campaign("election", "one", first).await?;
    let one = won.take_leader().expect("a key");
    assert_eq!((one.name(), one.lease()), (&b"election"[..], first));
    let mut observer = member.connect(ConnectOptions::new()).await?.observe("election").await?;
    let mut other = member.connect(ConnectOptions::new()).await?;
    let mut campaign = std::pin::pin!(other.campaign("election", "two", second));
    assert!(timeout(Duration::from_millis(200), &mut campaign).await.is_err());
    c.proclaim("one again", Some(ProclaimOptions::new().with_leader(one.clone()))).await?;
    assert_eq!(c.leader("election").await?.kv().expect("a leader").value_str()?, "one again");
    c.resign(Some(ResignOptions::new().with_leader(one.clone()))).await?;
    let mut won = timeout(PATIENCE, campaign).await.expect("the election in time")?;
    let late = c.proclaim("late", Some(ProclaimOptions::new().with_leader(one))).await;
    refused(late, "election: not leader");
    // The observer may have missed some, but comes to see the last.
    loop {
        let seen = timeout(PATIENCE, observer.message()).await.expect("a leader in time")?;
        if seen.expect("the stream goes on").kv().expect("a leader").value_str()? == "two" {
            break;
        }
    }
    let two = won.take_leader().expect("a key");
    c.resign(Some(ResignOptions::new().with_leader(two))).await?;
    refused(c.leader("election").await, "election: no leader");
    Ok(())
}
