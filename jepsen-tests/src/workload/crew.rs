//! Workers: each does one operation after the other, at the workload's pace, until the crew is called off.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::http::{Answer, Ask, Http, Reply, phase_of_read, phase_of_write, why};
use super::{Site, WorkloadError};
use crate::check::history::Phase;
use crate::client::Node;
use crate::observe::NotInTime;
use crate::suite::{Call, End, Process};

/// How often in a hundred a worker asks another node than its own.
const ELSEWHERE_PERCENT: u32 = 15;
/// How long a client waits for an answer, milliseconds: short ones leave outcomes unknown, long ones hear the node's own word.
const PATIENCE_MS: [u64; 4] = [500, 1_000, 2_000, 7_000];

/// Turns, evenly over time. What nobody takes is lost: after a standstill there is no burst.
pub struct Pace {
    interval: Mutex<Interval>,
    over: AtomicBool,
}

impl Pace {
    /// So many turns a second, one at least.
    pub fn new(per_second: u32) -> Pace {
        let mut interval = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Pace {
            interval: Mutex::new(interval),
            over: AtomicBool::new(false),
        }
    }

    /// Waits for the next turn; `false`: there is none any more.
    pub async fn turn(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.interval.lock().await.tick().await;
        !self.is_over()
    }

    /// No more turns.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// It was ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Workers that share a pace. Dropping it ends them where they are.
pub struct Crew {
    pace: Arc<Pace>,
    workers: JoinSet<()>,
}

impl Crew {
    /// So many workers, spread over the nodes; `work` is what each does.
    pub fn begin<W, F>(site: &Site, name: &str, count: usize, per_second: u32, work: W) -> Crew
    where
        W: Fn(Worker) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let pace = Arc::new(Pace::new(per_second));
        let mut workers = JoinSet::new();
        for number in 0..count {
            workers.spawn(work(Worker::new(site, name, number, Arc::clone(&pace))));
        }
        Crew { pace, workers }
    }

    /// No more turns; returns when the last operation has ended.
    pub async fn stop(&mut self) {
        self.pace.end();
        while self.workers.join_next().await.is_some() {}
    }
}

/// How an operation ended.
pub struct Done {
    /// What is known of its effect.
    pub phase: Phase,
    /// A good answer; `None`: it was none.
    pub reply: Option<Reply>,
}

/// One client, one operation at a time.
pub struct Worker {
    /// Where it works.
    pub site: Site,
    /// Among its crew.
    pub number: usize,
    /// Of its choices.
    pub random: ChaCha8Rng,
    process: Process,
    pace: Arc<Pace>,
    made: u64,
}

impl Worker {
    /// Its choices follow from the run's seed, its crew's name and its number.
    pub fn new(site: &Site, name: &str, number: usize, pace: Arc<Pace>) -> Worker {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&site.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        for (place, byte) in name.bytes().take(16).enumerate() {
            seed[16 + place] = byte;
        }
        Worker {
            process: site.recorder.process(),
            site: site.clone(),
            number,
            random: ChaCha8Rng::from_seed(seed),
            pace,
            made: 0,
        }
    }

    /// Waits for its next turn; `false`: it is over.
    pub async fn turn(&self) -> bool {
        self.pace.turn().await
    }

    /// The crew was called off.
    pub fn is_over(&self) -> bool {
        self.pace.is_over()
    }

    /// The node that is asked next: its own as a rule.
    pub fn node(&mut self) -> usize {
        let nodes = self.site.nodes.len();
        if self.random.random_ratio(ELSEWHERE_PERCENT, 100) {
            self.random.random_range(0..nodes)
        } else {
            self.number % nodes
        }
    }

    /// How long the next answer is waited for.
    pub fn patience(&mut self) -> Duration {
        Duration::from_millis(PATIENCE_MS[self.random.random_range(0..PATIENCE_MS.len())])
    }

    /// A value that nobody has made before.
    pub fn fresh(&mut self) -> Value {
        self.made += 1;
        json!(format!("{}.{}", self.number, self.made))
    }

