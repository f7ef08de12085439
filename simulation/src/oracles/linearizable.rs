//! A register that is written and read linearizably behaves as one copy: some order of all operations, each at a moment between its call
//! and its answer, explains every value read. Source: Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects";
//! the search is that of Wing and Gong with Lowe's memory of what was tried ("Testing for linearizability").

use std::collections::HashSet;

/// The most operations one register's history may have.
pub const OPERATIONS_MAX: usize = 128;

/// What was asked of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A value was written.
    Write(u64),
    /// This was read; `None`: nothing was there.
    Read(Option<u64>),
}

/// One operation. Times are only compared.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What.
    pub operation: Operation,
    /// When it was asked.
    pub called: u64,
    /// When it was answered; `None`: what became of it is not known.
    pub answered: Option<u64>,
}

/// Whether some order explains the history.
pub fn is_linearizable(history: &[Call]) -> bool {
    assert!(
        history.len() <= OPERATIONS_MAX,
        "a history of {} operations",
        history.len()
    );
    let mut tried = HashSet::new();
    search(history, 0, None, &mut tried)
}

fn search(history: &[Call], done: u128, value: Option<u64>, tried: &mut HashSet<(u128, Option<u64>)>) -> bool {
    if !tried.insert((done, value)) {
        return false;
    }
    let open = |number: usize| done & (1 << number) == 0;
    let first_answer = history
        .iter()
        .enumerate()
        .filter(|(number, _)| open(*number))
        .filter_map(|(_, call)| call.answered)
        .min();
    // Only what is not known to have happened is left: it may not have.
    let Some(first_answer) = first_answer else { return true };
    history.iter().enumerate().any(|(number, call)| {
        if !open(number) || call.called > first_answer {
            return false;
        }
        let after = match call.operation {
            Operation::Write(written) => Some(written),
            Operation::Read(read) if read == value => value,
            Operation::Read(_) => return false,
        };
        search(history, done | (1 << number), after, tried)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, called: u64, answered: Option<u64>) -> Call {
        Call {
            operation: Operation::Write(value),
            called,
            answered,
        }
    }

    fn read(value: Option<u64>, called: u64, answered: u64) -> Call {
        Call {
            operation: Operation::Read(value),
            called,
            answered: Some(answered),
        }
    }

    /// Concurrent operations may take effect in any order, and an unknown write at any later moment or never.
    #[test]
    fn what_one_copy_could_do_is_accepted() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[
            write(1, 0, Some(10)),
            read(None, 1, 2),
            read(Some(1), 3, 4)
        ]));
        assert!(is_linearizable(&[
            write(1, 0, Some(1)),
            write(2, 2, None),
            read(Some(1), 3, 4),
            read(Some(2), 5, 6),
            read(Some(2), 7, 8),
        ]));
        assert!(is_linearizable(&[write(1, 0, None), read(None, 5, 6)]));
    }

    /// A lost write, a stale read and a value that comes and goes are noticed.
    #[test]
    fn it_can_fail() {
        assert!(!is_linearizable(&[write(1, 0, Some(1)), read(None, 2, 3)]), "lost");
        assert!(
            !is_linearizable(&[write(1, 0, Some(1)), write(2, 2, Some(3)), read(Some(1), 4, 5)]),
            "stale"
        );
        assert!(
            !is_linearizable(&[
                write(1, 0, Some(1)),
                write(2, 2, None),
                read(Some(2), 3, 4),
                read(Some(1), 5, 6)
            ]),
            "it comes and goes"
        );
    }
}
