//! Each test runs in a process of its own: the SDK's endpoint comes from the environment, which a process can only be given at its start.

use std::future::Future;
use std::process::Command;

use blox_simulator::{Simulator, SimulatorConfig};

/// Says to the child that it is one.
const CHILD: &str = "BLOX_ECS_TEST_CHILD";

/// Runs the body of the test named `name` in a child process whose environment points the SDK at a simulator of its own.
pub(crate) fn with_simulator<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Control) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    match std::env::var(CHILD) {
        Ok(url) => runtime.block_on(body(Control { url })),
        Err(_) => runtime.block_on(async {
            let listen = "127.0.0.1:0".parse().expect("an address");
            let simulator = Simulator::start(SimulatorConfig {
                listen,
                ..SimulatorConfig::default()
            })
            .await
            .expect("it starts");
            let url = simulator.url();
            let name = name.to_string();
            let child = tokio::task::spawn_blocking(move || run_child(&name, &url))
                .await
                .expect("the child was run");
            simulator.shutdown().await;
            assert!(child, "the child failed: see its output above");
        }),
    }
}

fn run_child(name: &str, url: &str) -> bool {
    let output = Command::new(std::env::current_exe().expect("this test's program"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, url)
        .env("AWS_ENDPOINT_URL", url)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .expect("the child starts");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

/// The simulator's control routes.
pub(crate) struct Control {
    url: String,
}

impl Control {
    /// POST (or another method) of a JSON body; the JSON answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let method = method.parse().expect("a method");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client
            .request(method, format!("{}/control{path}", self.url))
            .body(body.to_string());
        let answer = request.send().await.expect("the simulator answers");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
    }

    /// POST of a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &str) -> serde_json::Value {
        self.ask("POST", path, body).await
    }
}
