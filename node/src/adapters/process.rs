//! What the operating system says of this process, from /proc.

use std::fs;

/// The kernel reports processor time in hundredths of a second to every program (USER_HZ, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;
/// `VmRSS` is given in KiB.
const BYTES_PER_KIB: f64 = 1024.0;
/// Fields of /proc/self/stat after the command's closing parenthesis: state is the first, utime and stime stand here (proc(5), 14 and 15).
const STAT_FIELD_USER: usize = 11;
const STAT_FIELD_SYSTEM: usize = 12;

/// Name and value of each gauge that could be read; a system without /proc has none.
pub fn readings() -> Vec<(&'static str, f64)> {
    let mut readings = Vec::new();
    let mut add = |name, value: Option<f64>| readings.extend(value.map(|value| (name, value)));
    add(
        "process_resident_memory_bytes",
        resident_bytes(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
    );
    add(
        "process_cpu_seconds_total",
        processor_seconds(&fs::read_to_string("/proc/self/stat").unwrap_or_default()),
    );
    add(
        "process_open_fds",
        fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64),
    );
    readings
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * BYTES_PER_KIB)
}

fn processor_seconds(stat: &str) -> Option<f64> {
    // The command may hold spaces and parentheses: fields are counted from its end.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(STAT_FIELD_USER)? + ticks(STAT_FIELD_SYSTEM)?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms of proc(5) are read, a command with spaces and parentheses too.
    #[test]
    fn proc_files_are_read() {
        assert_eq!(resident_bytes("Name:\tblox\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 100 0 0";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds(""), None);
        assert_eq!(resident_bytes(""), None);
    }
}
