//! A violation, small enough to read: up to where there is an order, how it ends, and what stands around the answer that fits into none.

use std::cmp::Reverse;

use super::Limits;
use super::register::{Register, State};
use super::search::{Decision, decide};
use crate::check::history::{Operation, shortened};

/// Steps shown of the end of the longest order.
const ORDER_SHOWN: usize = 5;
/// Operations shown of those under way beside the one that fits nowhere, of those over before, and of those whose outcome is unknown.
const BESIDE_SHOWN: usize = 6;
const BEFORE_SHOWN: usize = 3;
const UNKNOWN_SHOWN: usize = 3;

/// Explains why a key is not linearizable. Operations are those of the key, in the order of their calls; `stuck`: the line where its search ended.
pub(super) fn violation(key: &str, operations: &[&Operation], stuck: usize, limits: Limits) -> String {
    let mut answers: Vec<&Operation> = operations.iter().copied().filter(|one| one.is_answer()).collect();
    answers.sort_by_key(|one| one.returned());
    let has_order = |answer: &&Operation| prefix(operations, answer.returned(), limits).is_some();
    // A part of a linearizable history from its beginning is linearizable: where the search did not end at the first answer that makes it
    // impossible, that one can be bisected.
    let mut well = answers.partition_point(|answer| answer.returned() < stuck);
    let exact =
        answers.get(well).is_some_and(|answer| !has_order(answer)) && (well == 0 || has_order(&answers[well - 1]));
    if !exact {
        well = answers.partition_point(has_order);
    }
    let Some(culprit) = answers.get(well) else {
        return format!("key {key}: not linearizable");
    };
    let (told, state) = match well
        .checked_sub(1)
        .and_then(|last| prefix(operations, answers[last].returned(), limits))
    {
        Some(order) => order,
        None => (Vec::new(), "absent".to_owned()),
    };
    let mut text = format!(
        "key {key}: no order of its operations explains {}\n  the longest part that has one ends before that answer: {well} of {} answers; \
         then the key can be {state}",
        culprit.told(),
        answers.len()
    );
    section(&mut text, "that order ends", &told);
    section(&mut text, "around it", &around(operations, culprit));
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        text.push_str(&format!("\n  {title}:\n    {}", lines.join("\n    ")));
    }
}

/// The end of an order of everything up to a line, and the state after it; `None` if there is none.
fn prefix(operations: &[&Operation], until_line: usize, limits: Limits) -> Option<(Vec<String>, String)> {
    let register = Register::of(operations, until_line).ok()?;
    let Decision::Linearizable(order) = decide(&register, limits) else {
        return None;
    };
    let mut state = State::NEW;
    let step_of = |position: &usize| {
        register
            .completed
            .iter()
            .chain(&register.unknown)
            .find(|one| one.operation == *position)
    };
    for one in order.iter().filter_map(step_of) {
        state = state.after(one.step).unwrap_or(state);
    }
    let skipped = order.len().saturating_sub(ORDER_SHOWN);
    let told = order[skipped..]
        .iter()
        .map(|position| operations[*position].told())
        .collect();
    let value = &register.values[state.value as usize];
    let shown = match (value.is_null(), state.exact) {
        (true, _) => "absent".to_owned(),
        (false, true) => format!("{} at revision {}", shortened(value), state.revision),
        (false, false) => format!("{} at revision {} or above", shortened(value), state.revision),
    };
    Some((told, shown))
}

fn around(operations: &[&Operation], culprit: &Operation) -> Vec<String> {
    let others = || {
        let all = operations.iter().copied();
        all.filter(|one| one.called != culprit.called && one.called < culprit.returned())
    };
    let known = |one: &&Operation| one.is_answer();
    let beside = others().filter(known).filter(|one| !one.precedes(culprit)).collect();
    let before = others().filter(known).filter(|one| one.precedes(culprit)).collect();
    let unknown = others().filter(|one| !known(one)).collect();
    let mut chosen = Vec::new();
    chosen.extend(nearest(beside, BESIDE_SHOWN, |one| one.called));
    chosen.extend(nearest(before, BEFORE_SHOWN, Operation::returned));
    chosen.extend(nearest(unknown, UNKNOWN_SHOWN, |one| one.called));
    chosen.sort_by_key(|one| one.called);
    chosen.iter().map(|one| one.told()).collect()
}

/// Those with the highest of something.
fn nearest(mut some: Vec<&Operation>, count: usize, of: fn(&Operation) -> usize) -> Vec<&Operation> {
    some.sort_by_key(|one| Reverse(of(one)));
    some.truncate(count);
    some
}
