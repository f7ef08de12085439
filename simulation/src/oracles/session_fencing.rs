//! Once a session is open, no command of an older one does anything: it is refused as stale. Source: design.md, invariant 5 ("`apply`
//! refuses a command of an older session"); Kleppmann, "How to do distributed locking" (fencing tokens).

use blox_store::proto::outcome::Result as Did;
use blox_store::proto::{Entry, RefusalCode};
use prost::Message;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct SessionFencing {
    /// Of the newest session, and up to where commands were looked at: the first node that applies an entry tells.
    session: u64,
    position: u64,
}

impl Oracle for SessionFencing {
    fn name(&self) -> &'static str {
        "session fencing"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if applied.position <= self.position {
            return Ok(());
        }
        self.position = applied.position;
        let Some(payload) = applied.payload.clone() else {
            return Ok(());
        };
        let entry = Entry::decode(payload).map_err(|error| error.to_string())?;
        for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
            if let Some(Did::SessionOpened(opened)) = &outcome.result {
                if opened.session <= self.session {
                    return Err(format!(
                        "entry {} opens session {} after session {}",
                        applied.position, opened.session, self.session
                    ));
                }
                self.session = opened.session;
            }
            let refused =
                matches!(&outcome.result, Some(Did::Refusal(refusal)) if refusal.code() == RefusalCode::StaleSession);
            if command.session != 0 && command.session < self.session && !refused {
                return Err(format!(
                    "entry {} has a command of session {} that was taken in session {}",
                    applied.position, command.session, self.session
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Applied;
    use blox_store::proto::{Command, Done, Outcome, Refusal, SessionOpened};

    use super::*;

    /// A command of an older session that does something is noticed; one that is refused is well.
    #[test]
    fn it_can_fail() {
        let mut oracle = SessionFencing::default();
        let mut apply = |position, session, result| {
            let command = Command {
                session,
                ..Command::default()
            };
            let entry = Entry {
                commands: vec![command],
                ..Entry::default()
            };
            let outcome = Outcome {
                result: Some(result),
                ..Outcome::default()
            };
            let applied = Applied {
                node: "a".to_owned(),
                position,
                term: 1,
                payload: Some(entry.encode_to_vec().into()),
                outcomes: vec![outcome],
                state_hash: None,
            };
            oracle.note(&Fact::Applied(&applied), &Mirrors::new())
        };
        let opened = |session| Did::SessionOpened(SessionOpened { session, elapsed_ms: 0 });
        apply(1, 0, opened(1)).expect("the first session");
        apply(2, 1, Did::Done(Done {})).expect("under it");
        apply(3, 0, opened(2)).expect("the next session");
        let refusal = Refusal {
            code: RefusalCode::StaleSession.into(),
            ..Refusal::default()
        };
        apply(4, 1, Did::Refusal(refusal)).expect("refused");
        apply(5, 1, Did::Done(Done {})).expect_err("taken");
    }
}
