//! One thread of a run: its connections, its part of the clients, its recorder.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::{CONNECT_TIMEOUT, Error, Shared, nanoseconds};
use crate::load::cores;
use crate::load::http2::{Broken, Connection, Failure};
use crate::load::message::Told;
use crate::load::options::Operation;
use crate::load::pace::{Schedule, Timer};
use crate::load::record::Recorder;
use crate::load::workload::{Kind, Workload};

/// Several frames of the largest size.
const READ_BYTES: usize = 256 << 10;
/// A server that is gone does not answer, and another one may.
const RECONNECT_MAX: Duration = Duration::from_millis(500);
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
/// How often a run that is over is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A call in flight.
#[derive(Clone, Copy, Debug)]
struct Issued {
    kind: Kind,
    key: u64,
    intended_ns: u64,
}

struct Worker {
    started: Instant,
    measure_from_ns: u64,
    /// Measured operations that may still be started.
    budget: Cell<u64>,
    open_loop: bool,
    /// The open loop has given out its last start.
    schedule_done: Cell<bool>,
    workload: RefCell<Workload>,
    recorder: RefCell<Recorder>,
    request: RefCell<Vec<u8>>,
    shared: Arc<Shared>,
}

/// A connection and what waits for it.
struct Lane {
    socket: RefCell<TcpStream>,
    connection: RefCell<Connection<Issued>>,
    /// Closed loop: clients without a call.
    idle: Cell<u32>,
    /// All of them.
    clients: Cell<u32>,
    /// Which of the servers it is of.
    nth: Cell<usize>,
    /// Open loop: intended starts that were not sent yet.
    due: RefCell<VecDeque<u64>>,
    lost: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Why a lane ended before its time.
enum Lost {
    Io(std::io::Error),
    Closed,
    Broken(Broken),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Broken(broken) => write!(f, "{broken}"),
        }
    }
}

