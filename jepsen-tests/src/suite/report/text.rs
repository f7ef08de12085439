//! Numbers and tables as Markdown.

use std::fmt::Write;

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A table; without rows a dash in the place of one.
pub(super) fn table<const N: usize>(out: &mut String, head: &[&str; N], rows: &[[String; N]]) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| in_cell(cell)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if rows.is_empty() {
        let _ = writeln!(out, "|{}", " - |".repeat(N));
    }
}

/// On one line, without what would end a cell.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Values of JSON that are words, in one sentence.
pub(super) fn words(list: &serde_json::Value) -> String {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_tables_can_be_read() {
        assert_eq!(
            [7, 123, 1_234, 1_234_567].map(grouped),
            ["7", "123", "1,234", "1,234,567"]
        );
        let mut out = String::new();
        table(&mut out, &["a", "b"], &[["x|y".to_owned(), "two\nlines".to_owned()]]);
        assert_eq!(out, "| a | b |\n|---|---|\n| x\\|y | two lines |\n");
    }
}
