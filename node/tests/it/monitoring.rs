//! Rules, dashboard and unit in `deploy/`: what they name exists, and the tools they are for take them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, Process, REGION, SimulatorProcess, eventually, seeded};

/// `systemd-analyze security` says ten times the exposure; over this the unit has been softened.
const EXPOSURE_TENTHS_MAX: u32 = 20;
/// Where a dashboard's variables stand, and what stands there for a check.
const VARIABLES: [(&str, &str); 4] = [
    ("$__rate_interval", "1m"),
    ("$instance", ".*"),
    ("$source", ".*"),
    ("$job", "blox"),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &str) -> String {
    let path = deploy().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("monitoring/grafana/dashboards/blox.json")).expect("a dashboard is JSON")
}

/// The words of a text that a metric of a node could be.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("blox_") || word.starts_with("process_"))
}

/// Every text under these keys, wherever they are.
fn texts<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    other => texts(other, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, keys, found)),
        _ => {}
    }
}

/// The names of everything a node says on `/metrics`.
fn names(page: &str) -> impl Iterator<Item = String> + '_ {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
}

/// Whatever the rules, their cases and the dashboard name is on the pages of a running cluster, also where it has never happened: an alert on what
/// only appears with its first count would not be raised the first time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_named_exists() {
    let (seed, _) = seeded();
    let (rules, cases) = (read("monitoring/alerts.yml"), read("monitoring/alerts_test.yml"));
    let dashboard = dashboard();
    let mut queries = Vec::new();
    texts(&dashboard, &["expr", "query", "definition"], &mut queries);
    let mut named: BTreeSet<&str> = metrics_in(&rules).chain(metrics_in(&cases)).collect();
    named.extend(queries.iter().flat_map(|query| metrics_in(query)));
    assert!(named.len() > 40, "too few to be all of them: {named:?}");

    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 2).await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let wanted = json!({"cluster": "alpha", "task_definition": "agent"});
    cluster.put("/v2/environments/agent", &wanted).await;
    eventually("every metric", DEADLINE, || async {
        let mut there = BTreeSet::new();
        for position in 0..cluster.nodes.len() {
            there.extend(names(&cluster.get(position, "/metrics").await.text()));
        }
        let missing: Vec<&&str> = named.iter().filter(|name| !there.contains(**name)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("no node says {missing:?}"))
        }
    })
    .await;
    println!("{} metrics are named, and all are there", named.len());
}

/// What follows `- alert: ` in the rules.
fn alerts(rules: &str) -> Vec<&str> {
    rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect()
}

/// Each alert has its page, one case in which it fires and one in which it does not; and no page is left of an alert that is gone.
#[test]
fn every_alert_has_its_page_and_its_cases() {
    let (rules, cases) = (read("monitoring/alerts.yml"), read("monitoring/alerts_test.yml"));
    let manual = read("../docs/operations/alerts.md");
    let alerts = alerts(&rules);
    let pages: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix("## Blox")).collect();
    assert_eq!(
        alerts
            .iter()
            .map(|alert| alert.trim_start_matches("Blox"))
            .collect::<Vec<_>>(),
        pages,
        "rules and docs/operations/alerts.md, in order"
    );
    for alert in &alerts {
        let url = format!("docs/operations/alerts.md#{}", alert.to_lowercase());
        assert_eq!(rules.matches(&format!("{url}\n")).count(), 1, "runbook_url of {alert}");
        let name = format!("alertname: {alert}");
        let of_it: Vec<bool> = cases
            .split("  - name: ")
            .filter(|case| case.lines().any(|line| line.trim() == name))
            .map(|case| case.contains("exp_alerts:"))
            .collect();
        assert!(
            of_it.contains(&true) && of_it.contains(&false),
            "cases of {alert}: {of_it:?}"
        );
    }
}

/// The dashboard can be imported, and every panel says what it shows.
#[test]
fn every_panel_says_what_it_shows() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "twice: {}",
            panel["id"]
        );
        let place = &panel["gridPos"];
        let edge = place["x"].as_u64().expect("a place") + place["w"].as_u64().expect("a width");
        assert!(edge <= 24, "{}", panel["title"]);
        if panel["type"] != "row" {
            for key in ["title", "description"] {
                assert!(panel[key].as_str().is_some_and(|text| !text.is_empty()), "{panel}");
            }
            assert!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{panel}"
            );
        }
    }
    // Alerts that a panel names exist.
    let rules = read("monitoring/alerts.yml");
    let mut descriptions = Vec::new();
    texts(&dashboard, &["description"], &mut descriptions);
    for word in descriptions
        .iter()
        .flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()))
    {
        let is_alert = word.len() > 4 && word.starts_with("Blox");
        assert!(!is_alert || alerts(&rules).contains(&word), "{word} is no alert");
    }
}

