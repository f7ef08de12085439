//! Compiles the peer protocol without a system `protoc`.

include!("../store/schema_lines.rs");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../store/schema_lines.rs");
    let descriptors = protox::compile(["proto/peer.proto"], ["proto"])?;
    let schema = std::path::Path::new(&std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("schema.txt");
    std::fs::write(schema, schema_lines!(descriptors))?;
    tonic_prost_build::configure()
        .bytes(".blox.raft.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
