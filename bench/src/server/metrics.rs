//! Numbers of a page of metrics in Prometheus' text format.

use super::ServerError;

/// A metric without labels.
pub(super) fn value(page: &str, name: &'static str) -> Result<u64, ServerError> {
    let found = lines(page, name).find(|(labels, _)| labels.is_empty());
    found.map(|(_, number)| number).ok_or(ServerError::NoMetric(name))
}

/// A metric over all its labels but those with this text.
pub(super) fn sum(page: &str, name: &str, without: &str) -> u64 {
    let found = lines(page, name).filter(|(labels, _)| !labels.contains(without));
    found.map(|(_, number)| number).sum()
}

/// Labels and number of each line of this name.
fn lines<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    page.lines().filter_map(move |line| {
        let (labels, number) = line.strip_prefix(name)?.rsplit_once(' ')?;
        if !labels.is_empty() && !labels.starts_with('{') {
            return None;
        }
        // Counters may be written as 1.2e+06.
        Some((labels, number.parse::<f64>().ok()? as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name is whole, labels are added up, numbers are read in each form.
    #[test]
    fn numbers_are_found() {
        let page = "# HELP a b\na_total 1.2e+06\na 7\nb{x=\"1\"} 2\nb{x=\"2\"} 3\n";
        assert_eq!(value(page, "a").ok(), Some(7));
        assert_eq!(value(page, "a_total").ok(), Some(1_200_000));
        assert_eq!(
            (
                sum(page, "b", "x=\"3\""),
                sum(page, "b", "x=\"1\""),
                sum(page, "c", "-")
            ),
            (5, 3, 0)
        );
        assert!(value(page, "b").is_err());
    }
}
