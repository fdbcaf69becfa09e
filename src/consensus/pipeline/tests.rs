use raft::Storage;

use super::*;
use crate::{
    consensus::{ChangeKind, Payload},
    pb::peer::{self as pb, frame::Body},
};

mod frames;

impl Pipeline {
    fn step_bytes(&mut self, frame: Bytes, random: u64) -> Result<(), StepError> {
        self.step(Frame::decode(frame)?, random)
    }
}

fn options(id: u64) -> Options {
    Options {
        id: MemberId(id),
        run: 1_000 + id,
        election_ticks: 10,
        heartbeat_ticks: 1,
        pre_vote: true,
        uncommitted_bytes_max: 1 << 20,
        committed_bytes_max: 1 << 20,
        catchup_entries: 4,
        catchup_bytes: 1 << 20,
    }
}

/// A member of a group that was founded by `founders`.
fn member(id: u64, founders: &[u64]) -> Pipeline {
    let founder = |(index, &id): (u64, &u64)| {
        let change = ConfigChange { kind: ChangeKind::AddVoter, member: MemberId(id), context: Bytes::new() };
        change.entry(LogIndex(index), Term(1))
    };
    let entries: Vec<_> = (1..).zip(founders).map(founder).collect();
    let config = Config { voters: founders.iter().copied().map(MemberId).collect(), learners: Vec::new() };
    let commit = LogIndex(entries.len() as u64);
    let hard_state = HardState { term: Term(1), commit, ..HardState::default() };
    let mut window = LogWindow::new(LogPosition::default(), hard_state, config);
    window.append(entries);
    Pipeline::new(options(id), window, commit, 3).unwrap()
}

/// One that joins a group and knows nothing yet.
fn joining(id: u64) -> Pipeline {
    let window = LogWindow::new(LogPosition::default(), HardState::default(), Config::default());
    Pipeline::new(options(id), window, LogIndex(0), 3).unwrap()
}

fn readies(pipeline: &mut Pipeline) -> Vec<Ready> {
    let mut readies = Vec::new();
    while pipeline.has_ready() {
        readies.push(pipeline.ready());
    }
    readies
}

/// What a member gives when everything of it becomes durable and is applied at once.
#[derive(Default)]
struct Settled {
    sent: Vec<Outgoing>,
    committed: Vec<Entry>,
    reads: Vec<(u64, LogIndex)>,
    restored: Vec<Baseline>,
}

fn settle(pipeline: &mut Pipeline) -> Settled {
    let mut settled = Settled::default();
    loop {
        let readies = readies(pipeline);
        let Some(last) = readies.last().map(|ready| ready.number) else { return settled };
        let mut applied = None;
        for ready in readies {
            settled.sent.extend(ready.messages);
            settled.reads.extend(ready.reads);
            applied = ready.restored.as_ref().map(|baseline| baseline.position.index).or(applied);
            settled.restored.extend(ready.restored);
            for entry in ready.committed {
                if let Payload::Config(change) = entry.payload().unwrap() {
                    pipeline.apply_change(&change).unwrap();
                }
                applied = Some(entry.index);
                settled.committed.push(entry);
            }
        }
        settled.sent.extend(pipeline.persisted(last));
        if let Some(index) = applied {
            pipeline.applied(index);
        }
    }
}

/// Settles members and carries frames between them until nothing is left. What each gave, by its place.
fn exchange(members: &mut [&mut Pipeline]) -> Vec<Settled> {
    let mut all: Vec<_> = members.iter().map(|_| Settled::default()).collect();
    loop {
        let mut sent = Vec::new();
        for (pipeline, all) in members.iter_mut().zip(&mut all) {
            let settled = settle(pipeline);
            sent.extend(settled.sent);
            all.committed.extend(settled.committed);
            all.reads.extend(settled.reads);
            all.restored.extend(settled.restored);
        }
        if sent.is_empty() {
            return all;
        }
        for Outgoing { to, frame, checkpoint, .. } in sent {
            let Some(to) = members.iter_mut().find(|pipeline| pipeline.options.id == to) else { continue };
            match checkpoint {
                Some(_) => to.step_with_checkpoint(frame, 3).unwrap(),
                None => to.step_bytes(frame, 3).unwrap(),
            }
        }
    }
}

