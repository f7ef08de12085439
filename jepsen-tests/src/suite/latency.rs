//! How long operations of a run took, over time: the median and the 99th percentile of writes and of linearizable reads in each half second, on a
//! logarithmic scale, how many ended well or not below, and a band with a name for each fault.

use std::fmt::Write;
use std::time::Duration;

use super::chart::{band, moment, words};
use super::folder::{Folder, FolderError};
use crate::check::history::{History, Operation, Outcome};
use crate::clock::{ns, seconds};
use crate::percentile::percentile;
use crate::timeline::{Band, escaped};

/// One point.
const BIN: Duration = Duration::from_millis(500);
/// Functions that read, and those that write; stale reads ask nobody else and are left out.
const READS: [&str; 3] = ["read", "list", "query"];
const WRITES: [&str; 6] = ["write", "cas", "delete", "add", "append", "once"];
/// The scale of latencies, milliseconds.
const SCALE_MS: std::ops::Range<f64> = 0.5..10_000.0;
const TICKS: [(f64, &str); 5] = [
    (1.0, "1 ms"),
    (10.0, "10 ms"),
    (100.0, "100 ms"),
    (1_000.0, "1 s"),
    (10_000.0, "10 s"),
];
/// Measures of the page, pixels.
const LEFT: f64 = 60.0;
const WIDTH: f64 = 1_140.0;
const RIGHT: f64 = 20.0;
/// Names of bands stand in so many lines above, so that they do not cover each other.
const NAME_LINES: usize = 4;
const NAME_LINE: f64 = 13.0;
const TOP: f64 = 84.0 + NAME_LINE * NAME_LINES as f64;
const LATENCY_HEIGHT: f64 = 240.0;
const RATE_TOP: f64 = TOP + LATENCY_HEIGHT + 34.0;
const RATE_HEIGHT: f64 = 70.0;
const HEIGHT: f64 = RATE_TOP + RATE_HEIGHT + 30.0;
/// How wide a letter of a name is.
const LETTER: f64 = 6.8;
/// Told apart without colours too well seen by few (Okabe and Ito).
const WRITE: &str = "#0072b2";
const READ: &str = "#009e73";
const FAILED: &str = "#d55e00";
const UNKNOWN: &str = "#cc79a7";
const WELL: &str = "#9ecae9";
const BAND: &str = "#f3e5b5";

/// A line: its colour, its percentile, its functions.
const LINES: [(&str, u32, &[&str], &str); 4] = [
    (READ, 50, &READS, "reads p50"),
    (WRITE, 50, &WRITES, "writes p50"),
    (READ, 99, &READS, "reads p99"),
    (WRITE, 99, &WRITES, "writes p99"),
];

/// Draws `latency.svg` from the folder's other files.
pub fn draw(folder: &Folder) -> Result<(), FolderError> {
    let history = folder.read_history()?;
    let plan = folder.read_json(&folder.plan())?;
    let bands: Vec<Band> = match folder.faults().exists() {
        true => folder.read_lines(&folder.faults())?.iter().map(band).collect(),
        false => Vec::new(),
    };
    let began_ns = moment(&history, "load").unwrap_or(0);
    let last_ns = history.operations.iter().filter_map(|one| one.ended_ns).max();
    let ended_ns = moment(&history, "last-reads").or(last_ns).unwrap_or(0);
    let page = Page {
        title: format!("Latency under faults: {}", words(&plan["nemeses"])),
        subtitle: format!(
            "Operations by the half second in which they were called, over three nodes; {} a second of {}. Seed {}.",
            plan["rate"],
            words(&plan["workloads"]),
            plan["seed"]
        ),
        history: &history,
        bands: &bands,
        began_ns,
        ended_ns: ended_ns.max(began_ns + ns(BIN)),
    };
    folder.write(&folder.latency_chart(), page.svg())
}

struct Page<'a> {
    title: String,
    subtitle: String,
    history: &'a History,
    bands: &'a [Band],
    began_ns: u64,
    ended_ns: u64,
}

