//! What a leader checks of forwarded proposals, and how it answers them.

use blox_store::proto::Command;
use bytes::Bytes;
use prost::Message;

use crate::propose::{Answer, COMMAND_BYTES_MAX, Refusal};
use crate::proto::{self, propose_result};

/// Outcomes in one answer, bytes: with what surrounds them they fit in one gRPC message.
const OUTCOMES_BYTES_MAX: usize = 12 << 20;

/// Refuses what would end every node once it is in the log: apply must decode it, and know its operation.
pub(super) fn check(command: &Bytes) -> Result<(), Refusal> {
    let reason = if command.len() > COMMAND_BYTES_MAX {
        format!(
            "has {} bytes, more than the limit of {COMMAND_BYTES_MAX}",
            command.len()
        )
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

/// Answers as they travel, in order: together no larger than a message. An outcome beyond that is unknown to its caller, who asks again
/// under its idempotency key.
pub(super) fn results(answers: Vec<Answer>) -> Vec<proto::ProposeResult> {
    let mut room = OUTCOMES_BYTES_MAX;
    let answers = answers.into_iter().map(|answer| {
        let bytes = answer.as_ref().map_or(0, Message::encoded_len);
        match room.checked_sub(bytes) {
            Some(rest) => {
                room = rest;
                answer
            }
            None => Err(Refusal::Unknown(
                "it was applied; the leader's answer has no room for its outcome".to_owned(),
            )),
        }
    });
    let result = |answer| match answer {
        Ok(outcome) => propose_result::Result::Outcome(Message::encode_to_vec(&outcome).into()),
        Err(Refusal::Overloaded) => propose_result::Result::Overloaded("the leader is overloaded".to_owned()),
        Err(Refusal::DiskFull(full)) => propose_result::Result::DisksFull(full.into()),
        Err(Refusal::Unknown(cause)) => propose_result::Result::Unknown(cause),
        Err(Refusal::TryAgain(reason) | Refusal::Stopped(reason)) => propose_result::Result::TryAgain(reason),
        Err(Refusal::NotLeader) => propose_result::Result::TryAgain("not the leader".to_owned()),
    };
    answers
        .map(|answer| proto::ProposeResult {
            result: Some(result(answer)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use blox_store::proto::{self, Outcome, PutKey, command::Operation, outcome};

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

    /// Outcomes that fit in no message are unknown one by one; those around them arrive.
    #[test]
    fn answers_fit_in_a_message() {
        let outcome = |bytes: usize| {
            Ok(Outcome {
                result: Some(outcome::Result::Refusal(proto::Refusal {
                    message: "x".repeat(bytes),
                    ..proto::Refusal::default()
                })),
                ..Outcome::default()
            })
        };
        let answers = vec![
            outcome(5 << 20),
            outcome(5 << 20),
            outcome(5 << 20),
            Err(Refusal::Overloaded),
            outcome(10),
        ];
        let reply = crate::proto::ProposeReply {
            results: results(answers),
        };
        assert!(reply.encoded_len() < crate::net::MESSAGE_BYTES_MAX);
        let kinds: Vec<&str> = reply
            .results
            .iter()
            .map(|result| match result.result {
                Some(propose_result::Result::Outcome(_)) => "outcome",
                Some(propose_result::Result::Unknown(_)) => "unknown",
                Some(propose_result::Result::Overloaded(_)) => "overloaded",
                _ => "other",
            })
            .collect();
        assert_eq!(kinds, ["outcome", "outcome", "unknown", "overloaded", "outcome"]);
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
