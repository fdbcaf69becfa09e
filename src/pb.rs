//! The wire messages generated from `proto/` by `build.rs`, and the one that is written by hand.

#![allow(clippy::all, missing_docs)]

pub mod loggable;
pub mod txn_request;

pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}
pub mod etcdserverpb {
    pub use super::txn_request::TxnRequest;

    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}
pub mod grpc_health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
/// How members make connections to each other.
pub mod link {
    include!(concat!(env!("OUT_DIR"), "/pinion.link.v1.rs"));
}
/// What members send each other.
pub mod peer {
    include!(concat!(env!("OUT_DIR"), "/pinion.peer.v1.rs"));
}
