//! What a leader checks of forwarded proposals, and how it answers them.

use blox_store::proto::Command;
use bytes::Bytes;
use prost::Message;

use crate::propose::{Answer, COMMAND_BYTES_MAX, Refusal};
use crate::proto::{self, propose_result};

/// Refuses what would end every node once it is in the log: apply must decode it, and know its operation.
pub(super) fn check(command: &Bytes) -> Result<(), Refusal> {
    let reason = if command.len() > COMMAND_BYTES_MAX {
        format!("has {} bytes, more than the limit of {COMMAND_BYTES_MAX}", command.len())
    } else {
        match Command::decode(command.clone()) {
            Ok(Command { operation: Some(_), .. }) => return Ok(()),
            Ok(_) => "has an operation that the leader does not know: upgrade the leader".to_owned(),
            Err(error) => format!("cannot be decoded: {error}"),
        }
    };
    tracing::warn!(reason, "refused a forwarded command");
    Err(Refusal::TryAgain(format!("the leader refused a command: it {reason}")))
}

/// Answers as they travel, in order.
pub(super) fn results(answers: Vec<Answer>) -> Vec<proto::ProposeResult> {
    let result = |answer| match answer {
        Ok(outcome) => propose_result::Result::Outcome(Message::encode_to_vec(&outcome).into()),
        Err(Refusal::Overloaded) => propose_result::Result::Overloaded("the leader is overloaded".to_owned()),
        Err(Refusal::Unknown(cause)) => propose_result::Result::Unknown(cause),
        Err(Refusal::TryAgain(reason) | Refusal::Stopped(reason)) => propose_result::Result::TryAgain(reason),
        Err(Refusal::NotLeader) => propose_result::Result::TryAgain("not the leader".to_owned()),
    };
    answers
        .into_iter()
        .map(|answer| proto::ProposeResult {
            result: Some(result(answer)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use blox_store::proto::{PutKey, command::Operation};

    use super::*;

    fn put(bytes: usize) -> Bytes {
        let put = PutKey {
            key: "k".into(),
            value: vec![0; bytes].into(),
            precondition: None,
        };
        let command = Command {
            operation: Some(Operation::PutKey(put)),
            ..Command::default()
        };
        command.encode_to_vec().into()
    }

    /// Bytes that are no command, a command of a newer version, and one too large never reach the log.
    #[test]
    fn only_commands_that_apply_knows_are_taken() {
        check(&put(10)).expect("a command");
        let newer = Command {
            actor: "a newer node".into(),
            ..Command::default()
        };
        for refused in [
            Bytes::from_static(b"\xff\xff\xff"),
            newer.encode_to_vec().into(),
            put(COMMAND_BYTES_MAX),
        ] {
            assert!(matches!(check(&refused), Err(Refusal::TryAgain(_))));
        }
    }
}
