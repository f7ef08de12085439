//! What a node holds in memory with so many keys: a new cluster of each side, filled, and left alone for a moment.

use std::time::Duration;

use tokio::time::sleep;

use super::keys::{FILLERS, VALUE_BYTES};
use super::{RowError, Settings, add, say};
use crate::figure::{Figure, Goal};
use crate::load::fill;
use crate::server::{BloxOptions, Server, Side};

/// Keys, each with a value of [`VALUE_BYTES`].
const KEYS: u64 = 100_000;
/// After the last write.
const REST: Duration = Duration::from_secs(2);

/// One side after the other.
pub async fn measure(settings: &Settings) -> Result<Vec<Figure>, RowError> {
    let mut resident = Figure::new("memory, 100,000 keys: resident, a node", "MB");
    let mut anonymous = Figure::new("memory, 100,000 keys: resident and of no file, a node", "MB");
    let mut peak = Figure::new("memory, 100,000 keys: peak, a node", "MB");
    resident.goals = vec![Goal::TimesPeerAtMost(1.0)];
    for side in [Side::Ours, Side::Peer] {
        let directory = settings.directory.join("memory");
        let server = match side {
            Side::Ours => Server::blox(&settings.blox, &directory, &BloxOptions::default()).await?,
            Side::Peer => Server::etcd(&settings.etcd, &directory).await?,
        };
        fill(&server, 0..KEYS, VALUE_BYTES, FILLERS).await?;
        sleep(REST).await;
        let (now, most) = (mean_mb(&server.memory()?), mean_mb(&server.memory_peak()?));
        let own = mean_mb(&server.memory_anonymous()?);
        say(&format!(
            "  {:<44} {:<4} {now:>9.0} MB a node, {own:.0} MB of no file, peak {most:.0} MB",
            "memory, 100,000 keys",
            side.name()
        ));
        add(&mut resident, side, now);
        add(&mut anonymous, side, own);
        add(&mut peak, side, most);
    }
    Ok(vec![resident, anonymous, peak])
}

/// Of all members.
fn mean_mb(bytes: &[u64]) -> f64 {
    bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64 / 1e6
}
