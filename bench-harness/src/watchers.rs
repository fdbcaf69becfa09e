//! Many watches on few connections, on a thread of their own: what came, and how late.
//!
//! A value that [`marked`] made tells when it was put, in this process. Watches go on when the client has said that it will
//! ask for nothing more, so nothing is held open for that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};

use crate::load::cores;
use crate::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// All watches are created after so long, or never.
const CREATED_MAX: Duration = Duration::from_secs(120);
/// So that a stream is held up by the server, not by the window.
const WINDOW_BYTES: u32 = 4 << 20;
const MESSAGE_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start a runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("a watch was cancelled: {0}")]
    Canceled(String),
    #[error("a stream of watches ended")]
    Ended,
    #[error("{seen} of {wanted} {what} in time")]
    Missing { seen: u64, wanted: u64, what: &'static str },
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// What to watch, and over how many streams of how many connections.
#[derive(Clone, Debug)]
pub struct Plan {
    pub connections: u32,
    /// Of each connection.
    pub streams: u32,
    /// Key and end of the range, one watch each.
    pub ranges: Vec<(String, String)>,
    /// 0 for what comes from now on.
    pub start_revision: i64,
}

/// What was seen since it was asked last.
#[derive(Clone, Debug)]
pub struct Seen {
    pub events: u64,
    /// Between a marked value's put and its event, in microseconds.
    pub lag_us: Histogram<u64>,
}

struct Shared {
    created: AtomicU64,
    events: AtomicU64,
    is_over: AtomicBool,
    lag_us: Mutex<Histogram<u64>>,
}

pub struct Watchers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

static SINCE: LazyLock<Instant> = LazyLock::new(Instant::now);
const MARK: [u8; 8] = *b"put-at: ";

/// A value of this length, or of 16 bytes, that tells when it was made.
pub fn marked(len: usize) -> Vec<u8> {
    let mut value = MARK.to_vec();
    value.extend((SINCE.elapsed().as_nanos() as u64).to_le_bytes());
    value.resize(len.max(value.len()), b'v');
    value
}

fn lag_us(value: &[u8]) -> Option<u64> {
    let nanos = value.strip_prefix(&MARK)?.first_chunk()?;
    let put = Duration::from_nanos(u64::from_le_bytes(*nanos));
    Some(SINCE.elapsed().saturating_sub(put).as_micros() as u64)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds")
}

impl Watchers {
    /// Returns once all watches are created.
    pub fn start(addr: SocketAddr, plan: Plan) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            created: AtomicU64::new(0),
            events: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            lag_us: Mutex::new(histogram()),
        });
        let (counting, wanted) = (shared.clone(), plan.ranges.len() as u64);
        let thread = std::thread::spawn(move || {
            cores::leave_the_last().map_err(Error::Runtime)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Error::Runtime)?.block_on(follow(addr, plan, counting))
        });
        let mut this = Self { shared, thread: Some(thread) };
        this.wait(|shared| &shared.created, (wanted, CREATED_MAX), "watches were created")?;
        Ok(this)
    }

    /// Returns once so many events have come since it was asked last what came.
    pub fn wait_for_events(&mut self, wanted: u64, time_max: Duration) -> Result<(), Error> {
        self.wait(|shared| &shared.events, (wanted, time_max), "events came")
    }

    /// An end of watching ends the wait as well, with what went wrong.
    fn wait(
        &mut self,
        count: fn(&Shared) -> &AtomicU64,
        (wanted, time_max): (u64, Duration),
        what: &'static str,
    ) -> Result<(), Error> {
        let since = Instant::now();
        loop {
            let is_over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            let seen = count(&self.shared).load(Ordering::Relaxed);
            if seen >= wanted {
                return Ok(());
            }
            if is_over {
                return self.finish().and(Err(Error::Ended));
            }
            if since.elapsed() > time_max {
                return Err(Error::Missing { seen, wanted, what });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn take(&self) -> Seen {
        let events = self.shared.events.swap(0, Ordering::Relaxed);
        let lag_us = std::mem::replace(&mut *self.shared.lag_us.lock().expect("nobody panics"), histogram());
        Seen { events, lag_us }
    }

    /// Ends them, and says what went wrong meanwhile.
    pub fn stop(mut self) -> Result<(), Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("watching does not panic"))
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

async fn connect(addr: SocketAddr) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    Ok(endpoint.connect().await?)
}

async fn follow(addr: SocketAddr, plan: Plan, shared: Arc<Shared>) -> Result<(), Error> {
    let mut streams = JoinSet::new();
    let count = (plan.connections * plan.streams) as usize;
    for connection in 0..plan.connections {
        let channel = connect(addr).await?;
        for stream in 0..plan.streams {
            let number = (connection * plan.streams + stream) as usize;
            let create = |(key, range_end): &(String, String)| {
                let create = pb::WatchCreateRequest {
                    key: key.clone().into(),
                    range_end: range_end.clone().into(),
                    start_revision: plan.start_revision,
                    ..Default::default()
                };
                pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
            };
            let requests: Vec<_> = plan.ranges.iter().skip(number).step_by(count).map(create).collect();
            if !requests.is_empty() {
                streams.spawn(listen(channel.clone(), requests, shared.clone()));
            }
        }
    }
    loop {
        let ended = tokio::time::timeout(Duration::from_millis(10), streams.join_next()).await;
        match ended {
            _ if shared.is_over.load(Ordering::Relaxed) => return Ok(()),
            Ok(Some(ended)) => ended.expect("listening does not panic")?,
            Ok(None) => return Err(Error::Ended),
            Err(_) => {}
        }
    }
}

async fn listen(channel: Channel, requests: Vec<pb::WatchRequest>, shared: Arc<Shared>) -> Result<(), Error> {
    let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut answers = client.watch(tokio_stream::iter(requests)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.canceled {
            return Err(Error::Canceled(answer.cancel_reason));
        }
        shared.created.fetch_add(u64::from(answer.created), Ordering::Relaxed);
        if answer.events.is_empty() {
            continue;
        }
        shared.events.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        let values = answer.events.iter().filter_map(|event| event.kv.as_ref());
        let mut lags = values.filter_map(|kv| lag_us(&kv.value)).peekable();
        if lags.peek().is_some() {
            let mut histogram = shared.lag_us.lock().expect("nobody panics");
            lags.for_each(|lag| histogram.saturating_record(lag));
        }
    }
    Err(Error::Ended)
}

/// Puts marked values to these keys in turn, so many a second, until it is told to stop; how many.
pub fn put_marked(
    addr: SocketAddr,
    keys: &[String],
    (rate, value_size): (f64, usize),
    stop: &mpsc::Receiver<()>,
) -> Result<u64, Error> {
    cores::leave_the_last().map_err(Error::Runtime)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let client = KvClient::new(connect(addr).await?);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        let (mut puts, mut count) = (JoinSet::new(), 0);
        for key in keys.iter().cycle() {
            ticks.tick().await;
            if !matches!(stop.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                break;
            }
            let mut client = client.clone();
            let put = pb::PutRequest {
                key: key.clone().into(),
                value: marked(value_size).into(),
                ..Default::default()
            };
            puts.spawn(async move { client.put(put).await.map(drop) });
            count += 1;
            while let Some(done) = puts.try_join_next() {
                done.expect("a put does not panic")?;
            }
        }
        while let Some(done) = puts.join_next().await {
            done.expect("a put does not panic")?;
        }
        Ok(count)
    })
}
