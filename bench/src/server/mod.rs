//! The two sides of a comparison: three members each, on loopback, with their defaults, on one disk.

mod blox;
mod etcd;
mod metrics;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

pub use blox::BloxOptions;

use crate::client::{CallError, EtcdClient, HttpClient, KeyClient, LeanEtcdClient, LeanHttpClient, Reading, get_once};
use crate::process::{Process, ProcessError, Usage};

/// Members of each side.
pub const MEMBERS: usize = 3;
/// How long a side may take until all members serve, be it with a large state.
const READY: Duration = Duration::from_secs(300);
/// One call of these that looks at a member.
const CALL: Duration = Duration::from_secs(5);
/// Three idle members use less than this in a look, which heartbeats do not come near.
const QUIET: Duration = Duration::from_millis(40);
const QUIET_LOOK: Duration = Duration::from_millis(200);
const QUIET_LOOKS: usize = 2;
/// After that it is measured all the same, and said.
const QUIET_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// Whose members they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Blox.
    Ours,
    /// etcd.
    Peer,
}

/// Three running members.
#[derive(Debug)]
pub struct Server {
    side: Side,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    /// Where users ask it, `host:port`.
    address: String,
}

/// A lean client of either side.
#[derive(Debug)]
pub enum LeanClient {
    /// Of Blox.
    Http(LeanHttpClient),
    /// Of etcd.
    Etcd(LeanEtcdClient),
}

/// A client of either side as users have it.
#[derive(Debug)]
pub enum AnyClient {
    /// Of Blox.
    Http(HttpClient),
    /// Of etcd.
    Etcd(EtcdClient),
}

/// A side is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A port.
    #[error(transparent)]
    Ports(#[from] crate::ports::NoPorts),
    /// A file.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It takes too long.
    #[error("{what} took more than {READY:?}: {why}")]
    NotReady {
        /// What was waited for.
        what: &'static str,
        /// What was seen last.
        why: String,
    },
    /// Its metrics do not have what is counted.
    #[error("no metric {0}")]
    NoMetric(&'static str),
}

impl Side {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Side::Ours => "blox",
            Side::Peer => "etcd",
        }
    }
}

impl Server {
    /// Three of etcd's members below `directory`, whole.
    pub async fn etcd(program: &Path, directory: &Path) -> Result<Server, ServerError> {
        let members = etcd::start(program, &folder(directory, "etcd")?)?;
        Server::whole(Side::Peer, members).await
    }

    /// Three of our nodes below `directory`, whole.
    pub async fn blox(program: &Path, directory: &Path, options: &BloxOptions) -> Result<Server, ServerError> {
        let members = blox::start(program, &folder(directory, "blox")?, options)?;
        Server::whole(Side::Ours, members).await
    }

    async fn whole(side: Side, members: Vec<Member>) -> Result<Server, ServerError> {
        let mut server = Server { side, members };
        server.until_whole().await?;
        Ok(server)
    }

    /// Whose it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Where users ask its members.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// A new connection to a member.
    pub async fn client(&self, member: usize) -> Result<LeanClient, CallError> {
        LeanClient::connect(self.side, &self.members[member].address).await
    }

    /// Which member leads.
    pub async fn leader(&self) -> Result<usize, ServerError> {
        let mut why = "nobody was asked".to_owned();
        let began = Instant::now();
        while began.elapsed() < READY {
            for member in 0..self.members.len() {
                match timeout(CALL, self.leads(member)).await {
                    Ok(Ok(true)) => return Ok(member),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => why = error.to_string(),
                    Err(_) => why = format!("no answer within {CALL:?}"),
                }
            }
            sleep(LOOK).await;
        }
        let what = "the election of a leader";
        Err(ServerError::NotReady { what, why })
    }

    async fn leads(&self, member: usize) -> Result<bool, ServerError> {
        let address = &self.members[member].address;
        Ok(match self.side {
            Side::Ours => metrics::value(&self.metrics(member).await?, "blox_raft_is_leader")? == 1,
            Side::Peer => {
                let status = EtcdClient::connect(address).await?.status().await?;
                status.leader != 0 && status.leader == status.member
            }
        })
    }

