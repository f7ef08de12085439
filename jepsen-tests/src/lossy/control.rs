//! What a disk is told: a line of JSON each, answered by a line of JSON.
//!
//! ```text
//! {"do":"cut"}  {"do":"cut","torn":7}      the power is cut, or in the middle of writing, by a seed; what that took
//! {"do":"restore"}                         it is back
//! {"do":"fail_syncs","syncs":{...}}        see `Failing`; `null`: none fails any more
//! {"do":"sync"}                            everything becomes durable
//! {"do":"counters"}                        see `Counters`
//! ```
//! An answer is an object; one with a member `error` says why nothing was done.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::cut::Cut;
use super::disk::{Disk, Refusal};
use super::failing::Failing;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The power is cut.
    Cut(Cut),
    /// It is back.
    Restore,
    /// Syncs fail from now on.
    FailSyncs(Option<Failing>),
    /// Everything becomes durable.
    Sync,
    /// Says what was counted.
    Counters,
}

impl Order {
    /// As it is sent.
    pub fn to_json(&self) -> Value {
        match self {
            Order::Cut(Cut::Clean) => json!({"do": "cut"}),
            Order::Cut(Cut::Torn(seed)) => json!({"do": "cut", "torn": seed}),
            Order::Restore => json!({"do": "restore"}),
            Order::FailSyncs(failing) => json!({"do": "fail_syncs", "syncs": failing.as_ref().map(Failing::to_json)}),
            Order::Sync => json!({"do": "sync"}),
            Order::Counters => json!({"do": "counters"}),
        }
    }

    /// As it was sent; `None`: of another form.
    pub fn of_json(value: &Value) -> Option<Order> {
        match value["do"].as_str()? {
            "cut" => Some(Order::Cut(match &value["torn"] {
                Value::Null => Cut::Clean,
                seed => Cut::Torn(seed.as_u64()?),
            })),
            "restore" => Some(Order::Restore),
            "fail_syncs" => Some(Order::FailSyncs(match &value["syncs"] {
                Value::Null => None,
                syncs => Some(Failing::of_json(syncs)?),
            })),
            "sync" => Some(Order::Sync),
            "counters" => Some(Order::Counters),
            _ => None,
        }
    }
}

/// Does what a line says; the answer.
pub(super) fn obey(disk: &Mutex<Disk>, line: &str) -> Value {
    let order = serde_json::from_str(line).ok().and_then(|value| Order::of_json(&value));
    let Some(order) = order else {
        return json!({"error": format!("`{line}` is no order")});
    };
    let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
    let done: Result<Value, Refusal> = match order {
        Order::Cut(how) => disk.cut(how).map(|report| report.to_json()),
        Order::Restore => {
            disk.restore();
            Ok(json!({}))
        }
        Order::FailSyncs(failing) => {
            disk.fail_syncs(failing);
            Ok(json!({}))
        }
        Order::Sync => disk.sync_all().map(|()| json!({})),
        Order::Counters => Ok(disk.counters().to_json()),
    };
    done.unwrap_or_else(|refusal| json!({"error": refusal.to_string()}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lossy::testing::Scratch;
    use crate::lossy::{Durability, Pages};

    /// What is sent is what is understood.
    #[test]
    fn orders_survive_the_wire() {
        let failing = Failing {
            under: "data/".to_owned(),
            ends: String::new(),
            except: String::new(),
            skip: 3,
            count: None,
            pages: Pages::Reverted,
            lies: false,
        };
        for order in [
            Order::Cut(Cut::Clean),
            Order::Cut(Cut::Torn(u64::MAX)),
            Order::Restore,
            Order::FailSyncs(Some(failing)),
            Order::FailSyncs(None),
            Order::Sync,
            Order::Counters,
        ] {
            let sent = order.to_json().to_string();
            let received = serde_json::from_str(&sent).expect("JSON");
            assert_eq!(Order::of_json(&received), Some(order), "{sent}");
        }
    }

    /// What makes no sense, or cannot be done, is answered by an error.
    #[test]
    fn nonsense_is_an_error() {
        let scratch = Scratch::new("control");
        let disk = Disk::make(&scratch.path().join("backing"), Durability::Strict).expect("made");
        let disk = Mutex::new(disk);
        let fails = |line: &str| obey(&disk, line)["error"].is_string();
        assert!(fails("cut") && fails(r#"{"do":"dance"}"#) && fails(r#"{"do":"fail_syncs","syncs":{}}"#));
        assert!(!fails(r#"{"do":"cut"}"#));
        assert!(fails(r#"{"do":"cut"}"#), "it has no power to cut");
        assert!(!fails(r#"{"do":"restore"}"#) && !fails(r#"{"do":"cut","torn":1}"#));
        assert_eq!(obey(&disk, r#"{"do":"counters"}"#)["cuts"], 2);
    }
}
