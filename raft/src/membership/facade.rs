//! An operator's wish on any node: carried out where it leads, handed to the leader elsewhere.

use std::time::Duration;

use blox_runtime::time::Instant;

use super::leader::{Answered, Asked, answer};
use super::{MemberChange, MemberError, MemberList, MemberProgress, Unanswered, wire};
use crate::consensus::Consensus;

impl Consensus {
    /// What the leader knows of the members, asked from any node.
    pub async fn members(&self, deadline: Duration) -> Result<MemberList, MemberError> {
        match self.ask_about_members(&Asked::List, deadline).await? {
            Answered::List(list) => Ok(list),
            Answered::Progress(_) => Err(another_answer(deadline)),
        }
    }

    /// Carries a change of the members on, at most for this time, from any node. Unless the answer says that it is done, saying it again goes
    /// on where it stands; so it does after a leader change, a crash or a lost answer.
    pub async fn change_members(
        &self,
        change: MemberChange,
        deadline: Duration,
    ) -> Result<MemberProgress, MemberError> {
        match self.ask_about_members(&Asked::Change(change), deadline).await? {
            Answered::Progress(progress) => Ok(progress),
            Answered::List(_) => Err(another_answer(deadline)),
        }
    }

    async fn ask_about_members(&self, asked: &Asked, deadline: Duration) -> Result<Answered, MemberError> {
        let began = Instant::now();
        let until = began + deadline;
        loop {
            let node = self.node();
            if let Some(reason) = node.stopped.borrow().clone() {
                return Err(MemberError::Stopped(reason));
            }
            let attention = node.attention.load().as_deref().cloned();
            if let (None, Some(attention)) = (node.engine.get(), attention) {
                return Err(MemberError::NotMember(attention));
            }
            let (leads, leader) = {
                let view = node.view.borrow();
                let other = view.leader.clone().filter(|(id, _)| *id != view.node_id);
                (view.leading.is_some(), other)
            };
            let attempt = match (node.engine.get(), leader) {
                _ if leads => answer(node, asked, until).await,
                (Some(engine), Some((id, info))) => {
                    let rest = until.saturating_duration_since(Instant::now());
                    let reply = engine
                        .requests
                        .members((id, &info), wire::request(asked, rest), rest)
                        .await;
                    reply.map_err(Unanswered::TryAgain).and_then(wire::answered)
                }
                _ => Err(Unanswered::TryAgain("no leader is known".to_owned())),
            };
            match attempt {
                Ok(answered) => return Ok(answered),
                Err(Unanswered::Refused { code, message }) => return Err(MemberError::Refused { code, message }),
                Err(Unanswered::TryAgain(reason)) => {
                    tracing::debug!(reason, "a question about the members is tried again");
                    if !self.pause(until).await {
                        return Err(MemberError::NoLeader {
                            waited: began.elapsed(),
                            reason,
                        });
                    }
                }
            }
        }
    }
}

fn another_answer(waited: Duration) -> MemberError {
    MemberError::NoLeader {
        waited,
        reason: "the leader answered something else".to_owned(),
    }
}