#[test]
fn nothing_is_committed_before_it_is_durable() {
    let mut pipeline = member(1, &[1]);
    pipeline.campaign_if_sole_voter().unwrap();
    let elected = readies(&mut pipeline);
    assert!(elected.iter().any(|r| r.must_log), "the vote must be logged");
    assert!(elected.iter().all(|r| r.committed.is_empty()));
    pipeline.persisted(elected.last().unwrap().number);
    let committed = settle(&mut pipeline).committed;
    assert_eq!(committed.last().unwrap().index, LogIndex(2));
    assert_eq!((pipeline.role(), pipeline.term()), (Role::Leader, Term(2)));

    pipeline.propose([Bytes::from_static(b"x")]).unwrap();
    let proposed = readies(&mut pipeline);
    assert_eq!(proposed.iter().map(|r| r.entries.len()).sum::<usize>(), 1);
    assert!(proposed.iter().all(|r| r.committed.is_empty()), "committed before durable");
    pipeline.persisted(proposed.last().unwrap().number);
    let committed: Vec<_> = readies(&mut pipeline).into_iter().flat_map(|r| r.committed).collect();
    assert_eq!(&committed[0].data[..], b"x");
}

#[test]
fn a_sole_voter_answers_read_index_at_once() {
    let mut pipeline = member(1, &[1]);
    pipeline.campaign_if_sole_voter().unwrap();
    settle(&mut pipeline);
    assert!(pipeline.readable().is_some());
    pipeline.read_index(42);
    assert_eq!(settle(&mut pipeline).reads, vec![(42, pipeline.committed())]);
}

#[test]
fn proposals_are_refused_without_leadership_and_beyond_the_bound() {
    let mut pipeline = member(1, &[1]);
    assert_eq!(pipeline.propose([Bytes::from_static(b"x")]), Err(ProposeError::NotLeader));
    pipeline.campaign_if_sole_voter().unwrap();
    settle(&mut pipeline);
    let big = Bytes::from(vec![0; 1 << 20]);
    pipeline.propose([big.clone()]).unwrap();
    assert_eq!(pipeline.propose([big]), Err(ProposeError::Full));
}

/// Three members of which the first leads.
fn led() -> [Pipeline; 3] {
    let mut members = [1, 2, 3].map(|id| member(id, &[1, 2, 3]));
    while members[0].role() != Role::Leader {
        members[0].tick(0);
        exchange(&mut members.each_mut());
    }
    members
}

#[test]
fn members_elect_and_agree_through_frames() {
    let mut members = led();
    members[0].propose([Bytes::from_static(b"x")]).unwrap();
    let all = exchange(&mut members.each_mut());
    assert_eq!(all[0].committed.last().unwrap().data, "x");
    // Followers hear of the commit with what comes next.
    members[0].tick(0);
    exchange(&mut members.each_mut());
    for follower in &members[1..] {
        assert_eq!(follower.committed(), members[0].committed());
        assert_eq!((follower.leader(), follower.role()), (MemberId(1), Role::Follower));
    }
}

#[test]
fn reads_are_confirmed_to_the_run_that_asked() {
    let mut members = led();
    members[0].read_index(7);
    members[1].read_index(7);
    let all = exchange(&mut members.each_mut());
    let index = members[0].committed();
    assert_eq!(all[0].reads, vec![(7, index)]);
    assert_eq!(all[1].reads, vec![(7, index)], "asked of the leader");

    // The answer to a run that has ended meanwhile.
    members[1].read_index(8);
    let asked = settle(&mut members[1]).sent.pop().unwrap();
    members[0].step_bytes(asked.frame, 3).unwrap();
    members[1].options.run += 1;
    let all = exchange(&mut members.each_mut());
    assert!(all[1].reads.is_empty());
}

#[test]
fn changes_of_the_group_come_one_at_a_time() {
    let mut members = led();
    let add = |id| ConfigChange { kind: ChangeKind::AddLearner, member: MemberId(id), context: "".into() };
    assert_eq!(members[1].propose_change(&add(4)), Err(ChangeError::Propose(ProposeError::NotLeader)));
    members[0].propose_change(&add(4)).unwrap();
    assert_eq!(members[0].propose_change(&add(5)), Err(ChangeError::Pending));
    exchange(&mut members.each_mut());
    members[0].propose_change(&add(5)).unwrap();
}

/// Frames from one member to another.
fn deliver(frames: impl IntoIterator<Item = Bytes>, to: &mut Pipeline) {
    frames.into_iter().for_each(|frame| to.step_bytes(frame, 3).unwrap());
}

