//! Observers of an election on both servers. Of leaders that follow each other quickly one may be told of more than the
//! other; but it goes forward, and the last word is of who leads.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bench_harness::pb::{
    mvccpb::KeyValue,
    v3electionpb::{LeaderRequest, election_client::ElectionClient},
};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    call::{Answer, Call, with_token},
    pair::{Pair, Peer},
};

const PATIENCE: Duration = Duration::from_secs(15);
const POLLED: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
struct Record {
    revision: i64,
    last: Option<KeyValue>,
    wrong: Option<String>,
    ended: Option<String>,
}

/// Upon one server.
struct End {
    record: Arc<Mutex<Record>>,
    reader: JoinHandle<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl End {
    fn open(peer: &Peer, client: usize, name: Bytes) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let connection = &peer.connections[client];
        let (channel, token, taken) = (connection.channel.clone(), connection.token(), Arc::clone(&record));
        let reader = tokio::spawn(async move {
            let request = with_token(LeaderRequest { name }, token.as_deref());
            let ended = match ElectionClient::new(channel).observe(request).await {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(Some(told)) => {
                                let mut record = taken.lock().expect("no panic");
                                let revision = told.header.as_ref().map_or(0, |header| header.revision);
                                if revision < record.revision || told.kv.is_none() {
                                    record.wrong =
                                        Some(format!("after revision {}: {told:?}", record.revision));
                                }
                                record.revision = revision;
                                record.last = told.kv;
                            }
                            Ok(None) => break "ended".to_owned(),
                            Err(status) => break format!("{status:?}"),
                        }
                    }
                }
                Err(status) => format!("{status:?}"),
            };
            taken.lock().expect("no panic").ended = Some(ended);
        });
        Self { record, reader }
    }

    fn ask<T>(&self, question: impl FnOnce(&Record) -> T) -> T {
        question(&self.record.lock().expect("no panic"))
    }
}

/// One on each.
pub struct Observers {
    name: Bytes,
    ends: [End; 2],
}

impl Observers {
    pub fn open(pair: &Pair, client: usize, name: Bytes) -> Self {
        let ends = pair.both().map(|peer| End::open(peer, client, name.clone()));
        Self { name, ends }
    }

    /// Both have been told of who leads now, if anybody does. False if upstream's has ended, as it does when what it was to
    /// read is compacted.
    pub async fn settled(&self, pair: &Pair, reader: usize) -> Result<bool, String> {
        let call = Call::Leader(LeaderRequest { name: self.name.clone() });
        let (upstream, tested) = pair.answers(reader, &call).await;
        let leads = [upstream, tested].map(|answer| match answer {
            Answer::Leader(leader) => leader.kv,
            _ => None,
        });
        let since = Instant::now();
        loop {
            let [upstream, tested] = self.ends.each_ref();
            if let Some(wrong) = tested.ask(|record| record.wrong.clone().or(record.ended.clone())) {
                return Err(format!("tested's observer: {wrong}"));
            }
            if upstream.ask(|record| record.ended.is_some()) {
                return Ok(false);
            }
            let told = self.ends.each_ref().map(|end| end.ask(|record| record.last.clone()));
            if told.iter().zip(&leads).all(|(told, leads)| leads.is_none() || told == leads) {
                return Ok(true);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!(
                    "upstream's and tested's observers were told last of {told:?}, {leads:?} lead"
                ));
            }
            tokio::time::sleep(POLLED).await;
        }
    }
}
