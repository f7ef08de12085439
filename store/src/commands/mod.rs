//! What commands do to the state, one file a family of them.
//!
//! Each takes the overlay of one apply call and the command and gives its result. They read no clock but the command's, and decide by the
//! state alone, so that every node decides alike. Sessions, idempotency keys and maintenance are the business of the apply loop around them.

mod deployments;
mod environments;
mod forget;
mod launch_state;
mod launches;
mod observe;
mod stops;
mod stored;
mod user_keys;

#[cfg(test)]
mod tests;

pub(crate) use launches::{restore_launches, take_over_launches};

use crate::apply::Transaction;
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::{Command, Outcome, Refusal, RefusalCode};
use crate::store::StoreError;

/// Does what a command asks, and says what came of it.
pub(crate) fn execute(transaction: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StoreError> {
    let operation = command
        .operation
        .as_ref()
        .ok_or_else(|| StoreError::Corrupt("a command without an operation was to be executed".to_owned()))?;
    let answer = match operation {
        Operation::Observe(observe) => observe::observe(transaction, observe),
        Operation::ForgetResources(forget) => forget::forget_resources(transaction, forget),
        Operation::PutKey(put) => user_keys::put_key(transaction, put),
        Operation::DeleteKey(delete) => user_keys::delete_key(transaction, delete),
        Operation::CreateEnvironment(create) => environments::create(transaction, create),
        Operation::UpdateEnvironment(update) => environments::update(transaction, update),
        Operation::DeleteEnvironment(delete) => environments::delete(transaction, delete),
        Operation::RemoveEnvironment(remove) => environments::remove(transaction, remove),
        Operation::CreateDeployment(create) => deployments::create(transaction, create),
        Operation::UpdateDeployment(update) => deployments::update(transaction, update),
        Operation::IntendLaunches(intend) => launches::intend(transaction, intend),
        Operation::RecordLaunches(record) => launches::record(transaction, record),
        Operation::RemoveLaunches(remove) => launches::remove(transaction, remove),
        Operation::IntendStops(intend) => stops::intend(transaction, intend),
        Operation::RecordStops(record) => stops::record(transaction, record),
        Operation::OpenSession(_)
        | Operation::QuarantineMessages(_)
        | Operation::ReportSource(_)
        | Operation::Compact(_)
        | Operation::Expire(_)
        | Operation::RaiseFeatureLevel(_) => {
            unreachable!("the apply loop handles sessions, sources and maintenance itself")
        }
    }?;
    Ok(Outcome {
        revision: transaction.revision(),
        replayed: false,
        result: Some(answer),
    })
}

fn refuse(code: RefusalCode, message: impl Into<String>) -> Answer {
    refuse_with(code, message, String::new())
}

/// `detail` is what a program needs of it: an id, a revision.
fn refuse_with(code: RefusalCode, message: impl Into<String>, detail: impl Into<String>) -> Answer {
    Answer::Refusal(Refusal {
        code: code as i32,
        message: message.into(),
        detail: detail.into(),
    })
}
