//! `blox health`: one question to a node, for container health checks.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

/// How long an answer may take, seconds.
const ANSWER_SECONDS_MAX: u64 = 5;
/// Longest answer shown, bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Whom to ask.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to ask: /readyz says whether it serves, /livez only that it runs.
    #[arg(long, default_value = "http://127.0.0.1:2000/readyz", env = "BLOX_HEALTH_URL")]
    url: String,
    /// How long the answer may take, seconds.
    #[arg(long, default_value_t = ANSWER_SECONDS_MAX)]
    timeout_seconds: u64,
}

/// Exit code 0 where the answer is 200.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let deadline = Duration::from_secs(arguments.timeout_seconds);
    let (status, body) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(ask(&arguments.url, deadline))?;
    print!("{body}");
    if !body.ends_with('\n') {
        println!();
    }
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("blox: {} answers {status}", arguments.url);
    Ok(ExitCode::FAILURE)
}

async fn ask(url: &str, deadline: Duration) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let client = reqwest::Client::builder().no_proxy().timeout(deadline).build()?;
    let mut answer = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("no answer from {url}"))?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .with_context(|| format!("the answer of {url} broke off"))?
    {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
