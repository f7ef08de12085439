use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn fault(name: &str, target: &str, gap_ms: u64, more: Value) -> Value {
    let mut fault = json!({"number": 1, "fault": name, "target": target, "seen": true, "gap_ms": gap_ms, "next_ms": gap_ms + 1, "evidence": format!("{name} was | seen")});
    for (name, value) in more.as_object().into_iter().flatten() {
        fault[name] = value.clone();
    }
    fault
}

fn run(number: u64, verdict: &str, faults: Vec<Value>) -> Value {
    json!({"number": number, "seed": 7, "verdict": verdict, "sentences": ["register: stale"], "took_s": 60.0, "load_s": 40, "lanes": 1, "serves": null,
        "began": "2026-11-23T02:55:24Z", "command": "jepsen-tests run --seed 7", "chart": format!("7-run-00{number}.svg"),
        "skipped": [{"nemesis": "disk-full", "why": "only root can mount disks"}], "settings": {"BLOX_SNAPSHOT_ENTRIES": "300"},
        "figures": {"operations": 1000, "by_function": {"register write": {"ok": 900, "failed": 60, "unknown": 40}}, "watch_lines": 5,
            "stale_as_linearizable": "invalid", "starts": 30, "starts_unanswered": 3, "doubles": 0, "seconds": {"set-up": 12.0, "load": 40.0}},
        "faults": faults})
}

fn state(seed: u64, runs: Vec<Value>) -> State {
    let path = format!("reports/campaigns/{seed}.json");
    let mut state = State::new(
        Path::new(&path),
        json!({"seed": seed, "time_s": 60, "rate": 200, "workloads": ["register"], "nemeses": ["kill", "loss"]}),
    );
    state.place(
        "machines",
        json!({"cores": 2, "memory_mib": 24_000, "kernel": "6.18", "system": "Debian", "docker": "20.10"}),
    );
    state.place(
        "images",
        json!({"name": "blox:local", "id": "sha256:0123456789abcdef", "revision": "170aeff"}),
    );
    for run in runs {
        state.add_run(run);
    }
    state
}

fn page(states: &[State], zoo: Option<&Value>) -> String {
    report(&Page {
        states,
        zoo,
        found: Some("# Found and mended\n\nOne thing.\n"),
        folder: Path::new("reports"),
    })
}

fn contains(text: &str, expected: &[&str]) {
    for expected in expected {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

/// Counts of all campaigns together, percentiles of those that were alone, what became of damaged nodes, and where each is to be seen.
#[test]
fn a_report_adds_up() {
    let alone = |more: Value| {
        let mut all = json!({"alone": true, "rolling": true});
        for (name, value) in more.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    };
    let faults = vec![
        fault("kill", "leader", 400, alone(json!({}))),
        fault("kill", "leader", 900, alone(json!({}))),
        fault("launch", "leader", 500, alone(json!({}))),
        fault("loss", "all", 30, json!({})),
        fault("power-cut", "all", 3_000, json!({})),
        fault("zero", "one", 10, json!({"came": "refused", "file": "LogTable"})),
    ];
    let mut one = state(7, vec![run(1, "valid", faults)]);
    one.add_agreement(
        3,
        &crate::check::linear::agreement::Agreement {
            histories: 10_000,
            good: 4_000,
            ..Default::default()
        },
    );
    let other = state(8, vec![run(2, "valid", vec![fault("kill", "one", 20, json!({}))])]);
    let zoo = json!({"exhibits": [
        {"bug": "stale-reads", "title": "reads ask nobody", "caught": true, "workloads": ["register", "set"], "nemeses": ["isolate:leader"], "seed": 5,
            "runs": 2, "seconds": 61.4, "check": "register: linearizable", "control": {"verdict": "valid"}},
        {"bug": "lost", "title": "lost writes", "caught": false, "workloads": ["set"], "nemeses": [], "runs": 3, "seconds": 90.0}]});
    let text = page(&[one, other], Some(&zoo));
    contains(
        &text,
        &[
            "**No promise was broken, and every run was decided.** 2 runs of 2 campaigns (seeds 7, 8), 2,000 operations, 7 faults",
            "| kinds of faults at least once | 2 | 2 |",
            "| kill: leader, kill -9, then started again | 100 | 2 |",
            "| leader killed, paused or cut off during a roll-out | 200 | 3 |",
            "| of those inside a StartTask | 100 | 1 |",
            "| small random histories judged by the checker and by brute force | 100,000 | 10,000 |",
            "| 7 | 2026-11-23 | 1 | 1 (1) | 1,000 | 6 | 1, 0, 0 | 170aeff (0123456789ab) |",
            "Machine: 2 cores, 24000 MiB of memory, kernel 6.18, Debian, Docker 20.10.",
            "300 entries in 2 runs",
            "| register write | 1,800 | 120 | 80 |",
            "10 lines told by watches",
            "| kill | leader | 2 | 2 | kill was \\| seen |",
            "| kill leader | 2 | 400 | 900 | 900 | 900 |",
            "| kill | 1 | 20 | 20 | 20 | 20 |",
            "1 (all: 1), in 1 runs with 900 acknowledged writes",
            "nothing acknowledged was lost",
            "| LogTable | 1 | 0 | 0 |",
            "no instance ever ran two: 0 doubles",
            "(campaigns/7-run-001.svg)",
            "| reads ask nobody (`stale-reads`) | register, set | isolate:leader | 5 | 2 | 61 | register: linearizable |",
            "| lost writes (`lost`) | set |  | - | 3 | 90 | **not caught** |",
            "1 of 2 were caught, 0 by the first run. The same runs without the bug: 1 valid, 0 not.",
            "The two differ on **0**",
            "- disk-full: only root can mount disks",
            "## Found and mended\n\nOne thing.",
            "| first part, 2 runs | 12.0 | 40.0 |",
            "make jepsen JEPSEN_FLAGS='--seed 8 --time 60s --rate 200 --goals issue'",
            "`jepsen-tests run --seed 7`",
        ],
    );
    assert!(!text.contains("## Not valid"), "{text}");
}

/// What was broken stands at the top and by name; a double says why there was one; what was not done is said.
#[test]
fn what_is_wrong_is_told() {
    let mut broken = run(3, "invalid", Vec::new());
    broken["figures"]["doubles"] = json!(1);
    broken["figures"]["doubles_told"] = json!([{"instance": "i-1", "lasted_ms": 1_500, "explanation": null}]);
    let text = page(&[state(7, vec![broken])], None);
    contains(
        &text,
        &[
            "**Promises were broken in 1 runs, 0 could not be decided; checker and brute force differ on 0.**",
            "## Not valid\n\n- campaign 7, run 3, invalid: `jepsen-tests run --seed 7`\n  - register: stale",
            "| 7, 3 | i-1 | 1,500 | none: the promise is broken |",
            "| kinds of faults at least once | 2 | 0; not: kill, loss |",
            "Deliberate bugs were not tried",
        ],
    );
    contains(&page(&[], None), &["**Nothing was run.**"]);
}
