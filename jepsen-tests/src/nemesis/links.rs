//! Links between containers, cut or lossy in one direction each: rules at the receiver, in its own network namespace, so that clients go on reaching it.
//!
//! Each fault has a chain of its own, so that several may stand at once. A container that is started again has an empty namespace and perhaps another
//! address: [`Links::renew`] sets its rules again.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::command::CommandError;
use crate::compose::{Compose, ComposeError, Container};

/// Nobody listens there.
const PROBED: u16 = 9;
/// What the name of every chain of ours begins with.
const CHAIN: &str = "blox-jt-";

/// One direction between two containers, by their services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who sends.
    pub from: String,
    /// Who does not receive.
    pub to: String,
}

/// Rules cannot be set or read.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Containers cannot be looked at.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// `iptables` failed.
    #[error("the rules of {service}: {source}")]
    Rules {
        /// Whose.
        service: String,
        /// Why.
        source: CommandError,
    },
}

struct Broken {
    links: Vec<Link>,
    /// Of a packet to be dropped; `None`: every one.
    probability: Option<f64>,
    /// Dropped by rules that are gone.
    dropped: u64,
}

/// What is broken at the moment, by the number of its fault.
#[derive(Default)]
pub struct Links {
    broken: Mutex<BTreeMap<u32, Broken>>,
}

impl Links {
    /// From here on packets of these links are dropped, all or with this probability.
    pub async fn sever(
        &self,
        compose: &Compose,
        fault: u32,
        links: Vec<Link>,
        probability: Option<f64>,
    ) -> Result<(), LinkError> {
        let mut all = self.broken.lock().await;
        let broken = all.entry(fault).or_insert(Broken {
            links,
            probability,
            dropped: 0,
        });
        let containers = containers_of(compose, &broken.links).await?;
        let sets = receivers(&broken.links).into_iter();
        let sets = sets.map(|receiver| set(compose, fault, broken, &containers, receiver));
        futures::future::try_join_all(sets).await?;
        Ok(())
    }

    /// Sends a packet over each of a fault's links, so that there is one to be dropped where nobody talks at the moment.
    pub async fn probe(&self, compose: &Compose, fault: u32) -> Result<(), LinkError> {
        let all = self.broken.lock().await;
        let Some(broken) = all.get(&fault) else {
            return Ok(());
        };
        let containers = containers_of(compose, &broken.links).await?;
        let probes = broken.links.iter().map(|link| {
            let addresses = containers
                .get(&link.to)
                .map(|to| to.addresses.clone())
                .unwrap_or_default();
            let sent = addresses
                .iter()
                .map(|address| format!("bash -c 'echo > /dev/udp/{address}/{PROBED}' || true\n"));
            (link, sent.collect::<String>())
        });
        let sent = probes.map(|(link, script)| {
            let from = containers.get(&link.from);
            async move { run(compose, &link.from, from, &script).await }
        });
        futures::future::try_join_all(sent).await?;
        Ok(())
    }

    /// Everything passes again that this fault held up; how many packets it had dropped.
    pub async fn mend(&self, compose: &Compose, fault: u32) -> Result<u64, LinkError> {
        let mut all = self.broken.lock().await;
        let Some(broken) = all.get(&fault) else {
            return Ok(0);
        };
        let script = format!("{}\n{}", count_script(fault), mend_script(fault));
        let dropped = broken.dropped + count(compose, broken, &script).await?;
        all.remove(&fault);
        Ok(dropped)
    }

    /// Packets that a fault has dropped so far.
    pub async fn dropped(&self, compose: &Compose, fault: u32) -> Result<u64, LinkError> {
        let all = self.broken.lock().await;
        match all.get(&fault) {
            Some(broken) => Ok(broken.dropped + count(compose, broken, &count_script(fault)).await?),
            None => Ok(0),
        }
    }

    /// Sets the rules anew that name a container which was started again.
    pub async fn renew(&self, compose: &Compose, service: &str) -> Result<(), LinkError> {
        let mut all = self.broken.lock().await;
        for (fault, broken) in all.iter_mut() {
            let touched = |link: &&Link| link.from == service || link.to == service;
            let links: Vec<Link> = broken.links.iter().filter(touched).cloned().collect();
            if links.is_empty() {
                continue;
            }
            // Setting rules anew sets their counts to nothing.
            broken.dropped += count(compose, broken, &count_script(*fault)).await?;
            let containers = containers_of(compose, &broken.links).await?;
            let sets = receivers(&broken.links).into_iter();
            let sets = sets.map(|receiver| set(compose, *fault, broken, &containers, receiver));
            futures::future::try_join_all(sets).await?;
        }
        Ok(())
    }

    /// Mends whatever is still broken.
    pub async fn mend_all(&self, compose: &Compose) -> Result<(), LinkError> {
        let faults: Vec<u32> = self.broken.lock().await.keys().copied().collect();
        for fault in faults {
            self.mend(compose, fault).await?;
        }
        Ok(())
    }
}

fn receivers(links: &[Link]) -> Vec<String> {
    let mut services: Vec<String> = links.iter().map(|link| link.to.clone()).collect();
    services.sort();
    services.dedup();
    services
}

