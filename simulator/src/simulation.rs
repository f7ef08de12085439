//! What every connection shares: the world behind its lock, the held answers, the timer loop.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answers::HeldCalls;
use crate::clock::Clock;
use crate::config::SimulatorConfig;
use crate::world::World;

/// One running simulation.
#[derive(Debug)]
pub(crate) struct Simulation {
    world: Mutex<World>,
    pub(crate) held: Arc<HeldCalls>,
    pub(crate) clock: Clock,
    pub(crate) stopping: CancellationToken,
    timers_changed: Arc<Notify>,
    config: SimulatorConfig,
}

impl Simulation {
    pub(crate) fn new(config: SimulatorConfig, stopping: CancellationToken) -> Self {
        let clock = Clock::start();
        let timers_changed = Arc::new(Notify::new());
        Self {
            world: Mutex::new(World::new(&config, clock, Arc::clone(&timers_changed))),
            held: Arc::default(),
            clock,
            stopping,
            timers_changed,
            config,
        }
    }

    /// The world, for as long as no one waits with it in hand.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// Begins anew, with what `change` makes of the configuration it began with.
    pub(crate) fn reset(&self, change: impl FnOnce(&mut SimulatorConfig)) {
        let mut config = self.config.clone();
        change(&mut config);
        let new = World::new(&config, self.clock, Arc::clone(&self.timers_changed));
        let old = std::mem::replace(&mut *self.world.lock(), new);
        for queue in old.regions.values().flat_map(|region| region.queues.values()) {
            queue.wake();
        }
        self.timers_changed.notify_one();
    }

    /// Fires timers until the simulation stops.
    pub(crate) async fn run_timers(&self) {
        loop {
            let next_due_ms = self.world.lock().fire_due_timers();
            let due = async {
                match next_due_ms {
                    Some(at_ms) => tokio::time::sleep_until(self.clock.instant_of(at_ms)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.timers_changed.notified() => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }
}
