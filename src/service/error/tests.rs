use super::*;
use state::Error as Apply;

/// What upstream 3.7.1 answers, per condition.
#[test]
fn codes_and_texts_are_etcds() {
    for (error, code, text) in [
        (Error::Apply(Apply::EmptyKey), 3, "etcdserver: key is not provided"),
        (Error::Apply(Apply::KeyNotFound), 3, "etcdserver: key not found"),
        (Error::Apply(Apply::ValueProvided), 3, "etcdserver: value is provided"),
        (Error::Apply(Apply::LeaseProvided), 3, "etcdserver: lease is provided"),
        (Error::Apply(Apply::LeaseNotFound), 5, "etcdserver: requested lease not found"),
        (Error::Apply(Apply::LeaseExists), 9, "etcdserver: lease already exists"),
        (Error::Apply(Apply::LeaseTtlTooLarge), 11, "etcdserver: too large lease TTL"),
        (Error::Apply(Apply::TooManyOps), 3, "etcdserver: too many operations in txn request"),
        (Error::Apply(Apply::DuplicateKey), 3, "etcdserver: duplicate key given in txn request"),
        (Error::Apply(Apply::InvalidSortOption), 3, "etcdserver: invalid sort option"),
        (Error::Apply(Apply::Compacted), 11, "etcdserver: mvcc: required revision has been compacted"),
        (Error::Apply(Apply::FutureRevision), 11, "etcdserver: mvcc: required revision is a future revision"),
        (Error::Apply(Apply::RequestTooLarge), 3, "etcdserver: request is too large"),
        (Error::InvalidClientApiVersion, 3, "etcdserver: invalid client api version"),
        (Error::Apply(Apply::RangeStreamSortOrder), 12, "RangeStream does not support custom sort orders"),
        (Error::Apply(Apply::RangeStreamFilters), 12, "RangeStream does not support revision filters"),
        (Error::TooManyRequests, 2, "etcdserver: too many requests"),
        (Error::NoLeader, 14, "etcdserver: no leader"),
        (Error::Timeout, 14, "etcdserver: request timed out"),
        (Error::Stopped, 14, "etcdserver: server stopped"),
        (Error::NotForLearners, 9, "etcdserver: rpc not supported for learner"),
        (Error::Apply(Apply::MemberNotFound), 5, "etcdserver: member not found"),
        (Error::Apply(Apply::MemberExists), 9, "etcdserver: member ID already exist"),
        (Error::Apply(Apply::PeerUrlExists), 9, "etcdserver: Peer URLs already exists"),
        (Error::Apply(Apply::MemberNotLearner), 9, "etcdserver: can only promote a learner member"),
        (Error::Apply(Apply::TooManyLearners), 9, "etcdserver: too many learner members in cluster"),
        (
            Error::Apply(Apply::NotEnoughStarted),
            2,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        (Error::BadMemberUrls, 3, "etcdserver: given member URLs are invalid"),
        (
            Error::LearnerNotReady,
            9,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        (Error::NotLeader, 9, "etcdserver: not leader"),
        (Error::BadTransferee, 9, "etcdserver: bad leader transferee"),
        (Error::DowngradeFormat, 3, "etcdserver: wrong downgrade target version format"),
        (Error::DowngradeTarget, 3, "etcdserver: invalid downgrade target version"),
        (Error::DowngradeUnderWay, 9, "etcdserver: cluster has a downgrade job in progress"),
        (Error::UnknownMethod, 2, "etcdserver: unknown method"),
        (Error::Canceled, 1, "context canceled"),
        (Error::DeadlineExceeded, 4, "context deadline exceeded"),
    ] {
        assert_eq!((error.grpc().0 as u8, error.grpc().1.as_ref()), (code, text), "{error:?}");
    }
}

#[test]
fn http_codes_are_the_gateways() {
    for (error, code) in [
        (Error::Apply(Apply::EmptyKey), 400),
        (Error::Apply(Apply::Compacted), 400),
        (Error::Apply(Apply::LeaseNotFound), 404),
        (Error::TooManyRequests, 500),
        (Error::NoLeader, 503),
        (Error::DeadlineExceeded, 504),
        (Error::Unimplemented("not here"), 501),
    ] {
        assert_eq!(error.http().0, code, "{error:?}");
    }
}

#[test]
fn a_shards_error_keeps_its_meaning() {
    assert_eq!(Error::from(shard::Error::Apply(Apply::Compacted)), Error::Apply(Apply::Compacted));
    assert_eq!(Error::from(shard::Error::TooManyRequests), Error::TooManyRequests);
    assert_eq!(Error::from(shard::Error::NoLeader), Error::NoLeader);
    assert_eq!(Error::from(shard::Error::Timeout), Error::Timeout);
    assert_eq!(Error::from(shard::Error::Stopped), Error::Stopped);
}

/// The metrics' names of codes and these numbers are one list.
#[test]
fn codes_match_their_names_in_the_metrics() {
    use crate::metrics::CODES;
    for code in
        [Code::Ok, Code::Canceled, Code::ResourceExhausted, Code::Unimplemented, Code::Unauthenticated]
    {
        assert!(CODES[code as usize].eq_ignore_ascii_case(&format!("{code:?}")), "{code:?}");
    }
}
