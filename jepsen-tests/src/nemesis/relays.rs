//! Relays in the network namespaces of containers, by the number of their fault: what a container sends to some others is late, or out of order.
//!
//! A relay goes with the namespace of its container. One that is started again has another namespace, and perhaps another address: [`Relays::renew`] puts
//! relays there and has those of its peers know it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use tokio::sync::Mutex;

use super::links::{Link, LinkError, containers_of, has_ended};
use crate::compose::{Compose, Container};
use crate::relay::{Counters, Order, Process, ProcessError, Shape};

/// What is done to which packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Those of these links.
    pub links: Vec<Link>,
    /// This.
    pub shape: Shape,
    /// The relays' place among several: faults at one time have different ones.
    pub slot: u8,
    /// Of the relays' choices.
    pub seed: u64,
}

/// What the relay of a container has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose packets it held.
    pub from: String,
    /// Of them.
    pub counters: Counters,
}

/// Relays cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum RelaysError {
    /// Containers cannot be looked at.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// One of them does not do its work.
    #[error("what {service} sends: {source}")]
    Process {
        /// Whose.
        service: String,
        /// Why.
        source: ProcessError,
    },
}

/// A relay and where it is.
struct Relay {
    process: Process,
    /// The first process of its container.
    pid: u64,
    peers: Vec<Ipv4Addr>,
}

struct Lagging {
    lag: Lag,
    /// By their containers' services.
    relays: BTreeMap<String, Relay>,
    /// Of relays that are gone.
    over: Vec<Told>,
}

/// What is late at the moment.
#[derive(Default)]
pub struct Relays {
    lagging: Mutex<BTreeMap<u32, Lagging>>,
}

impl Relays {
    /// From here on packets of these links pass relays. A container that does not run gets its relay when it is started.
    pub async fn begin(&self, compose: &Compose, fault: u32, lag: Lag) -> Result<(), RelaysError> {
        let mut all = self.lagging.lock().await;
        let lagging = all.entry(fault).or_insert(Lagging {
            lag,
            relays: BTreeMap::new(),
            over: Vec::new(),
        });
        lagging.arrange(compose, None).await
    }

    /// Has each relay of a fault send some datagrams of its own, so that there is something to hold where nobody talks at the moment.
    pub async fn probe(&self, fault: u32, count: u32) -> Result<(), RelaysError> {
        let mut all = self.lagging.lock().await;
        let Some(lagging) = all.get_mut(&fault) else {
            return Ok(());
        };
        for (service, relay) in &mut lagging.relays {
            relay.process.probe(count).await.map_err(of(service))?;
        }
        Ok(())
    }

    /// What the relays of a fault have done so far.
    pub async fn told(&self, fault: u32) -> Result<Vec<Told>, RelaysError> {
        let mut all = self.lagging.lock().await;
        let Some(lagging) = all.get_mut(&fault) else {
            return Ok(Vec::new());
        };
        let mut told = lagging.over.clone();
        for (service, relay) in &mut lagging.relays {
            let counters = relay.process.tell().await.map_err(of(service))?;
            told.push(Told {
                from: service.clone(),
                counters,
            });
        }
        Ok(told)
    }

    /// Containers whose packets pass no relay any more, as they have ended or were started again by somebody else.
    pub async fn gone(&self, compose: &Compose, fault: u32) -> Result<Vec<String>, RelaysError> {
        let all = self.lagging.lock().await;
        let Some(lagging) = all.get(&fault) else {
            return Ok(Vec::new());
        };
        let containers = containers_of(compose, &lagging.lag.links).await?;
        let passes = |service: &String| {
            let container = containers.get(service);
            let relay = lagging.relays.get(service);
            relay.is_some_and(|relay| container.is_some_and(|container| container.pid == relay.pid))
        };
        let senders = senders(&lagging.lag.links).into_iter();
        Ok(senders.filter(|service| !passes(service)).collect())
    }

    /// Takes the relays of a fault away; what they have done.
    pub async fn end(&self, fault: u32) -> Result<Vec<Told>, RelaysError> {
        let mut all = self.lagging.lock().await;
        let Some(mut lagging) = all.remove(&fault) else {
            return Ok(Vec::new());
        };
        while let Some((service, relay)) = lagging.relays.pop_first() {
            lagging.over.push(ended(service, relay).await?);
        }
        Ok(lagging.over)
    }

    /// Puts relays where a container was started again, and where its address is another one.
    pub async fn renew(&self, compose: &Compose, service: &str) -> Result<(), RelaysError> {
        let mut all = self.lagging.lock().await;
        for lagging in all.values_mut() {
            lagging.arrange(compose, Some(service)).await?;
        }
        Ok(())
    }

