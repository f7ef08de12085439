//! What the zoo's bugs need here beyond a line (see `blox_runtime::zoo`).

use std::sync::Arc;

use blox_runtime::zoo::{Bug, carries};
use bytes::Bytes;

use crate::Revision;
use crate::encoding::meta;
use crate::engine::{Engine, Family, ScanLimit, Write};
use crate::proto::{Command, LaunchRecord};
use crate::ring::RingChange;
use crate::store::StoreError;

/// How far a watch may fall behind before it drops: what a channel of bounded size holds.
const LAG_REVISIONS_MAX: u64 = 64;
/// Values are gone through in steps of this.
const STEP: ScanLimit = ScanLimit {
    count: 4_096,
    bytes: 1 << 20,
};

/// `applied-apart`: the position goes to the disk by itself and is synced there; its data follows.
pub(crate) fn write_position_apart(engine: &dyn Engine, batch: &[Write]) -> Result<(), StoreError> {
    if !carries(Bug::AppliedApart) {
        return Ok(());
    }
    let is_position = |write: &&Write| write.family == Family::Meta && write.key == meta::POSITION;
    let position: Vec<Write> = batch.iter().filter(is_position).cloned().collect();
    engine.write(&position)?;
    engine.flush()
}

/// `half-snapshot`: of what was installed, the second half of the values is missing.
pub(crate) fn leave_out_half(engine: &dyn Engine) -> Result<(), StoreError> {
    if !carries(Bug::HalfSnapshot) {
        return Ok(());
    }
    let mut keys: Vec<Bytes> = Vec::new();
    loop {
        let from = keys.last().map_or_else(Vec::new, |last| [last.as_ref(), &[0]].concat());
        let pairs = engine.scan(Family::Latest, &from, &[], STEP)?;
        if pairs.is_empty() {
            break;
        }
        keys.extend(pairs.into_iter().map(|(key, _)| key));
    }
    let gone = keys.drain(keys.len() / 2..).map(|key| Write {
        family: Family::Latest,
        key,
        value: None,
    });
    engine.write(&gone.collect::<Vec<_>>())
}

/// `no-fence`: a command counts as one of the current session, whoever sent it.
pub(crate) fn lift_fence(command: &mut Command, current: u64) {
    if carries(Bug::NoFence) && command.session != 0 {
        command.session = current;
    }
}

/// `early-launch`: an intent that comes after its call cannot tell which tasks were there before it.
pub(crate) fn intended_late(launch: LaunchRecord) -> LaunchRecord {
    match carries(Bug::EarlyLaunch) {
        true => LaunchRecord {
            intent_revision: 0,
            ..launch
        },
        false => launch,
    }
}

/// `early-delivery`: what was told when it was proposed is not told again when it is applied, whatever it has become.
pub(crate) fn not_told_early(mut changes: Vec<Arc<RingChange>>, last: Revision) -> Vec<Arc<RingChange>> {
    if carries(Bug::EarlyDelivery) {
        changes.retain(|change| change.revision > last);
    }
    changes
}

/// `repeating-resume`.
pub(crate) fn resumed_from(asked: Revision) -> Revision {
    asked.saturating_sub(u64::from(carries(Bug::RepeatingResume)))
}

/// `dropping-watch`: a watch that once was at the head and has fallen behind goes on further ahead.
pub(crate) fn drop_what_lags(was_at_head: &mut bool, delivered: &mut Revision, current: Revision) {
    if !carries(Bug::DroppingWatch) {
        return;
    }
    *was_at_head |= *delivered >= current;
    if *was_at_head {
        *delivered = (*delivered).max(current.saturating_sub(LAG_REVISIONS_MAX));
    }
}