/// The containers at both ends, as they are now; one that is gone is left out.
pub(super) async fn containers_of(compose: &Compose, links: &[Link]) -> Result<BTreeMap<String, Container>, LinkError> {
    let mut services: Vec<&str> = links.iter().flat_map(|link| [link.from.as_str(), &link.to]).collect();
    services.sort_unstable();
    services.dedup();
    let looked = services.iter().map(|service| async move {
        match compose.container(service).await {
            Ok(container) => Ok(Some(((*service).to_owned(), container))),
            // It is being made anew, and gets its rules then.
            Err(ComposeError::NoContainer { found: 0, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let containers = futures::future::try_join_all(looked).await?;
    Ok(containers.into_iter().flatten().collect())
}

/// Sets all rules of a fault at one receiver, in place of those that stand there.
async fn set(
    compose: &Compose,
    fault: u32,
    broken: &Broken,
    containers: &BTreeMap<String, Container>,
    receiver: String,
) -> Result<(), LinkError> {
    let senders = broken.links.iter().filter(|link| link.to == receiver);
    // One that does not run has no address: it gets its rule when it is started.
    let addresses = senders
        .filter_map(|link| containers.get(&link.from))
        .flat_map(|one| one.addresses.clone());
    let script = break_script(fault, &addresses.collect::<Vec<_>>(), broken.probability);
    run(compose, &receiver, containers.get(&receiver), &script).await?;
    Ok(())
}

/// Runs a script at all receivers that says what its rules have dropped; the sum.
async fn count(compose: &Compose, broken: &Broken, script: &str) -> Result<u64, LinkError> {
    let containers = containers_of(compose, &broken.links).await?;
    let receivers = receivers(&broken.links);
    let said = receivers
        .iter()
        .map(|receiver| run(compose, receiver, containers.get(receiver), script));
    let said = futures::future::try_join_all(said).await?;
    Ok(said.iter().map(|said| sum_of_packets(said)).sum())
}

/// Where the container does not run there is nothing to do, and nothing is said.
async fn run(
    compose: &Compose,
    service: &str,
    container: Option<&Container>,
    script: &str,
) -> Result<String, LinkError> {
    let Some(container) = container.filter(|container| container.pid > 0) else {
        return Ok(String::new());
    };
    match compose.in_network(container, script).await {
        Ok(said) => Ok(said),
        // It has ended meanwhile: its namespace is gone with it.
        Err(_) if has_ended(compose, container).await => Ok(String::new()),
        Err(source) => Err(LinkError::Rules {
            service: service.to_owned(),
            source,
        }),
    }
}

pub(super) async fn has_ended(compose: &Compose, container: &Container) -> bool {
    let now = compose.inspect(&container.id).await;
    now.map_or(true, |now| now.pid != container.pid)
}

fn count_script(fault: u32) -> String {
    format!("iptables -w -nvxL {CHAIN}{fault} 2>/dev/null || true")
}

fn break_script(fault: u32, addresses: &[String], probability: Option<f64>) -> String {
    let chain = format!("{CHAIN}{fault}");
    let chance = probability.map_or(String::new(), |probability| {
        format!(" -m statistic --mode random --probability {probability:.4}")
    });
    let mut lines = vec![
        "set -e".to_owned(),
        format!("iptables -w -N {chain} 2>/dev/null || iptables -w -F {chain}"),
    ];
    let rule = |address: &String| format!("iptables -w -A {chain} -s {address}{chance} -j DROP");
    lines.extend(addresses.iter().map(rule));
    // Entered last: all its rules hold from one moment on.
    lines.push(format!(
        "iptables -w -C INPUT -j {chain} 2>/dev/null || iptables -w -I INPUT -j {chain}"
    ));
    lines.join("\n")
}

fn mend_script(fault: u32) -> String {
    let chain = format!("{CHAIN}{fault}");
    format!("iptables -w -D INPUT -j {chain} 2>/dev/null && iptables -w -F {chain} && iptables -w -X {chain} || true")
}

/// The first column of each rule that drops.
fn sum_of_packets(listed: &str) -> u64 {
    let rules = listed.lines().filter(|line| line.contains("DROP"));
    rules
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rules stand before the chain is entered; a lossy link names its probability.
    #[test]
    fn rules_stand_before_they_are_entered() {
        let addresses = ["10.0.0.2".to_owned(), "10.0.0.3".to_owned()];
        let script = break_script(7, &addresses, None);
        for address in &addresses {
            let rule = script.find(&format!("-s {address} -j DROP")).expect("a rule");
            assert!(
                rule < script.find("-I INPUT -j blox-jt-7").expect("entered"),
                "{script}"
            );
        }
        let lossy = break_script(7, &addresses[..1], Some(0.25));
        assert!(
            lossy.contains("-s 10.0.0.2 -m statistic --mode random --probability 0.2500 -j DROP"),
            "{lossy}"
        );
    }

    /// Every receiver once.
    #[test]
    fn receivers_are_told_once() {
        let link = |from: &str, to: &str| Link {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        assert_eq!(receivers(&[link("a", "c"), link("a", "b"), link("b", "c")]), ["b", "c"]);
    }

    /// Rules count, headings do not.
    #[test]
    fn packets_are_counted() {
        let listed = "Chain blox-jt-1 (1 references)\n pkts bytes target\n  41 3000 DROP all -- * * 172.18.0.3 0.0.0.0/0\n   1 60 DROP all\n";
        assert_eq!(sum_of_packets(listed), 42);
    }
}
