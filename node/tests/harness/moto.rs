//! moto, somebody else's stand-in for AWS, from PyPI, in a virtual environment made once a machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Port, Process, eventually};

/// The version whose behaviour the test knows.
const VERSION: &str = "5.2.5";
/// An image that moto's EC2 knows.
const IMAGE: &str = "ami-12c6146b";
/// Python takes its time to start on a busy machine.
const START: Duration = Duration::from_secs(90);
/// Fetching and unpacking moto, once.
const INSTALL_HINT: &str = "apt-get install -y python3 python3-venv";

/// A running moto server.
pub struct Moto {
    port: Port,
    process: Process,
    client: reqwest::Client,
}

impl Moto {
    /// Installs it where needed, starts it on loopback, and pins tasks so that they do not stop by being described.
    pub async fn start(directory: &Path) -> Moto {
        let program = tokio::task::spawn_blocking(installed)
            .await
            .expect("installing does not panic");
        let port = Port::take();
        let arguments = ["-H", "127.0.0.1", "-p", &port.number.to_string()].map(str::to_owned);
        let process = Process::start(
            "moto",
            &program,
            &arguments,
            &[("HOME".into(), directory.display().to_string())],
            directory,
        );
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(START)
            .build()
            .expect("a client without TLS can be built");
        let moto = Moto { port, process, client };
        let pin = json!({"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1_000_000_000}});
        eventually("moto answers", START, || async {
            let url = format!("{}/moto-api/state-manager/set-transition", moto.url());
            let answer = moto
                .client
                .post(url)
                .json(&pin)
                .send()
                .await
                .map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(answer.status().to_string())
            }
        })
        .await;
        moto
    }

    /// What `AWS_ENDPOINT_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// A call of a service that speaks JSON.
    pub async fn call(&self, service: &str, target: &str, body: Value) -> Value {
        let answer = self.send(service, Some(target), body.to_string()).await;
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{target}: {error}: {answer}\n{}", self.process.last_words()))
    }

    /// A call of ECS.
    pub async fn ecs(&self, operation: &str, body: Value) -> Value {
        self.call("ecs", &format!("AmazonEC2ContainerServiceV20141113.{operation}"), body)
            .await
    }

    /// A container instance on a new EC2 instance; its ARN.
    pub async fn instance(&self, cluster: &str) -> String {
        let form = format!("Action=RunInstances&Version=2016-11-15&ImageId={IMAGE}&MinCount=1&MaxCount=1");
        let answer = self.send("ec2", None, form).await;
        let id = answer
            .split_once("<instanceId>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(id, _)| id);
        let id = id.unwrap_or_else(|| panic!("no instance id: {answer}"));
        let document = json!({"accountId": "123456789012", "instanceId": id, "region": "us-east-1"}).to_string();
        let registered = self
            .ecs(
                "RegisterContainerInstance",
                json!({"cluster": cluster, "instanceIdentityDocument": document, "instanceIdentityDocumentSignature": "x"}),
            )
            .await;
        registered["containerInstance"]["containerInstanceArn"]
            .as_str()
            .expect("an instance has an ARN")
            .to_owned()
    }

    /// moto reads region and service from the credential scope and checks no signature.
    async fn send(&self, service: &str, target: Option<&str>, body: String) -> String {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=none"
        );
        let mut request = self.client.post(self.url()).header("authorization", scope).body(body);
        request = match target {
            Some(target) => request
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", target),
            None => request.header("content-type", "application/x-www-form-urlencoded"),
        };
        let what = target.unwrap_or(service);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let status = answer.status();
        let text = answer.text().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert!(status.is_success(), "{what}: {status}: {text}");
        text
    }
}

/// A Python that has boto3, which moto is built on.
pub fn python() -> PathBuf {
    installed().with_file_name("python")
}

/// The server's program, installed once a machine under the user's cache.
fn installed() -> PathBuf {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .expect("HOME says where the cache is");
    let cache = home.join(".cache/blox");
    let environment = cache.join(format!("moto-{VERSION}"));
    let complete = environment.join("complete");
    if !complete.exists() {
        std::fs::create_dir_all(&cache).expect("the cache can be written");
        // A half-made one of an earlier run is made anew.
        let _ = std::fs::remove_dir_all(&environment);
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        run(Command::new(environment.join("bin/pip")).args([
            "install",
            "--quiet",
            &format!("moto[server]=={VERSION}"),
        ]));
        std::fs::write(&complete, "").expect("the cache can be written");
    }
    environment.join("bin/moto_server")
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; try: {INSTALL_HINT}"));
    assert!(
        output.status.success(),
        "{command:?}: {}; try: {INSTALL_HINT}",
        String::from_utf8_lossy(&output.stderr)
    );
}
