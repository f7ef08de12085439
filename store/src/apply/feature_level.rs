//! What a node of another version may have put into the log.

use super::{Transaction, outcome};
use crate::feature_level::FeatureLevel;
use crate::proto::{Command, Done, Outcome, RaiseFeatureLevel, outcome::Result as Answer};
use crate::store::StoreError;

/// Raises the feature level. One that this node does not know ends it: what follows in the log may be of that level.
pub(super) fn raise(transaction: &mut Transaction<'_>, raise: &RaiseFeatureLevel) -> Result<Outcome, StoreError> {
    let level = FeatureLevel::new(raise.level);
    if level > transaction.known {
        return Err(StoreError::Unknown(format!(
            "the log raises the feature level to {level}, this version of blox knows up to {}",
            transaction.known
        )));
    }
    let position = &mut transaction.position;
    if level > FeatureLevel::new(position.feature_level) {
        position.feature_level = level.number();
        // Only here, so that the hash of a log without it stays what it was.
        transaction.overlay.hash_number(level.number().into());
    }
    Ok(outcome(Answer::Done(Done {})))
}

/// A command whose operation is none of those this version knows: a newer one wrote it.
pub(super) fn unknown_command(
    transaction: &mut Transaction<'_>,
    index: u64,
    command: &Command,
) -> Result<Outcome, StoreError> {
    if transaction.known > FeatureLevel::NEWEST {
        // A node that pretends to be newer, in tests: it takes the command for one that does nothing.
        return Ok(outcome(Answer::Done(Done {})));
    }
    Err(StoreError::Unknown(format!(
        "log entry {index} holds a command (of {:?}, because {:?}) that this version of blox does not know; it knows feature levels up to {}",
        command.actor, command.cause, transaction.known
    )))
}
