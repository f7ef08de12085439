//! What goes wrong, and when: drawn from the seed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::random::between;
use blox_runtime::simulated::spawn_outside;
use blox_runtime::time::{Instant, sleep};

use crate::cluster::{Cluster, NAMES};
use crate::weather::Skies;

/// Between two faults, milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 30..=700;
/// How long one lasts, milliseconds.
const LASTS_MS: std::ops::RangeInclusive<u64> = 20..=1_500;
/// One held node in so many is held longer than a leader check is good for, milliseconds.
const LONG_HOLD_EACH: u64 = 3;
const LONG_HOLD_MS: std::ops::RangeInclusive<u64> = 1_500..=4_000;
/// An ambush is called off after this.
const AMBUSH: Duration = Duration::from_millis(2_500);
/// How often it is looked whether somebody was caught.
const AMBUSH_LOOK: Duration = Duration::from_millis(10);
/// At the worst, so many of a thousand messages are lost.
const LOSS_PER_MILLE_MAX: u64 = 60;

/// Makes trouble until `until`. What is broken then is mended by whoever called.
pub async fn trouble(cluster: Arc<Cluster>, skies: Arc<Skies>, until: Instant) {
    loop {
        sleep(Duration::from_millis(between(PAUSE_MS))).await;
        if Instant::now() >= until {
            return;
        }
        one(&cluster, &skies, until);
    }
}

fn one(cluster: &Arc<Cluster>, skies: &Arc<Skies>, until: Instant) {
    let victim = NAMES[usize::try_from(between(0..=2)).expect("small")];
    let trace = cluster.trace.clone();
    let (cluster, skies) = (cluster.clone(), skies.clone());
    match between(0..=13) {
        0..=2 => {
            cluster.kill(victim, between(0..=1) == 1);
            later(async move { cluster.start(victim) });
        }
        3 => {
            for name in NAMES {
                cluster.kill(name, between(0..=1) == 1);
            }
            for name in NAMES {
                let cluster = cluster.clone();
                later(async move { cluster.start(name) });
            }
        }
        4 | 5 => {
            cluster.hold(victim, true);
            spawn_outside(async move {
                sleep(hold()).await;
                cluster.hold(victim, false);
            });
        }
        6 | 7 => {
            trace.say(format_args!("{victim} is cut off"));
            for other in NAMES {
                skies.cut(victim, other);
                skies.cut(other, victim);
            }
            later(async move {
                trace.say(format_args!("{victim} is connected again"));
                for other in NAMES {
                    skies.mend(victim, other);
                    skies.mend(other, victim);
                }
            });
        }
        8 => {
            let other = NAMES[(NAMES.iter().position(|name| *name == victim).unwrap_or(0) + 1) % NAMES.len()];
            trace.say(format_args!("nothing gets from {victim} to {other}"));
            skies.cut(victim, other);
            later(async move {
                trace.say(format_args!("{victim} reaches {other} again"));
                skies.mend(victim, other);
            });
        }
        9 | 10 => {
            let (loss, storm) = (between(0..=LOSS_PER_MILLE_MAX), between(0..=1) == 1);
            trace.say(format_args!("bad weather: {loss} of 1000 are lost, storm: {storm}"));
            skies.set(loss, storm);
            later(async move {
                trace.say("good weather");
                skies.set(0, false);
            });
        }
        11 | 12 => spawn_outside(ambush(cluster, until)),
        _ => cluster.flush(victim),
    }
}

fn hold() -> Duration {
    let is_long = between(1..=LONG_HOLD_EACH) == 1;
    Duration::from_millis(between(if is_long { LONG_HOLD_MS } else { LASTS_MS }))
}

/// Holds a leader between its intents and its calls. It goes on when others may lead already, or never.
async fn ambush(cluster: Arc<Cluster>, until: Instant) {
    cluster.lay_ambush();
    let begun = Instant::now();
    let victim = loop {
        sleep(AMBUSH_LOOK).await;
        if let Some(victim) = cluster.take_ambushed() {
            break victim;
        }
        if begun.elapsed() > AMBUSH {
            return cluster.call_ambush_off();
        }
    };
    sleep(hold()).await;
    if Instant::now() < until && between(0..=2) == 0 {
        cluster.kill(victim, between(0..=1) == 1);
        later(async move { cluster.start(victim) });
    } else {
        cluster.hold(victim, false);
    }
}

/// Does `what` when the fault is over.
fn later(what: impl Future<Output = ()> + Send + 'static) {
    let lasts = Duration::from_millis(between(LASTS_MS));
    spawn_outside(async move {
        sleep(lasts).await;
        what.await;
    });
}
