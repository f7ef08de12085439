//! Never two daemons of one environment on one instance, at any moment. Source: design.md, "The promise". Its exceptions are kept out of this
//! world: lists lag, calls are late and processes are held for less than the time after a call's deadline at which a launch may be closed.

use std::collections::BTreeMap;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct OneDaemon {
    /// Of each task that is not STOPPED: its environment's group and its instance.
    live: BTreeMap<String, (String, String)>,
}

impl Oracle for OneDaemon {
    fn name(&self) -> &'static str {
        "one daemon"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        match fact {
            Fact::TaskBegan { task, group, instance } if group.starts_with("blox:") => {
                let place = ((*group).to_owned(), (*instance).to_owned());
                let other = self.live.iter().find(|(_, other)| **other == place);
                let other = other.map(|(other, _)| other.clone());
                self.live.insert((*task).to_owned(), place);
                other.map_or(Ok(()), |other| {
                    Err(format!("{task} begins beside {other} of {group} on {instance}"))
                })
            }
            Fact::TaskEnded { task } => {
                self.live.remove(*task);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second daemon is noticed unless the first has ended; those of others, and on other instances, are well.
    #[test]
    fn it_can_fail() {
        let mut oracle = OneDaemon::default();
        let mut begins = |task, group, instance| {
            let fact = Fact::TaskBegan { task, group, instance };
            oracle.note(&fact, &Mirrors::new())
        };
        begins("t1", "blox:a", "i1").expect("the first");
        begins("t2", "blox:b", "i1").expect("another environment's");
        begins("t3", "blox:a", "i2").expect("another instance");
        begins("t4", "service:web", "i1").expect("no daemon");
        begins("t5", "service:web", "i1").expect("no daemon");
        begins("t6", "blox:a", "i1").expect_err("a second one");
        let mut oracle = OneDaemon::default();
        for fact in [
            Fact::TaskBegan {
                task: "t1",
                group: "blox:a",
                instance: "i1",
            },
            Fact::TaskEnded { task: "t1" },
            Fact::TaskBegan {
                task: "t2",
                group: "blox:a",
                instance: "i1",
            },
        ] {
            oracle.note(&fact, &Mirrors::new()).expect("one after the other");
        }
    }
}
