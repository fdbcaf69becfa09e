//! Compiles `proto/` without a system protoc.

const FILES: [&str; 6] = [
    "etcdserverpb/rpc.proto",
    "v3lockpb/v3lock.proto",
    "v3electionpb/v3election.proto",
    "grpc/health/v1/health.proto",
    "pinion/peer.proto",
    "pinion/link.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        // Written by hand; see there.
        .extern_path(".etcdserverpb.TxnRequest", "crate::pb::txn_request::TxnRequest")
        .compile_fds(descriptors)?;
    Ok(())
}
