//! Users' keys: revisions and versions as etcd counts them, and writes with preconditions.

use super::{State, code};
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::precondition::Condition;
use crate::proto::{DeleteKey, KeyWritten, Precondition, PutKey, RefusalCode};

fn put(value: &'static str, condition: Option<Condition>) -> Operation {
    let precondition = condition.map(|condition| Precondition {
        condition: Some(condition),
    });
    Operation::PutKey(PutKey {
        key: "a\0b".into(),
        value: value.into(),
        precondition,
    })
}

fn delete(condition: Option<Condition>) -> Operation {
    let precondition = condition.map(|condition| Precondition {
        condition: Some(condition),
    });
    Operation::DeleteKey(DeleteKey {
        key: "a\0b".into(),
        precondition,
    })
}

fn written(state: &mut State, operation: Operation) -> KeyWritten {
    match state.apply(operation) {
        Answer::KeyWritten(written) => written,
        other => panic!("not written: {other:?}"),
    }
}

#[test]
fn writes_answer_with_what_stands_and_what_stood_there() {
    let mut state = State::new();
    let first = written(&mut state, put("one", None));
    assert_eq!(first.previous, None);
    let current = first.current.expect("written");
    assert_eq!(
        (current.create_revision, current.mod_revision, current.version),
        (1, 1, 1)
    );
    let second = written(&mut state, put("two", None));
    let previous = second.previous.expect("there was one");
    assert_eq!((previous.value.as_ref(), previous.mod_revision), (b"one".as_slice(), 1));
    let current = second.current.expect("written");
    assert_eq!(
        (
            current.key.as_ref(),
            current.create_revision,
            current.mod_revision,
            current.version
        ),
        (b"a\0b".as_slice(), 1, 2, 2)
    );
    let gone = written(&mut state, delete(None));
    assert_eq!(
        (gone.current, gone.previous.expect("there was one").mod_revision),
        (None, 2)
    );
    let reborn = written(&mut state, put("three", None)).current.expect("written");
    assert_eq!((reborn.create_revision, reborn.mod_revision, reborn.version), (4, 4, 1));
}

#[test]
fn preconditions_hold_or_refuse_with_the_present_revision() {
    let mut state = State::new();
    let absent = [Condition::Exists(true), Condition::ModRevision(7)];
    for condition in absent {
        let refusal = state.refusal_of(put("x", Some(condition)));
        assert_eq!(
            (code(&refusal), refusal.detail.as_str()),
            (RefusalCode::PreconditionFailed, "0")
        );
    }
    written(&mut state, put("one", Some(Condition::ModRevision(0))));
    let refusal = state.refusal_of(put("x", Some(Condition::ModRevision(0))));
    assert_eq!(
        (code(&refusal), refusal.detail.as_str()),
        (RefusalCode::PreconditionFailed, "1")
    );
    assert_eq!(refusal.message, "the key was to be absent and is at revision 1");
    assert_eq!(
        code(&state.refusal_of(put("x", Some(Condition::Exists(false))))),
        RefusalCode::PreconditionFailed
    );
    written(&mut state, put("two", Some(Condition::ModRevision(1))));
    written(&mut state, put("three", Some(Condition::Exists(true))));
    let refusal = state.refusal_of(delete(Some(Condition::ModRevision(2))));
    assert_eq!(
        (code(&refusal), refusal.detail.as_str()),
        (RefusalCode::PreconditionFailed, "3")
    );
    written(&mut state, delete(Some(Condition::ModRevision(3))));
    let refusal = state.refusal_of(delete(None));
    assert_eq!(
        (code(&refusal), refusal.detail.as_str()),
        (RefusalCode::KeyMissing, "0")
    );
}