    /// Carries out a write: recorded when it begins, and when it ends with what is known of its effect. `end` says what a good answer means.
    pub async fn write(&mut self, node: usize, call: Call, ask: Ask, end: impl FnOnce(&Reply) -> End) -> Done {
        self.carry_out(node, call, ask, phase_of_write, end).await
    }

    /// The same of a read, which has no effect however it ends.
    pub async fn read(&mut self, node: usize, call: Call, ask: Ask, end: impl FnOnce(&Reply) -> End) -> Done {
        self.carry_out(node, call, ask, phase_of_read, end).await
    }

    /// The same by another rule of what an answer means.
    pub async fn carry_out(
        &mut self,
        node: usize,
        mut call: Call,
        ask: Ask,
        phase_of: impl FnOnce(&Answer) -> Phase,
        end: impl FnOnce(&Reply) -> End,
    ) -> Done {
        let target = &self.site.nodes[node];
        call.node.clone_from(&target.name);
        self.site.recorder.invoke(&self.process, &call);
        let answer = self.site.http.ask(target, &ask).await;
        let phase = phase_of(&answer);
        let ended = match (phase, &answer) {
            (Phase::Ok, Ok(reply)) => end(reply),
            _ => {
                let observed = answer.as_ref().ok().and_then(|reply| reply.observed(&ask.method));
                let mut end = End::not_ok(phase, &call, why(&answer));
                end.more
                    .extend(observed.map(|revision| ("observed".to_owned(), json!(revision))));
                end
            }
        };
        self.site.recorder.end(&mut self.process, &call, ended);
        Done {
            phase,
            reply: answer.ok().filter(|_| phase == Phase::Ok),
        }
    }

    /// Carries out what takes more than one request as one operation: what it says of its end, its answer with the revision of the state that it speaks
    /// of or why there is none, and whatever else.
    pub async fn tell<T, F>(&mut self, node: usize, mut call: Call, ask: F) -> (Phase, T)
    where
        F: AsyncFnOnce(&Http, &Node) -> (Phase, Result<(Value, u64), String>, T),
    {
        let target = &self.site.nodes[node];
        call.node.clone_from(&target.name);
        self.site.recorder.invoke(&self.process, &call);
        let (phase, answer, more) = ask(&self.site.http, target).await;
        let ended = match answer {
            Ok((value, at)) => End::of_state(value, at),
            Err(why) => End::not_ok(phase, &call, why),
        };
        self.site.recorder.end(&mut self.process, &call, ended);
        (phase, more)
    }
}

/// Last reads of one node in a second.
const LAST_READS_PER_SECOND: u32 = 300;

/// Reads each key from every node, each until it is answered: `read` says whether it was.
pub async fn until_answered<R>(site: &Site, name: &str, keys: Vec<String>, read: R) -> Result<(), WorkloadError>
where
    R: AsyncFn(&mut Worker, usize, &str) -> bool,
{
    let within = site.last_read();
    let readers = (0..site.nodes.len()).map(|node| {
        let mut worker = Worker::new(site, name, node, Arc::new(Pace::new(LAST_READS_PER_SECOND)));
        let (keys, read) = (&keys, &read);
        async move {
            for key in keys {
                let began = Instant::now();
                while worker.turn().await && !read(&mut worker, node, key).await {
                    if began.elapsed() > within {
                        return Err(NotInTime {
                            what: format!("a last read of {key} from {}", worker.site.nodes[node].name),
                            within,
                            last: "it is not answered".to_owned(),
                        });
                    }
                }
            }
            Ok(())
        }
    });
    futures::future::try_join_all(readers).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns come evenly, are not saved up, and end.
    #[tokio::test]
    async fn turns_are_even_and_end() {
        let pace = Pace::new(20);
        let began = Instant::now();
        for _ in 0..5 {
            assert!(pace.turn().await);
        }
        assert!(began.elapsed() >= Duration::from_millis(195), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stood_still = Instant::now();
        for _ in 0..4 {
            assert!(pace.turn().await);
        }
        assert!(
            stood_still.elapsed() >= Duration::from_millis(100),
            "{:?}",
            stood_still.elapsed()
        );
        pace.end();
        assert!(!pace.turn().await);
    }
}