pub fn run(shared: Arc<Shared>, index: u32) -> Result<Recorder, Error> {
    let placed = cores::leave_the_last().and_then(|()| match shared.options.operation {
        // A list keeps a processor busy for long; the puts that are measured beside it must not wait for that.
        Operation::List => cores::step_back(),
        _ => Ok(()),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = placed.and(runtime).map_err(|source| Error::Io { what: "start a runtime", source });
    let local = LocalSet::new();
    let connected = runtime.and_then(|runtime| {
        let lanes = local.block_on(&runtime, connect_all(&shared, index))?;
        Ok((runtime, lanes))
    });
    if connected.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    // Both barriers are passed whatever happened, or the others would wait forever.
    shared.connected.wait();
    shared.go.wait();
    let outcome = connected.and_then(|(runtime, lanes)| {
        if shared.failed.load(Ordering::Relaxed) {
            return Ok(Recorder::new());
        }
        local.block_on(&runtime, drive(&shared, index, lanes))
    });
    shared.running.fetch_sub(1, Ordering::Relaxed);
    outcome
}

/// The part of `whole` that worker `index` of `parts` gets.
fn share(whole: u64, index: u32, parts: u32) -> u64 {
    whole / u64::from(parts) + u64::from(u64::from(index) < whole % u64::from(parts))
}

async fn connect_all(shared: &Shared, index: u32) -> Result<Vec<Rc<Lane>>, Error> {
    let options = &shared.options;
    let part = |whole: u32| share(whole.into(), index, options.threads);
    let (connections, clients) = (part(options.connections), part(options.clients));
    let mut lanes = Vec::new();
    for lane in 0..connections {
        // Of all connections of the run, not of this thread's.
        let nth = lane as usize * options.threads as usize + index as usize;
        let endpoint = options.endpoints[nth % options.endpoints.len()];
        let refused = |why: String| Error::Connect { endpoint, why };
        let clients = share(clients, lane as u32, connections as u32);
        let connecting = connect(endpoint, options.token.as_deref(), clients as usize);
        let lane = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let lane =
            lane.map_err(|_| refused(format!("no answer in {CONNECT_TIMEOUT:?}")))?.map_err(refused)?;
        lane.idle.set(clients as u32);
        lane.clients.set(clients as u32);
        lane.nth.set(nth);
        lanes.push(Rc::new(lane));
    }
    Ok(lanes)
}

async fn connect(
    endpoint: std::net::SocketAddr,
    token: Option<&str>,
    clients: usize,
) -> Result<Lane, String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = TcpStream::connect(endpoint).await.map_err(text)?;
    socket.set_nodelay(true).map_err(text)?;
    let lane = Lane {
        socket: RefCell::new(socket),
        connection: RefCell::new(Connection::new(&endpoint.to_string(), token, clients.max(1))),
        idle: Cell::new(0),
        clients: Cell::new(0),
        nth: Cell::new(0),
        due: RefCell::new(VecDeque::new()),
        lost: Cell::new(false),
        waker: RefCell::new(None),
    };
    // A server may only speak once it was spoken to, and calls wait for its SETTINGS.
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(Err(lost)) = lane.send(cx) {
                return Poll::Ready(Err(lost.to_string()));
            }
            if lane.connection.borrow().ready() {
                return Poll::Ready(Ok(()));
            }
            match lane.read(cx, &mut buffer, &mut filled, &mut |_, _| {}) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(lost)) => return Poll::Ready(Err(lost.to_string())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await?;
    if filled > 0 {
        return Err("the server's SETTINGS came in an unusual way".to_owned());
    }
    Ok(lane)
}

async fn drive(shared: &Arc<Shared>, index: u32, lanes: Vec<Rc<Lane>>) -> Result<Recorder, Error> {
    let options = &shared.options;
    let worker = Rc::new(Worker {
        started: *shared.started.get().expect("set before go"),
        measure_from_ns: nanoseconds(options.warm_up),
        budget: Cell::new(options.total.map_or(u64::MAX, |total| share(total, index, options.threads))),
        open_loop: options.rate.is_some(),
        schedule_done: Cell::new(false),
        workload: RefCell::new(Workload::new(options, index, options.threads)),
        recorder: RefCell::new(Recorder::new().traced(options.trace)),
        request: RefCell::new(Vec::new()),
        shared: Arc::clone(shared),
    });

    let mut tasks = tokio::task::JoinSet::new();
    for lane in &lanes {
        let (lane, worker) = (Rc::clone(lane), Rc::clone(&worker));
        tasks.spawn_local(async move {
            serve(&lane, &worker).await;
            while lane.lost.get() && worker.shared.options.reconnect && worker.revive(&lane).await {
                serve(&lane, &worker).await;
            }
        });
    }
    let pacing = async {
        match options.rate {
            Some(rate) => pace(&worker, &lanes, Schedule::new(rate, index, options.threads)).await,
            None => Ok(()),
        }
    };
    let finished = async {
        pacing.await?;
        while let Some(task) = tasks.join_next().await {
            task.map_err(|_| Error::Panicked)?;
        }
        Ok(())
    };
    tokio::select! {
        outcome = finished => outcome?,
        () = drained(&worker, options.drain) => {}
    }

    let now = worker.now();
    for lane in &lanes {
        worker.give_up(lane, now, "unanswered at the end");
    }
    Ok(worker.recorder.replace(Recorder::new()))
}

/// Until nothing is waited for any more. The end may move forward meanwhile.
async fn drained(worker: &Worker, drain: Duration) {
    loop {
        let left = Duration::from_nanos(worker.end_ns()) + drain;
        let left = left.saturating_sub(worker.started.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Gives out the intended starts, lane after lane.
async fn pace(worker: &Worker, lanes: &[Rc<Lane>], mut schedule: Schedule) -> Result<(), Error> {
    let failed = |source| Error::Io { what: "timer", source };
    let timer = Timer::new().map_err(failed)?;
    let mut turn = lanes.iter().cycle();
    loop {
        let now = worker.now();
        while let Some(intended) = schedule.due(now.min(worker.end_ns())) {
            let all_lost = lanes.iter().all(|lane| lane.lost.get());
            if all_lost && !worker.shared.options.reconnect || !worker.spend(intended) {
                worker.finish_schedule(lanes);
                return Ok(());
            }
            let lane = turn.by_ref().find(|lane| all_lost || !lane.lost.get()).expect("one is to be had");
            lane.due.borrow_mut().push_back(intended);
            lane.wake();
        }
        if now >= worker.end_ns() {
            worker.finish_schedule(lanes);
            return Ok(());
        }
        let next = schedule.peek().min(worker.end_ns());
        timer.sleep(Duration::from_nanos(next.saturating_sub(worker.now()))).await.map_err(failed)?;
    }
}

/// One connection until the run is over or the connection is lost.
async fn serve(lane: &Lane, worker: &Worker) {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let outcome = poll_fn(|cx| {
        let known = lane.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            *lane.waker.borrow_mut() = Some(cx.waker().clone());
        }
        loop {
            let mut now = None;
            let mut finished = 0;
            let read = lane.read(cx, &mut buffer, &mut filled, &mut |issued, outcome| {
                let now = *now.get_or_insert_with(|| worker.now());
                worker.complete(now, issued, outcome);
                finished += 1;
            });
            if let Poll::Ready(Err(lost)) = read {
                return Poll::Ready(Err(lost));
            }
            if !worker.open_loop {
                lane.idle.set(lane.idle.get() + finished);
            }
            worker.issue(lane, now.unwrap_or_else(|| worker.now()));
            if let Poll::Ready(Err(lost)) = lane.send(cx) {
                return Poll::Ready(Err(lost));
            }
            if read.is_pending() {
                let over = lane.connection.borrow().open_calls() == 0 && worker.over(lane);
                return if over { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
    })
    .await;
    if let Err(lost) = outcome {
        lane.lost.set(true);
        worker.recorder.borrow_mut().connections_lost += 1;
        worker.give_up(lane, worker.now(), &format!("connection lost: {lost}"));
    }
}

impl Lane {
    /// Reads once and takes in what came; `filled` bytes at the start of the buffer are the start of a frame.
    fn read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        filled: &mut usize,
        done: &mut impl FnMut(Issued, Result<&[u8], Failure>),
    ) -> Poll<Result<(), Lost>> {
        let mut socket = self.socket.borrow_mut();
        let mut free = ReadBuf::new(&mut buffer[*filled..]);
        match Pin::new(&mut *socket).poll_read(cx, &mut free) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Io(error))),
            Poll::Ready(Ok(())) if free.filled().is_empty() => return Poll::Ready(Err(Lost::Closed)),
            Poll::Ready(Ok(())) => {}
        }
        let end = *filled + free.filled().len();
        let used = match self.connection.borrow_mut().receive(&buffer[..end], done) {
            Ok(used) => used,
            Err(broken) => return Poll::Ready(Err(Lost::Broken(broken))),
        };
        buffer.copy_within(used..end, 0);
        *filled = end - used;
        Poll::Ready(Ok(()))
    }

    /// Sends all there is to send, or as much as the socket takes.
    fn send(&self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let mut connection = self.connection.borrow_mut();
        let out = connection.out();
        let mut socket = self.socket.borrow_mut();
        while !out.is_empty() {
            match Pin::new(&mut *socket).poll_write(cx, out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Io(error))),
                Poll::Ready(Ok(sent)) if sent == out.len() => out.clear(),
                Poll::Ready(Ok(sent)) => drop(out.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Worker {
    /// Makes a lost connection anew, to whichever server takes it first; false once the run is over.
    async fn revive(&self, lane: &Lane) -> bool {
        let options = &self.shared.options;
        loop {
            if self.now() >= self.end_ns() {
                return false;
            }
            lane.nth.set(lane.nth.get() + 1);
            let endpoint = options.endpoints[lane.nth.get() % options.endpoints.len()];
            let connecting = connect(endpoint, options.token.as_deref(), lane.clients.get() as usize);
            if let Ok(Ok(new)) = tokio::time::timeout(RECONNECT_MAX, connecting).await {
                lane.socket.replace(new.socket.into_inner());
                lane.connection.replace(new.connection.into_inner());
                lane.idle.set(lane.clients.get());
                lane.lost.set(false);
                return true;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    fn end_ns(&self) -> u64 {
        self.shared.end_ns.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("below 500 years")
    }

    /// Takes one operation off the budget, unless it is used up; the warm-up is free.
    fn spend(&self, intended_ns: u64) -> bool {
        let left = self.budget.get();
        if left > 0 && intended_ns >= self.measure_from_ns && left != u64::MAX {
            self.budget.set(left - 1);
        }
        left > 0
    }

    /// Opens the calls that are due and find room.
    fn issue(&self, lane: &Lane, now: u64) {
        let mut connection = lane.connection.borrow_mut();
        while connection.can_open() {
            let intended_ns = if self.open_loop {
                let Some(intended) = lane.due.borrow_mut().pop_front() else { return };
                intended
            } else {
                if lane.idle.get() == 0 || now >= self.end_ns() || !self.spend(now) {
                    return;
                }
                lane.idle.set(lane.idle.get() - 1);
                now
            };
            let mut request = self.request.borrow_mut();
            request.clear();
            let (kind, method, key) = self.workload.borrow_mut().next(&mut request);
            connection.open(method, &request, Issued { kind, key, intended_ns });
        }
    }

    /// Whether a lane without open calls has nothing more to do.
    fn over(&self, lane: &Lane) -> bool {
        if self.open_loop {
            self.schedule_done.get() && lane.due.borrow().is_empty()
        } else {
            self.budget.get() == 0 || self.now() >= self.end_ns() || lane.idle.get() == 0
        }
    }

    fn complete(&self, now: u64, issued: Issued, outcome: Result<&[u8], Failure>) {
        let mut recorder = self.recorder.borrow_mut();
        match outcome {
            Ok(message) => match self.workload.borrow_mut().reply(issued.kind, issued.key, message) {
                Ok(told) => {
                    recorder.told(told);
                    self.shared.live.completed.fetch_add(1, Ordering::Relaxed);
                    self.measure(&mut recorder, now, issued, told);
                }
                Err(malformed) => recorder.error(malformed.to_string(), 1),
            },
            Err(failure) => {
                self.workload.borrow_mut().failed(issued.kind, issued.key);
                recorder.error(failure.to_string(), 1);
            }
        }
    }

    /// Throughput counts what was answered within the measured time. Latency in a closed loop is of the same
    /// replies; in an open loop it is of everything whose start was intended then, however late it was answered.
    fn measure(&self, recorder: &mut Recorder, now: u64, issued: Issued, told: Told) {
        if now >= self.measure_from_ns && now <= self.end_ns() {
            recorder.measured(told, now);
            if !self.open_loop {
                recorder.latency(issued.kind, now - issued.intended_ns);
            }
        }
        if self.open_loop && issued.intended_ns >= self.measure_from_ns {
            recorder.latency(issued.kind, now - issued.intended_ns);
            let intended = self.started + Duration::from_nanos(issued.intended_ns);
            recorder.trace(intended, now - issued.intended_ns, true);
        }
    }

    /// Counts everything a lane still owes as errors. Its age is the least its latency can have been.
    fn give_up(&self, lane: &Lane, now: u64, why: &str) {
        let mut recorder = self.recorder.borrow_mut();
        let due =
            lane.due.borrow_mut().drain(..).map(|intended_ns| (Kind::Put, intended_ns)).collect::<Vec<_>>();
        let mut connection = lane.connection.borrow_mut();
        let open = connection.abandon().map(|issued| (issued.kind, issued.intended_ns));
        for (kind, intended_ns) in due.into_iter().chain(open) {
            if self.open_loop && intended_ns >= self.measure_from_ns {
                let age_ns = now.saturating_sub(intended_ns);
                recorder.latency(kind, age_ns);
                recorder.trace(self.started + Duration::from_nanos(intended_ns), age_ns, false);
            }
            recorder.error(why.to_owned(), 1);
        }
    }

    fn finish_schedule(&self, lanes: &[Rc<Lane>]) {
        self.schedule_done.set(true);
        lanes.iter().for_each(|lane| lane.wake());
    }
}
