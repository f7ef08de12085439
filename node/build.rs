//! How the binary is laid out.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if (target("ARCH"), target("OS")) == ("x86_64".to_owned(), "linux".to_owned()) {
        // Code begins where a page of 2 MiB does, so that it can be mapped in such pages. It changes addresses, and not the size of the file.
        println!("cargo::rustc-link-arg-bin=blox=-Wl,-z,max-page-size=0x200000");
    }
}
