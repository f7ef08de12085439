//! Histories by hand, for tests.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::history::History;
use super::verdict::Verdict;

/// A line each: `process type f key value @revision {more}`; `-` is null, a value may be JSON, the last two may be left out. A line's time is its
/// number, in milliseconds.
pub(crate) fn history(text: &str) -> History {
    let line = |(position, line): (usize, &str)| {
        let mut object = json!({"time": (position as u64 + 1) * 1_000_000});
        let (line, more) = line.split_at(line.find('{').unwrap_or(line.len()));
        if !more.is_empty() {
            let more: Value = serde_json::from_str(more).expect("members in JSON");
            for (name, value) in more.as_object().expect("an object") {
                object[name] = value.clone();
            }
        }
        let mut words = line.split_whitespace();
        let process = words.next().expect("a process");
        object["process"] = process
            .parse::<u64>()
            .map_or_else(|_| json!(process), |number| json!(number));
        object["type"] = json!(words.next().expect("a type"));
        object["f"] = json!(words.next().expect("a function"));
        object["key"] = words.next().map_or(Value::Null, |key| json!(key));
        for word in words {
            match word.strip_prefix('@') {
                Some(revision) => object["revision"] = json!(revision.parse::<u64>().expect("a revision")),
                None => object["value"] = value(word),
            }
        }
        object.to_string()
    };
    let lines: Vec<String> = text.lines().enumerate().map(line).collect();
    History::parse(&lines.join("\n")).expect("a history")
}

fn value(word: &str) -> Value {
    match word {
        "-" => Value::Null,
        word => serde_json::from_str(word).unwrap_or_else(|_| json!(word)),
    }
}

/// It is invalid, and says so in these words.
pub(crate) fn refuted(verdict: &Verdict, words: &str) {
    assert_eq!(verdict.word(), "invalid", "{verdict}");
    assert!(
        verdict.sentences().iter().any(|one| one.contains(words)),
        "'{words}' is not in: {verdict}"
    );
}

/// It is unknown, and says so in these words.
pub(crate) fn undecided(verdict: &Verdict, words: &str) {
    assert_eq!(verdict.word(), "unknown", "{verdict}");
    assert!(
        verdict.sentences().iter().any(|one| one.contains(words)),
        "'{words}' is not in: {verdict}"
    );
}

/// A seeded generator; the seed is printed, and can be given again by BLOX_TEST_SEED.
pub(crate) fn seeded() -> ChaCha8Rng {
    let given = std::env::var("BLOX_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed} (repeat with BLOX_TEST_SEED={seed})");
    ChaCha8Rng::seed_from_u64(seed)
}