#[test]
fn a_slow_member_is_sent_no_more_than_may_be_on_its_way_and_then_what_memory_has_no_more() {
    let [mut leader, mut slow, mut quick] = led();
    let (mut log, mut held) = (Vec::new(), Vec::new());
    for number in 0..150 {
        leader.propose([Bytes::from(vec![number; 100_000])]).unwrap();
        loop {
            let settled = settle(&mut leader);
            if settled.sent.is_empty() {
                break;
            }
            log.extend(settled.committed);
            for outgoing in settled.sent {
                match outgoing.to {
                    to if to == slow.options.id => held.push(outgoing.frame),
                    _ => quick.step_bytes(outgoing.frame, 3).unwrap(),
                }
            }
            deliver(settle(&mut quick).sent.into_iter().map(|outgoing| outgoing.frame), &mut leader);
        }
    }
    let bytes = held.iter().map(Bytes::len).sum::<usize>();
    assert!(bytes > limits::IN_FLIGHT_BYTES && bytes < limits::IN_FLIGHT_BYTES + 200_000, "{bytes}");

    let base = leader.node.store().base().index;
    let mut read_back = 0;
    deliver(held, &mut slow);
    while slow.committed() < leader.committed() {
        let answers: Vec<_> = settle(&mut slow).sent.into_iter().map(|outgoing| outgoing.frame).collect();
        if answers.is_empty() {
            leader.tick(0);
        }
        deliver(answers, &mut leader);
        if let Some((from, terms)) = leader.to_read_back() {
            assert!(from <= base && terms.of(from) == Some(leader.term()));
            assert!(leader.to_read_back().is_none(), "one piece at a time");
            let piece = log.iter().filter(|entry| entry.index >= from).take(20).cloned().collect();
            leader.read_back(from, piece, false);
            read_back += 1;
        }
        let sent = settle(&mut leader).sent.into_iter().filter(|outgoing| outgoing.to == slow.options.id);
        let sent: Vec<_> = sent.map(|outgoing| outgoing.frame).collect();
        assert!(sent.iter().map(Bytes::len).sum::<usize>() < 2 * limits::IN_FLIGHT_BYTES);
        deliver(sent, &mut slow);
    }
    assert!(read_back > 1);
    settle(&mut slow);
    assert_eq!(slow.node.store().get(slow.committed()), leader.node.store().get(leader.committed()));
    assert!(!leader.reads_back());
}

#[test]
fn who_needs_what_can_be_read_no_more_gets_a_checkpoint() {
    let [mut leader, mut away, mut quick] = led();
    for _ in 0..50 {
        leader.propose([Bytes::from_static(b"x")]).unwrap();
        exchange(&mut [&mut leader, &mut quick]);
    }
    let position = LogPosition { index: leader.committed(), term: leader.term() };
    leader.set_checkpoint(Baseline { position, config: leader.config() });
    let (from, _) = loop {
        leader.tick(0);
        exchange(&mut [&mut leader, &mut away]);
        if let Some(wanted) = leader.to_read_back() {
            break wanted;
        }
    };
    leader.read_back(from, Vec::new(), true);
    leader.tick(0);
    let all = exchange(&mut [&mut leader, &mut away, &mut quick]);
    assert_eq!(all[1].restored.len(), 1);
}

#[test]
fn the_log_is_kept_for_those_that_are_there_and_within_its_bounds() {
    let [mut leader, mut away, mut quick] = led();
    for _ in 0..50 {
        leader.propose([Bytes::from_static(b"x")]).unwrap();
        exchange(&mut [&mut leader, &mut quick]);
    }
    let position = LogPosition { index: leader.committed(), term: leader.term() };
    let newest = position.index.0;
    leader.set_checkpoint(Baseline { position, config: leader.config() });
    leader.tick(0);
    let all = |_| LogIndex(0);
    assert_eq!(leader.keep_from(0, all), LogIndex(5), "it was heard of");
    let few = |bytes| if bytes >= limits::LOG_NEEDED_BYTES { LogIndex(0) } else { LogIndex(20) };
    assert_eq!(leader.keep_from(u64::MAX, few), LogIndex(5), "the checkpoint is long");
    assert_eq!(leader.keep_from(0, few), LogIndex(20), "a short one is cheaper");
    for _ in 0..100 {
        leader.tick(0);
        exchange(&mut [&mut leader, &mut quick]);
    }
    assert_eq!(leader.keep_from(0, all).0, newest - 3, "it is away");
    assert_eq!(
        leader.keep_from(0, |_| LogIndex(newest + 100)).0,
        newest - 3,
        "memory has it, and gives it up later"
    );
    drop(settle(&mut away));
}