impl Page<'_> {
    fn svg(&self) -> String {
        let width = LEFT + WIDTH + RIGHT;
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="11" fill="#444">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="24" font-size="16" font-weight="600" fill="#111">{}</text>
<text x="{LEFT}" y="42">{}</text>
"##,
            escaped(&self.title),
            escaped(&self.subtitle)
        );
        legend(&mut out);
        self.bands(&mut out);
        self.axes(&mut out);
        for (colour, percent, functions, _) in LINES {
            self.line(&mut out, colour, percent, functions);
        }
        self.rates(&mut out);
        out.push_str("</svg>\n");
        out
    }

    fn x(&self, at_ns: u64) -> f64 {
        let whole = (self.ended_ns - self.began_ns) as f64;
        LEFT + WIDTH * (at_ns.saturating_sub(self.began_ns) as f64 / whole).clamp(0.0, 1.0)
    }

    fn bins(&self) -> usize {
        usize::try_from((self.ended_ns - self.began_ns).div_ceil(ns(BIN))).unwrap_or(0)
    }

    /// The bin in which it was called.
    fn bin(&self, operation: &Operation) -> Option<usize> {
        let since_ns = operation.began_ns.checked_sub(self.began_ns)?;
        usize::try_from(since_ns / ns(BIN))
            .ok()
            .filter(|bin| *bin < self.bins())
    }

    fn middle(&self, bin: usize) -> f64 {
        self.x(self.began_ns + bin as u64 * ns(BIN) + ns(BIN) / 2)
    }

    fn bands(&self, out: &mut String) {
        // Where the name of each line above ends.
        let mut ends = [0.0; NAME_LINES];
        let shown = |band: &&Band| band.from_ns < self.ended_ns && band.until_ns > self.began_ns;
        let mut bands: Vec<&Band> = self.bands.iter().filter(shown).collect();
        bands.sort_by_key(|band| band.from_ns);
        for band in bands {
            let (left, right) = (self.x(band.from_ns), self.x(band.until_ns));
            let free = ends.iter().position(|end| *end <= left);
            let line = free.unwrap_or(NAME_LINES - 1);
            let y = TOP - 5.0 - NAME_LINE * line as f64;
            ends[line] = left + LETTER * band.name.len() as f64 + 4.0;
            let bottom = RATE_TOP + RATE_HEIGHT;
            let _ = writeln!(
                out,
                r##"<rect x="{left:.1}" y="{TOP}" width="{:.1}" height="{:.1}" fill="{BAND}" fill-opacity="0.7"/><line x1="{left:.1}" y1="{y:.1}" x2="{left:.1}" y2="{bottom:.1}" stroke="#999" stroke-width="0.6"/>"##,
                (right - left).max(1.0),
                bottom - TOP
            );
            // Where there is no room at all a band goes without its name.
            if free.is_some() {
                let _ = writeln!(
                    out,
                    r#"<text x="{:.1}" y="{y:.1}">{}</text>"#,
                    left + 2.0,
                    escaped(&band.name)
                );
            }
        }
    }

    fn axes(&self, out: &mut String) {
        for (ms, name) in TICKS {
            let y = latency_y(ms);
            let _ = writeln!(
                out,
                r##"<line x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"##,
                LEFT + WIDTH,
                LEFT - 6.0,
                y + 4.0
            );
        }
        let whole_s = seconds(self.ended_ns - self.began_ns);
        let each_s = if whole_s > 120.0 { 20 } else { 10 };
        let bottom = RATE_TOP + RATE_HEIGHT;
        for second in (0..=whole_s as u64).step_by(each_s) {
            let x = self.x(self.began_ns + second * 1_000_000_000);
            let _ = writeln!(
                out,
                r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{second} s</text>"#,
                bottom + 16.0
            );
        }
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" y1="{bottom:.1}" x2="{:.1}" y2="{bottom:.1}" stroke="#888"/>"##,
            LEFT + WIDTH
        );
    }

    /// A percentile of what was answered well; where nothing was, the line is broken.
    fn line(&self, out: &mut String, colour: &str, percent: u32, functions: &[&str]) {
        let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); self.bins()];
        for one in &self.history.operations {
            if one.outcome == Outcome::Ok
                && functions.contains(&&*one.function)
                && let (Some(bin), Some(ended_ns)) = (self.bin(one), one.ended_ns)
            {
                latencies[bin].push(ended_ns - one.began_ns);
            }
        }
        let (mut path, mut broken) = (String::new(), true);
        for (bin, values) in latencies.iter().enumerate() {
            let Some(latency_ns) = percentile(values, percent) else {
                broken = true;
                continue;
            };
            let step = if broken { 'M' } else { 'L' };
            let y = latency_y(latency_ns as f64 / 1e6);
            let _ = write!(path, "{step}{:.1} {y:.1}", self.middle(bin));
            // A point between two breaks is seen, too.
            if broken {
                path.push_str("h0.6");
            }
            broken = false;
        }
        let (thickness, opacity) = if percent > 50 { (1.5, 1.0) } else { (1.0, 0.55) };
        let _ = writeln!(
            out,
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{thickness}" stroke-opacity="{opacity}" stroke-linejoin="round"/>"#
        );
    }

    /// How many were called in each bin, by how they ended; those that did not end well at the bottom, so that one among many is seen.
    fn rates(&self, out: &mut String) {
        let mut counts = vec![[0_u32; 3]; self.bins()];
        for one in &self.history.operations {
            if let Some(bin) = self.bin(one) {
                counts[bin][one.outcome as usize] += 1;
            }
        }
        let highest = counts
            .iter()
            .map(|bin| bin.iter().sum::<u32>())
            .max()
            .unwrap_or(0)
            .max(1);
        let y = |count: u32| RATE_TOP + RATE_HEIGHT * (1.0 - f64::from(count) / f64::from(highest));
        let width = WIDTH / counts.len().max(1) as f64;
        let (ok, failed, unknown) = (
            Outcome::Ok as usize,
            Outcome::Failed as usize,
            Outcome::Unknown as usize,
        );
        for (colour, outcome, below) in [
            (WELL, ok, vec![failed, unknown]),
            (FAILED, failed, vec![unknown]),
            (UNKNOWN, unknown, Vec::new()),
        ] {
            let mut path = String::new();
            for (bin, counts) in counts.iter().enumerate() {
                let under: u32 = below.iter().map(|one| counts[*one]).sum();
                if counts[outcome] > 0 {
                    let left = LEFT + bin as f64 * width;
                    let _ = write!(
                        path,
                        "M{left:.1} {:.1}V{:.1}h{width:.2}V{0:.1}z",
                        y(under),
                        y(under + counts[outcome])
                    );
                }
            }
            let _ = writeln!(out, r#"<path d="{path}" fill="{colour}"/>"#);
        }
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{highest}</text><text x="{LEFT}" y="{:.1}">operations in half a second</text>"#,
            LEFT - 6.0,
            RATE_TOP + 10.0,
            RATE_TOP - 6.0
        );
    }
}

