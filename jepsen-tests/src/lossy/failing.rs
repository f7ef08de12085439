//! Which syncs fail.

use serde_json::{Value, json};

/// What becomes of pages whose sync failed; the disk has them in no case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// They are read still, until the power is cut, and count as clean.
    Kept,
    /// What the disk holds is read.
    Reverted,
}

/// Syncs of files (not of directories) that write nothing, and answer EIO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The path of the file begins so, counted from the mount: `data/raft/`; empty: any.
    pub under: String,
    /// And ends so: `.log`; empty: any.
    pub ends: String,
    /// But not so; empty: without exception.
    pub except: String,
    /// So many syncs of such files succeed before.
    pub skip: u32,
    /// Then so many fail; `None`: every one.
    pub count: Option<u32>,
    /// What becomes of what they were to write.
    pub pages: Pages,
    /// They do not say so: the disk lies. With that anybody loses what it acknowledges, and whoever checks must notice.
    pub lies: bool,
}

impl Failing {
    pub(super) fn matches(&self, path: &str) -> bool {
        let is_excepted = !self.except.is_empty() && path.starts_with(&self.except);
        path.starts_with(&self.under) && path.ends_with(&self.ends) && !is_excepted
    }

    /// Whether the sync of such a file fails that comes now.
    pub(super) fn takes(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.count {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// As it is sent.
    pub fn to_json(&self) -> Value {
        let kept = self.pages == Pages::Kept;
        json!({
            "under": self.under, "ends": self.ends, "except": self.except, "skip": self.skip, "count": self.count, "kept": kept, "lies": self.lies,
        })
    }

    /// As it was sent; `None`: of another form.
    pub fn of_json(value: &Value) -> Option<Failing> {
        let small = |value: &Value| u32::try_from(value.as_u64()?).ok();
        Some(Failing {
            under: value["under"].as_str()?.to_owned(),
            ends: value["ends"].as_str()?.to_owned(),
            except: value["except"].as_str().unwrap_or_default().to_owned(),
            skip: small(&value["skip"])?,
            count: match &value["count"] {
                Value::Null => None,
                count => Some(small(count)?),
            },
            pages: if value["kept"].as_bool()? {
                Pages::Kept
            } else {
                Pages::Reverted
            },
            lies: value["lies"].as_bool().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many are let pass, so many fail, then none; or every one from then on.
    #[test]
    fn syncs_are_counted() {
        let mut failing = Failing {
            under: "data/raft/".to_owned(),
            ends: ".log".to_owned(),
            except: "data/raft/old/".to_owned(),
            skip: 2,
            count: Some(1),
            pages: Pages::Kept,
            lies: true,
        };
        assert!(failing.matches("data/raft/db/000004.log"));
        assert!(!failing.matches("data/raft/durable") && !failing.matches("data/state/000004.log"));
        assert!(!failing.matches("data/raft/old/000004.log"));
        assert_eq!([0; 5].map(|_| failing.takes()), [false, false, true, false, false]);
        failing.count = None;
        assert_eq!([0; 3].map(|_| failing.takes()), [true; 3]);
        assert_eq!(Failing::of_json(&failing.to_json()), Some(failing));
        assert_eq!(Failing::of_json(&json!({"under": ""})), None);
    }
}
