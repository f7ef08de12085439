//! Cutting a node off from its peers only: rules in the container's own network namespace, so that clients and ECS go on reaching it.
//!
//! Root enters the namespace with `nsenter`. Anybody else who may use Docker has a side container do it, with this machine's `iptables`.

use super::{Compose, ComposeError, Container};
use crate::command::{self, CommandError};

/// A chain of ours: healing empties it and touches nothing else.
const CHAIN: &str = "blox-cut";

impl Compose {
    /// From here on no packet passes between this container and those addresses, in either direction. Connections stay open and hear nothing.
    pub async fn cut(&self, container: &Container, addresses: &[String]) -> Result<(), ComposeError> {
        self.in_network(container, &cut_script(addresses)).await?;
        Ok(())
    }

    /// Everything passes again.
    pub async fn heal(&self, container: &Container) -> Result<(), ComposeError> {
        self.in_network(container, &format!("iptables -w -F {CHAIN}")).await?;
        Ok(())
    }

    /// Packets dropped since the cut: the proof that it cuts something.
    pub async fn dropped_packets(&self, container: &Container) -> Result<u64, ComposeError> {
        let listed = self
            .in_network(container, &format!("iptables -w -nvxL {CHAIN}"))
            .await?;
        Ok(sum_of_packets(&listed))
    }

    /// Runs a script in the network of a container, as root there.
    pub async fn in_network(&self, container: &Container, script: &str) -> Result<String, CommandError> {
        if is_root().await {
            let pid = container.pid.to_string();
            return command::run("nsenter", &["-t", &pid, "-n", "sh", "-c", script], &[]).await;
        }
        let network = format!("container:{}", container.id);
        let label = self.helper_label();
        let arguments = [
            "run",
            "--rm",
            "--label",
            &label,
            "--network",
            &network,
            "--cap-add",
            "NET_ADMIN",
            "--user",
            "0",
            "-v",
            "/:/host",
            "--entrypoint",
            "chroot",
            &self.options.image,
            "/host",
            "sh",
            "-c",
            script,
        ];
        command::run("docker", &arguments, &[]).await
    }
}

async fn is_root() -> bool {
    command::run("id", &["-u"], &[]).await.is_ok_and(|id| id == "0")
}

fn cut_script(addresses: &[String]) -> String {
    let mut lines = vec![
        "set -e".to_owned(),
        format!("iptables -w -N {CHAIN} 2>/dev/null || iptables -w -F {CHAIN}"),
    ];
    for address in addresses {
        lines.push(format!("iptables -w -A {CHAIN} -s {address} -j DROP"));
        lines.push(format!("iptables -w -A {CHAIN} -d {address} -j DROP"));
    }
    // Entered last: all directions are cut at one moment.
    for hook in ["OUTPUT", "INPUT"] {
        lines.push(format!(
            "iptables -w -C {hook} -j {CHAIN} 2>/dev/null || iptables -w -I {hook} -j {CHAIN}"
        ));
    }
    lines.join("\n")
}

/// The first column of each rule.
fn sum_of_packets(listed: &str) -> u64 {
    let rules = listed.lines().filter(|line| line.contains("DROP"));
    rules
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both directions of every peer are cut, and nothing before all rules stand.
    #[test]
    fn both_directions_of_every_peer_are_cut() {
        let script = cut_script(&["10.0.0.2".to_owned(), "10.0.0.3".to_owned()]);
        for rule in ["-s 10.0.0.2 ", "-d 10.0.0.2 ", "-s 10.0.0.3 ", "-d 10.0.0.3 "] {
            let at = script.find(rule).expect(rule);
            assert!(at < script.find("-I INPUT").expect("it is entered"), "{script}");
        }
    }

    /// The packets of every rule count, and headings do not.
    #[test]
    fn dropped_packets_are_counted() {
        let listed = "Chain blox-cut (2 references)\n    pkts      bytes target     prot opt in     out     source               destination\n      \
            41     3000 DROP       all  --  *      *       172.18.0.3           0.0.0.0/0\n       1       60 DROP       all  --  *      *       0.0.0.0/0            172.18.0.3\n";
        assert_eq!(sum_of_packets(listed), 42);
        assert_eq!(sum_of_packets("Chain blox-cut (0 references)\n"), 0);
    }
}
