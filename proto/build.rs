//! Compiles the .proto files with a compiler in Rust: no protoc on the machine is needed.

use std::path::Path;

use prost::Message;

const FILES: &[&str] = &[
    "parlance/common/v1/error.proto",
    "parlance/common/v1/limits.proto",
    "parlance/common/v1/token.proto",
    "parlance/client/v1/frame.proto",
    "parlance/link/v1/link.proto",
    "parlance/raft/v1/peer.proto",
    "parlance/store/v1/raft.proto",
    "parlance/store/v1/shard.proto",
    "parlance/store/v1/meta.proto",
    "parlance/admin/v1/admin.proto",
];

/// What must not be printed by accident: `src/secret.rs` shows the rest of them.
const SECRET: &[&str] = &[
    ".parlance.admin.v1.AddAppSecretRequest",
    ".parlance.admin.v1.AppSecret",
    ".parlance.client.v1.LoginRequest",
    ".parlance.client.v1.RenewRequest",
    ".parlance.link.v1.AppSecret",
    ".parlance.store.v1.AppSecret",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=parlance");
    let files = protox::compile(FILES, ["."])?;
    let descriptors = files.encode_to_vec();
    tonic_prost_build::configure()
        .bytes(".")
        .skip_debug(SECRET)
        .compile_fds(files)?;
    // Only what a browser's developer tools should be able to read has a JSON form.
    let out = std::env::var("OUT_DIR")?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors)?
        .out_dir(Path::new(&out))
        .ignore_unknown_fields()
        .build(&[".parlance.client.v1", ".parlance.common.v1"])?;
    Ok(())
}
