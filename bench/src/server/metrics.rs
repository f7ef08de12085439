//! Numbers of a page of metrics in Prometheus' text format.

use super::ServerError;

/// A metric without labels.
pub(super) fn value(page: &str, name: &'static str) -> Result<u64, ServerError> {
    let found = lines(page, name).find(|(labels, _)| labels.is_empty());
    found.map(|(_, number)| number).ok_or(ServerError::NoMetric(name))
}

/// Count and seconds of a summary or histogram, over all its labels with this text.
pub(super) fn summed(page: &str, family: &str, with: &str) -> (f64, f64) {
    let of = |suffix: &str| {
        let name = format!("{family}_{suffix}");
        let values = numbers(page, &name).filter(|(labels, _)| labels.contains(with));
        values.map(|(_, number)| number).sum()
    };
    (of("count"), of("sum"))
}

/// A metric over all its labels but those with this text.
pub(super) fn sum(page: &str, name: &str, without: &str) -> u64 {
    let found = lines(page, name).filter(|(labels, _)| !labels.contains(without));
    found.map(|(_, number)| number).sum()
}

/// As [`numbers`], of what counts whole things.
fn lines<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    numbers(page, name).map(|(labels, number)| (labels, number as u64))
}

/// Labels and number of each line of this name.
fn numbers<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let (labels, number) = line.strip_prefix(name)?.rsplit_once(' ')?;
        if !labels.is_empty() && !labels.starts_with('{') {
            return None;
        }
        // Counters may be written as 1.2e+06.
        Some((labels, number.parse().ok()?))
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
        let page = "t_sum{m=\"PUT\",c=\"200\"} 0.25\nt_count{m=\"PUT\",c=\"200\"} 2\nt_sum{m=\"GET\"} 9\nt_count{m=\"GET\"} 9\n";
        assert_eq!(summed(page, "t", "m=\"PUT\""), (2.0, 0.25));
    }
}
