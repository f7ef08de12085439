//! Two network namespaces with a wire between them, which go with this value.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};

/// Addresses of the two sides.
pub const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 213, 7, 1), Ipv4Addr::new(10, 213, 7, 2)];
/// The wire's end on either side.
const WIRE: &str = "wire";

/// See the module.
pub struct Network {
    names: [String; 2],
}

impl Network {
    /// Makes them under names of this process and this story.
    pub fn make(story: &str) -> Result<Network, String> {
        let short: String = story.chars().take(12).collect();
        let names = ["a", "b"].map(|side| format!("blox-relay-{short}-{}-{side}", std::process::id()));
        let network = Network { names };
        let [a, b] = &network.names;
        let mut script = format!(
            "set -e\nip netns add {a}\nip netns add {b}\nip -n {a} link add {WIRE} type veth peer name {WIRE} netns {b}\n"
        );
        for (name, address) in network.names.iter().zip(ADDRESSES) {
            script += &format!(
                "ip -n {name} addr add {address}/24 dev {WIRE}\nip -n {name} link set {WIRE} up\nip -n {name} link set lo up\n"
            );
        }
        run(&script)?;
        Ok(network)
    }

    /// The file of a side's namespace.
    pub fn path(&self, side: usize) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.names[side])
    }

    /// Runs a script on a side; what it says.
    pub fn script(&self, side: usize, script: &str) -> Result<String, String> {
        run(&format!("nsenter --net={} sh -c '{script}'", self.path(side).display()))
    }

    /// A thread on a side.
    pub fn on<T, F>(&self, side: usize, does: F) -> JoinHandle<Result<T, String>>
    where
        T: Send + 'static,
        F: FnOnce() -> std::io::Result<T> + Send + 'static,
    {
        let path = self.path(side);
        std::thread::spawn(move || {
            let entered = File::open(&path).map(|file| setns(file, CloneFlags::CLONE_NEWNET));
            match entered {
                Ok(Ok(())) => does().map_err(|error| error.to_string()),
                other => Err(format!("cannot enter {}: {other:?}", path.display())),
            }
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = run(&format!("ip netns del {name} 2>/dev/null"));
        }
    }
}

/// Runs a script; what it says.
pub fn run(script: &str) -> Result<String, String> {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin\n{script}")])
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
