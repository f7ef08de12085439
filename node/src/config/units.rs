//! Durations and sizes as people write them: `50ms`, `24h`, `256MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Units of time, longest name first where one ends in another, in milliseconds.
const TIME_UNITS: [(&str, f64); 5] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3)];
/// Units of size, in bytes.
const SIZE_UNITS: [(&str, f64); 7] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("B", 1.0),
];
/// Beyond this a number is no longer exact as a float, and no setting of ours is meant that way.
const NUMBER_MAX: f64 = 9e15;

/// A duration written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

/// A number of bytes written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanSize(pub u64);

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<HumanDuration, String> {
        let milliseconds = amount(text, &TIME_UNITS)
            .ok_or_else(|| format!("{text:?} is no duration: write a number and a unit, as in \"50ms\", \"1.5s\", \"10m\", \"24h\" or \"7d\""))?;
        Ok(HumanDuration(Duration::from_secs_f64(milliseconds / 1e3)))
    }
}

impl FromStr for HumanSize {
    type Err = String;

    fn from_str(text: &str) -> Result<HumanSize, String> {
        let bytes = amount(text, &SIZE_UNITS).ok_or_else(|| {
            format!("{text:?} is no size: write a number and a unit, as in \"256MiB\", \"4GiB\" or \"1000B\"")
        })?;
        Ok(HumanSize(bytes as u64))
    }
}

/// The number before one of the units, times that unit.
fn amount(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let amount = number.parse::<f64>().ok()? * factor;
    (amount <= NUMBER_MAX).then_some(amount)
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let (unit, factor) = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find(|(_, factor)| milliseconds > 0 && milliseconds.is_multiple_of(*factor))
            .unwrap_or(("ms", 1));
        write!(formatter, "{}{unit}", milliseconds / factor)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HumanSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HumanSize, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unit is read, and shown again in the largest unit that divides it.
    #[test]
    fn durations_are_read_and_shown() {
        for (text, milliseconds, shown) in [
            ("50ms", 50, "50ms"),
            ("1.5s", 1_500, "1500ms"),
            ("10 m", 600_000, "10m"),
            ("24h", 86_400_000, "1d"),
            ("0s", 0, "0ms"),
        ] {
            let HumanDuration(duration) = text.parse().expect(text);
            assert_eq!(duration.as_millis(), milliseconds, "{text}");
            assert_eq!(HumanDuration(duration).to_string(), shown, "{text}");
        }
    }

    /// Sizes know binary and decimal units.
    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("256MiB", 256 << 20), ("4GiB", 4 << 30), ("1.5KB", 1_500), ("12 B", 12)] {
            assert_eq!(text.parse::<HumanSize>(), Ok(HumanSize(bytes)), "{text}");
        }
    }

    /// A number without a unit, a unit without a number, an unknown unit and a number beyond all sense are refused, with an example.
    #[test]
    fn nonsense_is_refused() {
        for text in ["50", "ms", "", "5 weeks", "-1s", "1..5s", "99999999999999999999d"] {
            let refusal = text.parse::<HumanDuration>().expect_err(text);
            assert!(refusal.contains("50ms"), "{refusal}");
        }
        assert!("4 gigs".parse::<HumanSize>().is_err());
    }
}
