//! Crash points, in builds for tests only: places named by `fail::fail_point!` where a test can have the process panic, wait or fail.
//!
//! Set at the start by the environment variable `FAILPOINTS` (`name=action;name=action`, the syntax of the crate `fail`), and while the
//! node runs over HTTP, where [`LISTEN_VARIABLE`] says (docs/decisions/0011): `PUT /NAME` with the action as body, `DELETE /NAME`, `GET /`
//! for what is set.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, put};

use blox_store::FeatureLevel;

#[cfg(not(debug_assertions))]
compile_error!("the feature `failpoints` is for tests: no release has it");

/// Address of the control, on loopback; absent: there is none.
pub const LISTEN_VARIABLE: &str = "BLOX_FAILPOINTS_LISTEN";

/// The newest feature level that the node says it knows, where it pretends to be of another version.
pub const KNOWN_LEVEL_VARIABLE: &str = "BLOX_FAILPOINTS_FEATURE_LEVEL";

/// What a node that pretends nothing says too.
pub fn known_feature_level() -> FeatureLevel {
    let pretended = std::env::var(KNOWN_LEVEL_VARIABLE).ok();
    let level = pretended.and_then(|text| text.parse().ok());
    level.map_or(FeatureLevel::NEWEST, FeatureLevel::new)
}

/// Takes points and their actions from the environment, and begins to take them over HTTP.
pub fn set_up() -> anyhow::Result<()> {
    // For as long as the process runs.
    std::mem::forget(fail::FailScenario::setup());
    match std::env::var(LISTEN_VARIABLE) {
        Ok(address) => listen(&address).with_context(|| format!("{LISTEN_VARIABLE}={address}")),
        Err(_) => Ok(()),
    }
}

/// Serves on a thread of its own: a point may hold up any other.
fn listen(address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse().context("write ADDRESS:PORT")?;
    if !address.ip().is_loopback() {
        bail!("crash points can be set from this machine only: write a loopback address");
    }
    let listener = TcpListener::bind(address).context("cannot listen")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("blox-failpoints".to_owned())
        .spawn(move || {
            let served = runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, routes()).await
            });
            if let Err(error) = served {
                eprintln!("blox: the control of crash points has ended: {error}");
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

fn routes() -> Router {
    Router::new()
        .route("/", get(list))
        .route("/{name}", put(set).delete(remove))
}

/// `name=action`, one a line.
async fn list() -> String {
    let points = fail::list();
    points
        .into_iter()
        .map(|(name, action)| format!("{name}={action}\n"))
        .collect()
}

async fn set(Path(name): Path<String>, action: String) -> (StatusCode, String) {
    match fail::cfg(name.as_str(), &action) {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{name}={action}: {error}\n")),
    }
}

async fn remove(Path(name): Path<String>) {
    fail::remove(name);
}
