//! On what a campaign runs: a figure of another machine is another figure.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::command;

/// The label of an image that says which commit it was made of.
const REVISION_LABEL: &str = "org.opencontainers.image.revision";

/// Cores, memory and kernel of this machine, and its Docker; what cannot be found out is null.
pub async fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let docker = command::run("docker", &["version", "--format", "{{.Server.Version}}"], &[]).await;
    json!({
        "cores": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "memory_mib": memory_mib(&read("/proc/meminfo")),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "system": system(&read("/etc/os-release")),
        "docker": docker.ok(),
    })
}

/// An image by its name: id, and the commit that it was made of.
pub async fn image(name: &str) -> Value {
    let shown = command::run("docker", &["image", "inspect", "--format", "{{json .}}", name], &[]).await;
    let shown: Value = shown
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    json!({"name": name, "id": shown["Id"], "revision": shown["Config"]["Labels"][REVISION_LABEL]})
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}

fn system(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// The moment as `2026-11-23T02:55:24Z`.
pub fn now() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since_1970.as_secs())
}

/// Seconds since 1970 as a date and a time.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0; years counted from March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known moments, before and after leap days.
    #[test]
    fn moments_are_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_825_600), "2000-02-29T12:00:00Z");
        assert_eq!(utc(1_795_402_524), "2026-11-23T02:55:24Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_709_251_200), "2024-03-01T00:00:00Z");
    }

    /// The files of any Linux.
    #[test]
    fn machines_are_read() {
        assert_eq!(memory_mib("MemFree: 1 kB\nMemTotal:       24634512 kB\n"), Some(24_057));
        assert_eq!(
            system("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!((memory_mib(""), system("")), (None, None));
    }
}
