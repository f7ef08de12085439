//! Links between containers, cut or lossy in one direction each: rules at the receiver, in its own network namespace, so that clients go on reaching it.
//!
//! Each fault has a chain of its own, so that several may stand at once. A container that is started again has an empty namespace and perhaps another
//! address: [`Links::renew`] sets its rules again where we have started it, [`Links::refresh`] where Docker has.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// The first process of each container at either end when rules were set last; 0: it did not run.
    processes: BTreeMap<String, u64>,
    /// The rules that stand, by receiver.
    stands: BTreeMap<String, Stand>,
}

/// Rules of one fault at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stand {
    /// In the network of this process.
    pid: u64,
    /// Whose packets are dropped.
    addresses: Vec<String>,
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
            processes: BTreeMap::new(),
            stands: BTreeMap::new(),
        });
        set(compose, fault, broken).await
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
            if broken
                .links
                .iter()
                .any(|link| link.from == service || link.to == service)
            {
                set(compose, *fault, broken).await?;
            }
        }
        Ok(())
    }

    /// Sets a fault's rules anew wherever a container has another process than when they were set: Docker starts by itself what ends by itself.
    pub async fn refresh(&self, compose: &Compose, fault: u32) -> Result<(), LinkError> {
        match self.broken.lock().await.get_mut(&fault) {
            Some(broken) if !broken.processes.values().all(|pid| lives(*pid)) => set(compose, fault, broken).await,
            _ => Ok(()),
        }
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

/// Sets all rules of a fault where they do not stand already as they must.
async fn set(compose: &Compose, fault: u32, broken: &mut Broken) -> Result<(), LinkError> {
    let containers = containers_of(compose, &broken.links).await?;
    broken.processes = processes(&broken.links, &containers);
    let changed = changed(&broken.links, &containers, &broken.stands);
    let probability = broken.probability;
    let sets = changed.iter().map(|(receiver, wanted)| {
        // Setting rules anew sets their counts to nothing.
        let rules = break_script(fault, &wanted.addresses, probability);
        let script = format!("{}\n{rules}", count_script(fault));
        let container = containers.get(receiver);
        async move { run(compose, receiver, container, &script).await }
    });
    let said = futures::future::try_join_all(sets).await?;
    broken.dropped += said.iter().map(|said| sum_of_packets(said)).sum::<u64>();
    broken.stands.extend(changed);
    Ok(())
}

/// The processes at both ends; 0: it does not run.
fn processes(links: &[Link], containers: &BTreeMap<String, Container>) -> BTreeMap<String, u64> {
    let ends = links.iter().flat_map(|link| [&link.from, &link.to]);
    ends.map(|service| {
        (
            service.clone(),
            containers.get(service).map_or(0, |container| container.pid),
        )
    })
    .collect()
}

/// Receivers that run without the rules that they must have, and those rules.
fn changed(
    links: &[Link],
    containers: &BTreeMap<String, Container>,
    stands: &BTreeMap<String, Stand>,
) -> BTreeMap<String, Stand> {
    let wanted = receivers(links).into_iter().filter_map(|receiver| {
        let pid = containers.get(&receiver)?.pid;
        let senders = links.iter().filter(|link| link.to == receiver);
        // One that does not run has no address: it gets its rule when it is started.
        let addresses = senders
            .filter_map(|link| containers.get(&link.from))
            .flat_map(|one| one.addresses.clone());
        let stand = Stand {
            pid,
            addresses: addresses.collect(),
        };
        (pid > 0).then_some((receiver, stand))
    });
    wanted
        .filter(|(receiver, wanted)| stands.get(receiver) != Some(wanted))
        .collect()
}

/// A process is gone, or has ended and waits to be looked after.
fn is_dead(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_none_or(|state| state.starts_with(['Z', 'X']))
    })
}

/// A process is there.
fn lives(pid: u64) -> bool {
    pid > 0 && PathBuf::from(format!("/proc/{pid}")).exists()
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

/// Its first process has ended; Docker may not have noticed yet.
pub(super) async fn has_ended(compose: &Compose, container: &Container) -> bool {
    if is_dead(container.pid) {
        return true;
    }
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

    /// Rules are set where a process or an address is another one, and only there; who does not run gets none, and is none's sender.
    #[test]
    fn rules_are_set_where_they_must_be() {
        let link = |from: &str, to: &str| Link {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let container = |pid: u64, address: &str| Container {
            id: String::new(),
            status: String::new(),
            exit_code: 0,
            pid,
            addresses: Vec::from_iter((pid > 0).then(|| address.to_owned())),
        };
        let links = [link("a", "b"), link("b", "a"), link("c", "b")];
        let mut containers = BTreeMap::from([
            ("a".to_owned(), container(10, "10.0.0.1")),
            ("b".to_owned(), container(20, "10.0.0.2")),
        ]);
        let first = changed(&links, &containers, &BTreeMap::new());
        assert_eq!(first["b"].addresses, ["10.0.0.1"], "c is being made anew");
        assert_eq!(processes(&links, &containers)["c"], 0);
        assert!(changed(&links, &containers, &first).is_empty());
        containers.insert("c".to_owned(), container(30, "10.0.0.3"));
        let second = changed(&links, &containers, &first);
        assert_eq!(second.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(second["b"].addresses, ["10.0.0.1", "10.0.0.3"]);
        containers.insert("a".to_owned(), container(11, "10.0.0.1"));
        let third = changed(&links, &containers, &first);
        assert_eq!((third.len(), third["a"].pid), (2, 11));
        containers.insert("a".to_owned(), container(0, ""));
        assert_eq!(changed(&links, &containers, &first)["b"].addresses, ["10.0.0.3"]);
    }

    /// This process runs, and none has the number 0.
    #[test]
    fn processes_are_looked_for() {
        let own = std::process::id().into();
        assert!(lives(own) && !lives(0) && !is_dead(own) && is_dead(u64::MAX));
    }

    /// Rules count, headings do not.
    #[test]
    fn packets_are_counted() {
        let listed = "Chain blox-jt-1 (1 references)\n pkts bytes target\n  41 3000 DROP all -- * * 172.18.0.3 0.0.0.0/0\n   1 60 DROP all\n";
        assert_eq!(sum_of_packets(listed), 42);
    }
}
