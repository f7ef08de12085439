//! Times as ECS writes them: ISO 8601 in events, epoch seconds in API answers.

use jiff::Timestamp;
use serde_json::Number;

/// Epoch seconds (`1747055504.98`, also `1.74705550498E9`) as an event would write them: ISO 8601, UTC, milliseconds without trailing zeros
/// (`2025-05-12T13:11:44.98Z`). `None` where the number is no time between the years -9999 and 9999.
pub fn iso_from_epoch_seconds(seconds: &Number) -> Option<String> {
    let milliseconds = (seconds.as_f64()? * 1_000.0).round();
    // Beyond 2^53 a float no longer counts milliseconds one by one, and no calendar reaches that far.
    if milliseconds.abs() >= 9_007_199_254_740_992.0 {
        return None;
    }
    let timestamp = Timestamp::from_millisecond(milliseconds as i64).ok()?;
    Some(timestamp.to_string())
}

/// Milliseconds since the epoch of an ISO 8601 time with an offset or `Z`; `None` where it is none.
pub fn milliseconds_from_iso(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(number: &str) -> Option<String> {
        iso_from_epoch_seconds(&serde_json::from_str(number).expect("a number"))
    }

    #[test]
    fn epoch_seconds_become_what_an_event_would_say() {
        assert_eq!(iso("1747055504.98").as_deref(), Some("2025-05-12T13:11:44.98Z"));
        assert_eq!(iso("1.747055504980E9").as_deref(), Some("2025-05-12T13:11:44.98Z"));
        assert_eq!(iso("1747055526.053").as_deref(), Some("2025-05-12T13:12:06.053Z"));
        assert_eq!(iso("1747055526").as_deref(), Some("2025-05-12T13:12:06Z"));
        assert_eq!(iso("1481042466.991").as_deref(), Some("2016-12-06T16:41:06.991Z"));
    }

    #[test]
    fn numbers_that_are_no_time_are_left_alone() {
        assert_eq!(iso("1e300"), None);
        assert_eq!(iso("9007199254740"), None);
        assert_eq!(iso("-9e18"), None);
    }

    #[test]
    fn every_millisecond_survives_the_way_there_and_back() {
        for milliseconds in (1_747_055_504_000..1_747_055_506_000_i64).step_by(7) {
            let number = format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000);
            let text = iso(&number).expect("a time");
            assert_eq!(milliseconds_from_iso(&text), Some(milliseconds), "{number} -> {text}");
        }
    }
}