/// A leader, alone until a learner was added, that has let go of the log's beginning.
fn with_learner() -> Pipeline {
    let mut leader = member(1, &[1]);
    leader.campaign_if_sole_voter().unwrap();
    settle(&mut leader);
    for _ in 0..10 {
        leader.propose([Bytes::from_static(b"x")]).unwrap();
        settle(&mut leader);
    }
    let add = ConfigChange { kind: ChangeKind::AddLearner, member: MemberId(2), context: "".into() };
    leader.propose_change(&add).unwrap();
    settle(&mut leader);
    assert!(leader.node.store().first_index().unwrap() > 10);
    leader
}

fn config() -> Config {
    Config { voters: vec![MemberId(1)], learners: vec![MemberId(2)] }
}

#[test]
fn who_comes_too_late_for_the_log_starts_from_a_checkpoint() {
    let (mut leader, mut learner) = (with_learner(), joining(2));
    leader.tick(0);
    exchange(&mut [&mut leader, &mut learner]);
    assert_eq!(learner.committed(), LogIndex(0), "there is no checkpoint to start from");

    let position = LogPosition { index: leader.committed(), term: leader.term() };
    let baseline = Baseline { position, config: config() };
    leader.set_checkpoint(baseline.clone());
    leader.propose([Bytes::from_static(b"y")]).unwrap();
    let all = exchange(&mut [&mut leader, &mut learner]);
    assert_eq!(all[1].restored, vec![baseline]);
    leader.tick(0);
    exchange(&mut [&mut leader, &mut learner]);
    assert_eq!(learner.node.store().first_index().unwrap(), position.index.0 + 1);
    assert_eq!(learner.committed(), leader.committed());
    assert_eq!(learner.node.store().get(learner.committed()).data, "y");
    assert_eq!(learner.leader(), MemberId(1));
}

/// The frame that tells the learner of a checkpoint.
fn checkpoint_frame(leader: &mut Pipeline, learner: &mut Pipeline) -> Outgoing {
    loop {
        leader.tick(0);
        let mut sent = settle(leader).sent;
        if let Some(at) = sent.iter().position(|outgoing| outgoing.checkpoint.is_some()) {
            return sent.swap_remove(at);
        }
        sent.into_iter().for_each(|outgoing| learner.step_bytes(outgoing.frame, 3).unwrap());
        for outgoing in settle(learner).sent {
            leader.step_bytes(outgoing.frame, 3).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_that_did_not_come_is_offered_again() {
    let (mut leader, mut learner) = (with_learner(), joining(2));
    let position = LogPosition { index: leader.committed(), term: leader.term() };
    leader.set_checkpoint(Baseline { position, config: config() });
    let offered = checkpoint_frame(&mut leader, &mut learner);
    assert_eq!(offered.checkpoint, Some(position.index));
    let refused = learner.step_bytes(offered.frame.clone(), 3);
    assert!(matches!(refused, Err(StepError::Frame(FrameError::Checkpoint))), "its files are not there");

    leader.tick(0);
    let beats = exchange(&mut [&mut leader, &mut learner]);
    assert!(beats[1].restored.is_empty(), "one offer at a time");
    leader.report_checkpoint(MemberId(2), false);
    leader.tick(0);
    let all = exchange(&mut [&mut leader, &mut learner]);
    assert_eq!(all[1].restored.len(), 1);

    // The one that was late finds everything done.
    learner.step_with_checkpoint(offered.frame, 3).unwrap();
    assert!(settle(&mut learner).restored.is_empty());
}

#[test]
fn nobody_campaigns_while_a_checkpoint_is_put_in_place() {
    let mut follower = member(1, &[1, 2, 3]);
    let checkpoint = pb::Checkpoint { index: 50, term: 2, voters: vec![1, 2, 3], learners: vec![] };
    let frame = |body| Frame { from: MemberId(2), to: MemberId(1), term: Term(2), body }.encode();
    follower.step_with_checkpoint(frame(Body::Checkpoint(checkpoint)), 3).unwrap();
    let readies = readies(&mut follower);
    assert!(readies.iter().any(|ready| ready.restored.is_some() && ready.must_log));
    for _ in 0..100 {
        follower.tick(0);
    }
    let asked = follower.step_bytes(frame(Body::Campaign(pb::Campaign {})), 3);
    assert!(matches!(asked, Err(StepError::Frame(FrameError::Campaign))));
    assert_eq!(follower.role(), Role::Follower);

    follower.persisted(readies.last().unwrap().number);
    follower.applied(LogIndex(50));
    for _ in 0..100 {
        follower.tick(0);
    }
    assert_eq!(follower.role(), Role::Candidate);
}
