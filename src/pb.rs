//! The wire messages and service traits generated from `proto/` by `build.rs`.

#![allow(clippy::all, missing_docs)]

pub mod codec;

pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
