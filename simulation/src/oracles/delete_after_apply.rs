//! A message is deleted only after the command that holds what it says is applied: its resource at its version or a later one, or itself in
//! quarantine. Source: design.md, invariant 6.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::proto::command::Operation;
use blox_store::proto::outcome::Result as Did;
use blox_store::proto::{Entry, Observation};
use prost::Message;

use super::{Fact, Mirrors, Oracle};
use crate::fleet::queue::Says;

/// See the module.
#[derive(Default)]
pub struct DeleteAfterApply {
    /// Of each resource, the highest version that any node has applied.
    applied: BTreeMap<String, i64>,
    quarantined: BTreeSet<String>,
    position: u64,
}

impl DeleteAfterApply {
    fn observed(&mut self, observations: &[Observation]) {
        for observation in observations {
            let version = observation.ecs_version.unwrap_or_default();
            let applied = self.applied.entry(observation.arn.clone()).or_default();
            *applied = version.max(*applied);
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Observe(observe) => self.observed(&observe.observations),
            Operation::RecordLaunches(record) => self.observed(&record.observations),
            Operation::RecordStops(record) => self.observed(&record.observations),
            Operation::QuarantineMessages(quarantine) => {
                let ids = quarantine.messages.iter().map(|message| message.message_id.clone());
                self.quarantined.extend(ids);
            }
            _ => {}
        }
    }
}

impl Oracle for DeleteAfterApply {
    fn name(&self) -> &'static str {
        "delete after apply"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        match fact {
            Fact::Applied(applied) if applied.position > self.position => {
                self.position = applied.position;
                let Some(payload) = applied.payload.clone() else {
                    return Ok(());
                };
                let entry = Entry::decode(payload).map_err(|error| error.to_string())?;
                for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
                    if let (Some(operation), false) =
                        (&command.operation, matches!(outcome.result, Some(Did::Refusal(_))))
                    {
                        self.apply(operation);
                    }
                }
                Ok(())
            }
            Fact::DeleteLeaves { node, messages } => {
                for message in *messages {
                    let is_applied = match &message.says {
                        Says::Version { arn, version } => {
                            self.applied.get(arn).is_some_and(|applied| applied >= version)
                        }
                        Says::Nonsense => self.quarantined.contains(&message.id),
                    };
                    if !is_applied {
                        return Err(format!("{node} deletes {message:?}, which no command has brought"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Applied;
    use blox_store::proto::{Command, Observe, Observed, Outcome, Refusal};

    use super::*;
    use crate::fleet::queue::Sent;

    fn deletes(oracle: &mut DeleteAfterApply, says: Says) -> Result<(), String> {
        let messages = [Sent {
            id: "m1".to_owned(),
            says,
        }];
        let fact = Fact::DeleteLeaves {
            node: "a",
            messages: &messages,
        };
        oracle.note(&fact, &Mirrors::new())
    }

    fn applies(oracle: &mut DeleteAfterApply, position: u64, version: i64, result: Did) {
        let observation = Observation {
            arn: "t".to_owned(),
            ecs_version: Some(version),
            ..Observation::default()
        };
        let observe = Observe {
            observations: vec![observation],
            ..Observe::default()
        };
        let entry = Entry {
            commands: vec![Command {
                operation: Some(Operation::Observe(observe)),
                ..Command::default()
            }],
            ..Entry::default()
        };
        let applied = Applied {
            node: "a".to_owned(),
            position,
            term: 1,
            payload: Some(entry.encode_to_vec().into()),
            outcomes: vec![Outcome {
                result: Some(result),
                ..Outcome::default()
            }],
            state_hash: None,
        };
        oracle
            .note(&Fact::Applied(&applied), &Mirrors::new())
            .expect("applying breaks nothing");
    }

    /// A deletion is noticed while the newest that was applied is older, was refused, or is not in quarantine.
    #[test]
    fn it_can_fail() {
        let mut oracle = DeleteAfterApply::default();
        let at = |version| Says::Version {
            arn: "t".to_owned(),
            version,
        };
        deletes(&mut oracle, at(1)).expect_err("nothing is applied");
        applies(&mut oracle, 1, 2, Did::Observed(Observed::default()));
        deletes(&mut oracle, at(1)).expect("a newer one is applied");
        deletes(&mut oracle, at(2)).expect("it is applied");
        applies(&mut oracle, 2, 3, Did::Refusal(Refusal::default()));
        deletes(&mut oracle, at(3)).expect_err("it was refused");
        deletes(&mut oracle, Says::Nonsense).expect_err("it is in no quarantine");
    }
}