    /// Takes away whatever is there still.
    pub async fn end_all(&self) -> Result<(), RelaysError> {
        let faults: Vec<u32> = self.lagging.lock().await.keys().copied().collect();
        for fault in faults {
            self.end(fault).await?;
        }
        Ok(())
    }
}

impl Lagging {
    /// Has a relay stand in the namespace of every sender that runs, with the addresses that its peers have now; only those that have to do with one
    /// service, where that is given.
    async fn arrange(&mut self, compose: &Compose, touching: Option<&str>) -> Result<(), RelaysError> {
        let touched = |link: &&Link| touching.is_none_or(|service| link.from == service || link.to == service);
        let links: Vec<Link> = self.lag.links.iter().filter(touched).cloned().collect();
        if links.is_empty() {
            return Ok(());
        }
        let containers = containers_of(compose, &self.lag.links).await?;
        let mut missing = Vec::new();
        for service in senders(&links) {
            let peers = addresses(&self.lag.links, &service, &containers);
            let container = containers.get(&service).filter(|container| container.pid > 0);
            let pid = container.map(|container| container.pid);
            let stands = self.relays.get(&service);
            if stands.is_some_and(|relay| Some(relay.pid) == pid && relay.peers == peers) {
                continue;
            }
            if let Some(relay) = self.relays.remove(&service) {
                self.over.push(ended(service.clone(), relay).await?);
            }
            if let Some(container) = container.filter(|_| !peers.is_empty()) {
                missing.push((service, container, peers));
            }
        }
        let begun = missing
            .into_iter()
            .map(|(service, container, peers)| begun(compose, &self.lag, service, container, peers));
        for (service, relay) in futures::future::try_join_all(begun).await?.into_iter().flatten() {
            self.relays.insert(service, relay);
        }
        Ok(())
    }
}

fn of(service: &str) -> impl FnOnce(ProcessError) -> RelaysError {
    let service = service.to_owned();
    move |source| RelaysError::Process { service, source }
}

/// `None`: its container has ended meanwhile.
async fn begun(
    compose: &Compose,
    lag: &Lag,
    service: String,
    container: &Container,
    peers: Vec<Ipv4Addr>,
) -> Result<Option<(String, Relay)>, RelaysError> {
    let order = Order {
        peers: peers.clone(),
        slot: lag.slot,
        seed: lag.seed,
        shape: lag.shape,
    };
    // This very program, also where another one has taken its file's place.
    let program = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let network = PathBuf::from(format!("/proc/{}/ns/net", container.pid));
    match Process::begin(&program, &network, &order).await {
        Ok(process) => {
            let pid = container.pid;
            Ok(Some((service, Relay { process, pid, peers })))
        }
        Err(_) if has_ended(compose, container).await => Ok(None),
        Err(source) => Err(of(&service)(source)),
    }
}

async fn ended(service: String, relay: Relay) -> Result<Told, RelaysError> {
    let counters = relay.process.end().await.map_err(of(&service))?;
    Ok(Told {
        from: service,
        counters,
    })
}

fn senders(links: &[Link]) -> Vec<String> {
    let mut services: Vec<String> = links.iter().map(|link| link.from.clone()).collect();
    services.sort();
    services.dedup();
    services
}

/// Of those to whom a service sends; one that does not run has none.
fn addresses(links: &[Link], from: &str, containers: &BTreeMap<String, Container>) -> Vec<Ipv4Addr> {
    let peers = links.iter().filter(|link| link.from == from);
    let addresses = peers
        .filter_map(|link| containers.get(&link.to))
        .flat_map(|container| &container.addresses);
    let mut addresses: Vec<Ipv4Addr> = addresses.filter_map(|address| address.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sender once, and of its peers those that have an address.
    #[test]
    fn senders_and_their_peers() {
        let link = |from: &str, to: &str| Link {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let container = |address: &str| Container {
            id: String::new(),
            status: "running".to_owned(),
            exit_code: 0,
            pid: 1,
            addresses: vec![address.to_owned()],
        };
        let links = [link("b", "c"), link("a", "c"), link("a", "b"), link("a", "d")];
        assert_eq!(senders(&links), ["a", "b"]);
        let containers = [
            ("b".to_owned(), container("10.0.0.3")),
            ("c".to_owned(), container("10.0.0.2")),
        ];
        let found = addresses(&links, "a", &containers.into());
        assert_eq!(found, [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]);
    }
}
