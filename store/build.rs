//! Compiles the schemas without a system `protoc`.

include!("schema_lines.rs");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=schema_lines.rs");
    let descriptors = protox::compile(["proto/state.proto"], ["proto"])?;
    let schema = std::path::Path::new(&std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("schema.txt");
    std::fs::write(schema, schema_lines!(descriptors))?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
