//! The members as a table for people.

use serde_json::Value;

const HEADINGS: [&str; 9] = [
    "NUMBER",
    "NAME",
    "ROLE",
    "LEADER",
    "HEARD",
    "BEHIND",
    "PEERS",
    "USERS",
    "INCARNATION",
];

/// One line a member, then one a candidate; columns as wide as they must be.
pub(super) fn render(list: &Value) -> String {
    let of = |name: &str| list[name].as_array().cloned().unwrap_or_default();
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(of("members").iter().map(|member| row(member, text(&member["role"]))));
    rows.extend(
        of("candidates")
            .iter()
            .map(|candidate| row(candidate, "candidate".to_owned())),
    );
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut shown = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        shown.push_str(cells.join("  ").trim_end());
        shown.push('\n');
    }
    if list["changing"] == true {
        shown.push_str("A change of the voters is half done; the leader finishes it.\n");
    }
    for candidate in of("candidates") {
        let name = text(&candidate["name"]);
        let taken = of("members").iter().any(|member| member["name"] == candidate["name"]);
        let verb = if taken { "replace" } else { "promote" };
        shown.push_str(&format!("`{name}` asks to be taken in: blox member {verb} {name}\n"));
    }
    shown
}

fn row(member: &Value, role: String) -> [String; 9] {
    let heard = match member["last_heard_ms"].as_u64() {
        Some(milliseconds) => format!("{}.{} s ago", milliseconds / 1_000, milliseconds % 1_000 / 100),
        None => "never".to_owned(),
    };
    let leader = if member["leader"] == true { "yes" } else { "" };
    [
        text(&member["id"]),
        text(&member["name"]),
        role,
        leader.to_owned(),
        heard,
        text(&member["entries_behind"]),
        text(&member["peer_address"]),
        text(&member["http_address"]),
        text(&member["incarnation"]),
    ]
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lines_up_and_says_what_to_do() {
        let list = json!({
            "changing": false,
            "members": [
                {"id": 1, "name": "a", "role": "voter", "leader": true, "last_heard_ms": 0, "entries_behind": 0,
                 "peer_address": "a:1", "http_address": "a:2", "incarnation": "i"},
                {"id": 3, "name": "c", "role": "voter", "leader": false, "last_heard_ms": 61_250, "entries_behind": null,
                 "peer_address": "c:1", "http_address": "c:2", "incarnation": "j"},
            ],
            "candidates": [
                {"name": "c", "last_heard_ms": 120, "peer_address": "c:1", "http_address": "c:2", "incarnation": "k"},
            ],
        });
        let expected = "\
NUMBER  NAME  ROLE       LEADER  HEARD       BEHIND  PEERS  USERS  INCARNATION
1       a     voter      yes     0.0 s ago   0       a:1    a:2    i
3       c     voter              61.2 s ago  -       c:1    c:2    j
-       c     candidate          0.1 s ago   -       c:1    c:2    k
`c` asks to be taken in: blox member replace c
";
        assert_eq!(render(&list), expected);
    }
}