fn latency_y(ms: f64) -> f64 {
    let (least, most) = (SCALE_MS.start.ln(), SCALE_MS.end.ln());
    let part = (ms.clamp(SCALE_MS.start, SCALE_MS.end).ln() - least) / (most - least);
    TOP + LATENCY_HEIGHT * (1.0 - part)
}

fn legend(out: &mut String) {
    let mut x = LEFT;
    let lines = LINES
        .iter()
        .map(|(colour, percent, _, name)| (*colour, *name, *percent == 50));
    let bars = [
        (WELL, "answered well"),
        (FAILED, "failed"),
        (UNKNOWN, "unknown"),
        (BAND, "fault, to its mending"),
    ];
    let bars = bars.into_iter().map(|(colour, name)| (colour, name, false));
    for (place, (colour, name, is_thin)) in lines.chain(bars).enumerate() {
        let height = match (place < LINES.len(), is_thin) {
            (true, true) => 2.0,
            (true, false) => 4.0,
            (false, _) => 11.0,
        };
        let opacity = if is_thin { 0.55 } else { 1.0 };
        let _ = writeln!(
            out,
            r#"<rect x="{x:.0}" y="{:.1}" width="14" height="{height}" fill="{colour}" fill-opacity="{opacity}"/><text x="{:.0}" y="66">{name}</text>"#,
            62.0 - height / 2.0,
            x + 19.0
        );
        x += 36.0 + LETTER * name.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::history::History;

    fn operation(at_ms: u64, took_ms: u64, function: &str, phase: &str) -> String {
        let line = |phase: &str, at_ms: u64| {
            format!(
                "{{\"process\":{at_ms},\"type\":\"{phase}\",\"f\":\"{function}\",\"key\":\"k\",\"value\":\"a\",\"time\":{}}}",
                at_ms * 1_000_000
            )
        };
        let ended = line(phase, at_ms + took_ms).replace(
            &format!("\"process\":{}", at_ms + took_ms),
            &format!("\"process\":{at_ms}"),
        );
        format!("{}\n{ended}", line("invoke", at_ms))
    }

    /// A line for each percentile, broken where nothing was answered; failures in their colour; each band with its name, none twice.
    #[test]
    fn the_page_shows_lines_bands_and_failures() {
        let lines = [
            operation(100, 10, "write", "ok"),
            operation(1_700, 100, "write", "ok"),
            operation(2_200, 3, "read", "fail"),
        ];
        let history = History::parse(&lines.join("\n")).expect("a history");
        let band = |name: &str, from_s: u64| Band {
            name: name.to_owned(),
            from_ns: from_s * 1_000_000_000,
            until_ns: (from_s + 1) * 1_000_000_000,
        };
        let bands = [band("kill <leader>", 0), band("pause one", 1), band("later", 9)];
        let page = Page {
            title: "t".to_owned(),
            subtitle: "s".to_owned(),
            history: &history,
            bands: &bands,
            began_ns: 0,
            ended_ns: 3_000_000_000,
        };
        let text = page.svg();
        assert_eq!(text.matches("kill &lt;leader&gt;").count(), 1, "{text}");
        assert!(text.contains("pause one") && !text.contains("later"), "{text}");
        let writes = text.lines().find(|line| line.contains(&format!("stroke=\"{WRITE}\"")));
        assert_eq!(writes.map(|line| line.matches('M').count()), Some(2), "{text}");
        let bars = |colour: &str| text.matches(&format!("z\" fill=\"{colour}\"")).count();
        assert_eq!((bars(WELL), bars(FAILED), bars(UNKNOWN)), (1, 1, 0), "{text}");
        assert!(text.ends_with("</svg>\n"));
    }

    /// The scale: its ends are the panel's, ten times is always as far.
    #[test]
    fn the_scale_is_logarithmic() {
        assert!((latency_y(SCALE_MS.start) - (TOP + LATENCY_HEIGHT)).abs() < 1e-9);
        assert!((latency_y(99_999.0) - TOP).abs() < 1e-9);
        let step = |ms: f64| latency_y(ms) - latency_y(10.0 * ms);
        assert!((step(1.0) - step(100.0)).abs() < 1e-9);
    }
}