/// `promtool`, where it is installed or scripts/prerequisites.sh has put it.
fn promtool() -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("BLOX_CACHE").unwrap_or_else(|_| format!("{home}/.cache/blox"));
    [PathBuf::from("promtool"), Path::new(&cache).join("promtool/promtool")]
        .into_iter()
        .find(|program| {
            Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|said| said.status.success())
        })
}

fn well(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}: {all}", output.status);
    all
}

/// Prometheus' own tool takes the configuration and the rules, finds every case as it was promised, and can read every query of the dashboard.
#[test]
fn prometheus_takes_rules_and_queries() {
    let Some(promtool) = promtool() else {
        println!(
            "SKIPPED prometheus_takes_rules_and_queries: there is no promtool here (scripts/prerequisites.sh test)"
        );
        return;
    };
    let run = |arguments: &[&str]| {
        let output = Command::new(&promtool).args(arguments).output();
        well(output.expect("promtool can be started"))
    };
    let path = |name: &str| deploy().join("monitoring").join(name).display().to_string();
    println!("{}", run(&["check", "rules", &path("alerts.yml")]).trim());
    println!("{}", run(&["test", "rules", &path("alerts_test.yml")]).trim());

    let directory = Cluster::directory();
    let write = |name: &str, text: String| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("the test's directory can be written");
        file.display().to_string()
    };
    let here = read("monitoring/prometheus.yml").replace("/etc/prometheus/alerts.yml", &path("alerts.yml"));
    run(&["check", "config", &write("prometheus.yml", here)]);

    let dashboard = dashboard();
    let mut queries = Vec::new();
    texts(&dashboard, &["expr"], &mut queries);
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let query = VARIABLES
                .iter()
                .fold((*query).to_owned(), |query, (variable, by)| query.replace(variable, by));
            assert!(
                !query.contains('$'),
                "a variable that the dashboard does not have: {query}"
            );
            json!({"record": format!("query:{number}"), "expr": query})
        })
        .collect();
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    println!(
        "{} queries: {}",
        queries.len(),
        run(&["check", "rules", &write("queries.yml", rules)]).trim()
    );
}

/// Each override fits onto `docker-compose.yml`, and what it publishes, it publishes on loopback.
#[test]
fn compose_takes_the_overrides() {
    if !Command::new("docker-compose")
        .arg("version")
        .output()
        .is_ok_and(|said| said.status.success())
    {
        println!("SKIPPED compose_takes_the_overrides: there is no docker-compose here");
        return;
    }
    for overrides in [&[][..], &["aws"], &["monitoring"], &["aws", "monitoring"]] {
        let files = overrides.iter().map(|name| format!("deploy/compose/{name}.yml"));
        let files = std::iter::once("docker-compose.yml".to_owned()).chain(files);
        let mut compose = Command::new("docker-compose");
        compose.current_dir(deploy().join(".."));
        for file in files {
            compose.args(["-f", &file]);
        }
        let whole = well(compose.arg("config").output().expect("it can be started"));
        for published in whole.lines().filter(|line| line.trim_end().ends_with("/tcp")) {
            assert!(published.contains("127.0.0.1:"), "{overrides:?}: {published}");
        }
        for file in whole
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- ")?.strip_suffix(":ro"))
        {
            let source = file.split(':').next().unwrap_or_default();
            let ours = !source.ends_with("/.aws");
            assert!(
                !ours || Path::new(source).exists(),
                "{overrides:?}: {source} is not there"
            );
        }
    }
}

/// The unit is one that systemd takes without a word, and leaves the service little that it could harm.
#[test]
fn systemd_takes_the_unit() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if !analyze(&["--version"]).is_ok_and(|said| said.status.success()) {
        println!("SKIPPED systemd_takes_the_unit: there is no systemd-analyze here");
        return;
    }
    let directory = Cluster::directory();
    let unit = directory.path().join("blox.service");
    let program = Process::program().display().to_string();
    // It is verified that the program is there.
    std::fs::write(
        &unit,
        read("systemd/blox.service").replace("/usr/local/bin/blox", &program),
    )
    .expect("written");
    let unit = unit.display().to_string();
    let said = well(analyze(&["verify", &unit]).expect("it can be started"));
    assert_eq!(said.trim(), "", "the unit has faults");
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    let said =
        well(analyze(&["security", "--offline=true", "--no-pager", &threshold, &unit]).expect("it can be started"));
    println!("{}", said.lines().last().unwrap_or_default());
}