    /// Waits until every member serves linearizable reads.
    pub async fn until_whole(&mut self) -> Result<(), ServerError> {
        let began = Instant::now();
        loop {
            for member in &mut self.members {
                member.process.must_run()?;
            }
            let mut why = None;
            for member in 0..self.members.len() {
                match timeout(CALL, self.serves(member)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => why = Some(error.to_string()),
                    Err(_) => why = Some(format!("no answer within {CALL:?}")),
                }
                break;
            }
            match why {
                None => return Ok(()),
                Some(why) if began.elapsed() > READY => {
                    let what = "the start of all members";
                    return Err(ServerError::NotReady { what, why });
                }
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    /// A member is up to date and knows a leader: `/readyz` of ours, `/health` of etcd, which reads through its quorum.
    async fn serves(&self, member: usize) -> Result<(), ServerError> {
        let address = &self.members[member].address;
        match self.side {
            Side::Ours => drop(get_once(address, "/readyz").await?),
            Side::Peer => drop(get_once(address, "/health").await?),
        }
        Ok(())
    }

    /// What all members together have used so far.
    pub fn usage(&self) -> Result<Usage, ServerError> {
        let usages = self.members.iter().map(|member| member.process.usage());
        Ok(usages.sum::<Result<Usage, ProcessError>>()?)
    }

    /// Syncs of the three logs so far (etcd: and of its state, which Blox does not sync; each of those is two of the disk's).
    pub async fn syncs(&self) -> Result<u64, ServerError> {
        let mut syncs = 0;
        for member in 0..self.members.len() {
            let page = self.metrics(member).await?;
            for name in match self.side {
                Side::Ours => blox::SYNCS,
                Side::Peer => etcd::SYNCS,
            } {
                syncs += metrics::value(&page, name)?;
            }
        }
        Ok(syncs)
    }

    /// Waits until nothing of an earlier load goes on (flushes, compactions, snapshots): otherwise the other side would pay for it.
    pub async fn until_quiet(&self) -> Result<(), ServerError> {
        let (began, mut quiet) = (Instant::now(), 0);
        while quiet < QUIET_LOOKS {
            let before = self.usage()?;
            sleep(QUIET_LOOK).await;
            let used = self.usage()?.since(before).cpu;
            quiet = if used <= QUIET { quiet + 1 } else { 0 };
            if began.elapsed() > QUIET_WAIT {
                println!("  {} still works after {QUIET_WAIT:?}", self.side.name());
                break;
            }
        }
        Ok(())
    }

    /// A metric without labels of one member.
    pub async fn metric(&self, member: usize, name: &'static str) -> Result<u64, ServerError> {
        metrics::value(&self.metrics(member).await?, name)
    }

    /// The sum of a metric of one member over all labels but those with this text; 0 where there is none yet.
    pub async fn metric_sum(&self, member: usize, name: &str, without: &str) -> Result<u64, ServerError> {
        Ok(metrics::sum(&self.metrics(member).await?, name, without))
    }

    /// Count and seconds of a summary or histogram of one member, over all labels with this text.
    pub async fn summed(&self, member: usize, family: &str, with: &str) -> Result<(f64, f64), ServerError> {
        Ok(metrics::summed(&self.metrics(member).await?, family, with))
    }

    async fn metrics(&self, member: usize) -> Result<String, ServerError> {
        let page: Bytes = get_once(&self.members[member].address, "/metrics").await?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// Resident now, of each member, bytes.
    pub fn memory(&self) -> Result<Vec<u64>, ServerError> {
        let all = self.members.iter().map(|member| member.process.memory());
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// Of that, what is of no file: etcd maps its state's file into memory, which the kernel may take back.
    pub fn memory_anonymous(&self) -> Result<Vec<u64>, ServerError> {
        let all = self.members.iter().map(|member| member.process.memory_anonymous());
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// The most that was resident of each, since the start or [`Server::forget_memory_peak`], bytes.
    pub fn memory_peak(&self) -> Result<Vec<u64>, ServerError> {
        let all = self.members.iter().map(|member| member.process.memory_peak());
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// Counts peaks from now on.
    pub fn forget_memory_peak(&self) -> Result<(), ServerError> {
        let mut all = self.members.iter().map(|member| member.process.forget_memory_peak());
        Ok(all.try_for_each(|one| one)?)
    }

    /// kill -9.
    pub async fn kill(&mut self, member: usize) -> Result<(), ServerError> {
        Ok(self.members[member].process.kill().await?)
    }

    /// SIGTERM; [`Server::ended`] waits.
    pub fn terminate(&self, member: usize) -> Result<(), ServerError> {
        Ok(self.members[member].process.terminate()?)
    }

    /// Waits until a member has ended after [`Server::terminate`].
    pub async fn ended(&mut self, member: usize) -> Result<(), ServerError> {
        self.members[member].process.ended().await?;
        Ok(())
    }

    /// Starts a member that has ended; it may not serve yet.
    pub fn restart(&mut self, member: usize) -> Result<(), ServerError> {
        Ok(self.members[member].process.restart()?)
    }
}

/// Both are as their sides': connected to a member, put and get.
macro_rules! of_either_side {
    ($client:ident, $http:ident, $etcd:ident) => {
        impl $client {
            /// Connects to a member of a side.
            pub async fn connect(side: Side, address: &str) -> Result<$client, CallError> {
                Ok(match side {
                    Side::Ours => $client::Http($http::connect(address).await?),
                    Side::Peer => $client::Etcd($etcd::connect(address).await?),
                })
            }
        }

        impl KeyClient for $client {
            async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
                match self {
                    $client::Http(client) => client.put(key, value).await,
                    $client::Etcd(client) => client.put(key, value).await,
                }
            }

            async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
                match self {
                    $client::Http(client) => client.get(key, reading).await,
                    $client::Etcd(client) => client.get(key, reading).await,
                }
            }
        }
    };
}

of_either_side!(LeanClient, LeanHttpClient, LeanEtcdClient);
of_either_side!(AnyClient, HttpClient, EtcdClient);

/// A new folder of a side's own.
fn folder(directory: &Path, name: &str) -> Result<PathBuf, ServerError> {
    let path = directory.join(name);
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(ServerError::File { path, source }),
    }
}
