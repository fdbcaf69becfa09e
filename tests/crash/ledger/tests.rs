use super::*;

fn written(number: u64, revision: i64) -> Acknowledged {
    Acknowledged { number, revision }
}

fn found(number: u64, revision: i64) -> Option<Found> {
    Some(Found { number, revision })
}

/// Writer 0 was told of 1 and 2 and was cut off in 3; writer 1 was cut off in its first write.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    let diary = Diary { writer: 0, acknowledged: vec![written(1, 2), written(2, 4)], tried: 3 };
    ledger.note(diary).unwrap();
    ledger.note(Diary { writer: 1, acknowledged: Vec::new(), tried: 1 }).unwrap();
    ledger
}

#[test]
fn accepts_what_a_crash_may_leave() {
    assert_eq!(ledger().check_writer(0, found(2, 4)), Ok(()));
    assert_eq!(ledger().check_writer(0, found(3, 5)), Ok(()));
    assert_eq!(ledger().check_writer(1, None), Ok(()));
    assert_eq!(ledger().check_writer(1, found(1, 3)), Ok(()));
    for revision in 4..=5 {
        assert_eq!(ledger().check_revision(revision), Ok(()));
    }
}

#[test]
fn notices_a_lost_write() {
    ledger().check_writer(0, None).unwrap_err();
    ledger().check_writer(0, found(1, 2)).unwrap_err();
}

#[test]
fn notices_a_write_that_moved_or_was_never_sent() {
    ledger().check_writer(0, found(2, 5)).unwrap_err();
    ledger().check_writer(0, found(4, 6)).unwrap_err();
    ledger().check_writer(1, found(1, 4)).unwrap_err();
}

#[test]
fn notices_a_revision_that_went_back_or_ahead() {
    ledger().check_revision(3).unwrap_err();
    ledger().check_revision(6).unwrap_err();
}

#[test]
fn a_write_once_seen_must_stay() {
    let mut ledger = ledger();
    ledger.check_writer(0, found(3, 5)).unwrap();
    ledger.check_writer(0, found(2, 4)).unwrap_err();
}

#[test]
fn notices_answers_that_contradict_each_other() {
    let again = |acknowledged| Diary { writer: 0, acknowledged: vec![acknowledged], tried: 9 };
    ledger().note(again(written(4, 3))).unwrap_err();
    ledger().note(again(written(1, 9))).unwrap_err();
    let other = Diary { writer: 1, acknowledged: vec![written(1, 4)], tried: 1 };
    ledger().note(other).unwrap_err();
}

#[test]
fn samples_the_newest_and_nothing_compacted() {
    let mut ledger = ledger();
    assert_eq!(ledger.sample(10), [(4, 0, 2), (2, 0, 1)]);
    assert_eq!(ledger.sample(1), [(4, 0, 2)]);
    ledger.compaction_sent(3);
    assert_eq!(ledger.sample(10), [(4, 0, 2)]);
}
