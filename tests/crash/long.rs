//! A deletion of many keys, met by SIGTERM: the server ends without waiting for it, and nobody ever sees half of it.

use std::time::Duration;

use bench_harness::{
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    process::Server,
};

use super::{rounds::block_on, writers};

/// Keys of a transaction, as many as may be by default.
const TXN_KEYS: u64 = 128;

/// Puts so many keys.
pub fn load(server: &Server, keys: u64) -> Result<(), String> {
    block_on(async {
        let mut client = writers::client(&server.endpoint())?;
        for first in (0..keys).step_by(TXN_KEYS as usize) {
            let puts = (first..keys.min(first + TXN_KEYS)).map(|number| {
                let put = pb::PutRequest { key: format!("key{number:08}").into(), ..Default::default() };
                pb::RequestOp { request: Some(Op::RequestPut(put)) }
            });
            let request = pb::TxnRequest { success: puts.collect(), ..Default::default() };
            client.txn(request).await.map_err(|status| status.to_string())?;
        }
        Ok(())
    })
}

/// How many of them there are.
pub fn count(server: &Server) -> Result<u64, String> {
    let request = pb::RangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        count_only: true,
        ..Default::default()
    };
    let response = block_on(async {
        let mut client = writers::client(&server.endpoint())?;
        client.range(request).await.map_err(|status| status.to_string())
    })?;
    u64::try_from(response.into_inner().count).map_err(|error| error.to_string())
}

/// Asks for the deletion of all of them and has the server end a moment later. How many were deleted, if that was
/// answered.
pub fn delete_and_end(server: &mut Server, moment: Duration, grace: Duration) -> Result<Option<u64>, String> {
    let endpoint = server.endpoint();
    let deleting = std::thread::spawn(move || {
        let request =
            pb::DeleteRangeRequest { key: "key".into(), range_end: "kez".into(), ..Default::default() };
        block_on(async {
            let answer = writers::client(&endpoint)?.delete_range(request).await;
            // Refused, or the server is gone: it may have been deleted all the same.
            Ok::<_, String>(answer.ok().map(|answer| answer.into_inner().deleted as u64))
        })
    });
    std::thread::sleep(moment);
    server.terminate(grace).map_err(|error| error.to_string())?;
    deleting.join().map_err(|_| "the client panicked".to_owned())?
}
