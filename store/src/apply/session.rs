//! Sessions: one node's time as leader. The number is the fencing epoch.

use bytes::Bytes;
use prost::Message;

use super::{Transaction, outcome};
use crate::commands;
use crate::encoding::meta;
use crate::engine::Family;
use crate::proto::{OpenSession, Outcome, SessionOpened, SessionRecord, outcome::Result as Answer};
use crate::store::StoreError;

/// Opens the next session: from here on commands of older ones are refused, and what their launches came to is unknown.
pub(super) fn open(transaction: &mut Transaction<'_>, open: &OpenSession) -> Result<Outcome, StoreError> {
    transaction.position.session += 1;
    let session = transaction.position.session;
    let elapsed_ms = transaction.elapsed_ms();
    let record = SessionRecord {
        session,
        node: open.node.clone(),
        term: open.term,
        opened_at_elapsed_ms: elapsed_ms,
        opened_at_ms: transaction.wall_time_ms(),
    };
    transaction.overlay.write(
        Family::Meta,
        Bytes::from_static(meta::SESSION),
        Some(record.encode_to_vec().into()),
    );
    commands::take_over_launches(transaction)?;
    Ok(outcome(Answer::SessionOpened(SessionOpened { session, elapsed_ms })))
}
