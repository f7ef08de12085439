//! The story as a picture: requests answered per 50 ms, good ones and failed ones, with a band for each fault. Rows of half a minute, one below
//! the other.

use std::fmt::Write;

use crate::clock::{ns, seconds};
use crate::history::{Kind, Operation, Outcome};
use std::time::Duration;

/// One bar.
const BIN: Duration = Duration::from_millis(50);
/// Bars of a row.
const ROW_BINS: usize = 600;
/// Measures of the page, pixels.
const BIN_WIDTH: f64 = 2.0;
const ROW_HEIGHT: f64 = 90.0;
const ROW_GAP: f64 = 46.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 110.0;
/// A burst after a pause may be many times as high as all else: bars end at so many times the mean.
const CLIP: f64 = 3.0;
/// Told apart without colours too well seen by few (Okabe and Ito).
const WRITES: &str = "#0072b2";
const OTHERS: &str = "#9ecae9";
const FAILED: &str = "#d55e00";
const BAND: &str = "#f3e5b5";
const MARK: &str = "#666666";

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub struct Band {
    /// What.
    pub name: String,
    /// When the fault was ordered.
    pub from_ns: u64,
    /// When its mending was ordered.
    pub until_ns: u64,
}

/// What is drawn.
pub struct Page<'a> {
    /// In large letters.
    pub title: &'a str,
    /// In small ones.
    pub subtitle: &'a str,
    /// Everything that ended between these two.
    pub operations: &'a [Operation],
    /// The left edge.
    pub began_ns: u64,
    /// The right edge.
    pub ended_ns: u64,
    /// Behind the bars.
    pub bands: &'a [Band],
}

/// Where a bar begins, and its height, in requests.
type Span = fn(&Bin) -> (u32, u32);

/// Answers in 50 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Acknowledged writes.
    pub writes: u32,
    /// Reads and queries answered well.
    pub others: u32,
    /// What failed on two nodes, or whose outcome is unknown.
    pub failed: u32,
}

impl Bin {
    fn total(self) -> u32 {
        self.writes + self.others + self.failed
    }
}

/// Counts what ended in each 50 ms.
pub fn bins(operations: &[Operation], began_ns: u64, ended_ns: u64) -> Vec<Bin> {
    let count = ended_ns.saturating_sub(began_ns).div_ceil(ns(BIN));
    let mut bins = vec![Bin::default(); usize::try_from(count).unwrap_or(0)];
    for operation in operations.iter().filter(|one| one.ended_ns >= began_ns) {
        let number = usize::try_from((operation.ended_ns - began_ns) / ns(BIN)).unwrap_or(usize::MAX);
        let Some(bin) = bins.get_mut(number) else { continue };
        match (operation.outcome, operation.kind) {
            (Outcome::Ok, Kind::Write) => bin.writes += 1,
            (Outcome::Ok, _) => bin.others += 1,
            _ => bin.failed += 1,
        }
    }
    bins
}

/// The page as the text of an SVG file.
pub fn svg(page: &Page<'_>) -> String {
    let bins = bins(page.operations, page.began_ns, page.ended_ns);
    let busy = bins.iter().filter(|bin| bin.total() > 0).count().max(1);
    let mean = bins.iter().map(|bin| f64::from(bin.total())).sum::<f64>() / busy as f64;
    let highest = bins.iter().map(|bin| bin.total()).max().unwrap_or(0);
    let ceiling = f64::from(highest).min(mean * CLIP).max(1.0);
    let rows = bins.len().div_ceil(ROW_BINS).max(1);
    let width = LEFT + ROW_BINS as f64 * BIN_WIDTH + RIGHT;
    let height = TOP + rows as f64 * (ROW_HEIGHT + ROW_GAP);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="#444">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="28" font-size="17" font-weight="600" fill="#111">{}</text>
<text x="{LEFT}" y="47">{}</text>
"##,
        escaped(page.title),
        escaped(page.subtitle)
    );
    legend(&mut out);
    for row in 0..rows {
        let from = row * ROW_BINS;
        let shown = &bins[from.min(bins.len())..(from + ROW_BINS).min(bins.len())];
        let frame = Row {
            top: TOP + row as f64 * (ROW_HEIGHT + ROW_GAP),
            from_ns: page.began_ns + from as u64 * ns(BIN),
            ceiling,
        };
        frame.bands(&mut out, page.bands);
        frame.axis(&mut out, shown.len(), page.began_ns);
        frame.bars(&mut out, shown);
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String) {
    let mut x = LEFT;
    let entries = [
        (WRITES, "writes acknowledged"),
        (OTHERS, "reads and queries answered"),
        (FAILED, "failed on two nodes"),
        (BAND, "from the fault to its mending"),
    ];
    for (colour, name) in entries {
        let _ = writeln!(
            out,
            r#"<rect x="{x:.0}" y="60" width="12" height="12" fill="{colour}"/><text x="{:.0}" y="70">{name}</text>"#,
            x + 18.0
        );
        x += 40.0 + 6.6 * name.len() as f64;
    }
}

/// One row of the page.
struct Row {
    top: f64,
    from_ns: u64,
    /// Requests at its upper edge.
    ceiling: f64,
}

impl Row {
    fn bottom(&self) -> f64 {
        self.top + ROW_HEIGHT
    }

    /// Where a moment is, if it is in this row; before and after it, its edges.
    fn x(&self, at_ns: u64) -> f64 {
        let bins = at_ns.saturating_sub(self.from_ns) as f64 / ns(BIN) as f64;
        LEFT + bins.clamp(0.0, ROW_BINS as f64) * BIN_WIDTH
    }

    fn bands(&self, out: &mut String, bands: &[Band]) {
        let until_ns = self.from_ns + ROW_BINS as u64 * ns(BIN);
        for band in bands
            .iter()
            .filter(|band| band.from_ns < until_ns && band.until_ns > self.from_ns)
        {
            let (left, right) = (self.x(band.from_ns), self.x(band.until_ns));
            let _ = writeln!(
                out,
                r#"<rect x="{left:.1}" y="{:.1}" width="{:.1}" height="{ROW_HEIGHT}" fill="{BAND}"/>"#,
                self.top,
                (right - left).max(1.0)
            );
            if band.from_ns >= self.from_ns {
                let _ = writeln!(
                    out,
                    r#"<line x1="{left:.1}" y1="{:.1}" x2="{left:.1}" y2="{:.1}" stroke="{MARK}"/><text x="{left:.1}" y="{:.1}">{}</text>"#,
                    self.top - 4.0,
                    self.bottom(),
                    self.top - 7.0,
                    escaped(&band.name)
                );
            }
        }
    }

    fn axis(&self, out: &mut String, bins: usize, began_ns: u64) {
        let right = LEFT + bins as f64 * BIN_WIDTH;
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" y1="{0:.1}" x2="{right:.1}" y2="{0:.1}" stroke="#888"/><text x="{1}" y="{2:.1}" text-anchor="end">{3:.0}</text><text x="{1}" y="{0:.1}" text-anchor="end">0</text>"##,
            self.bottom(),
            LEFT - 6.0,
            self.top + 10.0,
            self.ceiling
        );
        let each = (5_000 / BIN.as_millis()) as usize;
        for bin in (0..=bins).step_by(each) {
            let at_ns = self.from_ns + bin as u64 * ns(BIN);
            let _ = writeln!(
                out,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{:.0} s</text>"#,
                self.x(at_ns),
                self.bottom() + 15.0,
                seconds(at_ns - began_ns)
            );
        }
    }

    /// Failed ones at the bottom, so that one among many is seen.
    fn bars(&self, out: &mut String, bins: &[Bin]) {
        let series: [(&str, Span); 3] = [
            (OTHERS, |bin| (bin.failed + bin.writes, bin.others)),
            (WRITES, |bin| (bin.failed, bin.writes)),
            (FAILED, |bin| (0, bin.failed)),
        ];
        let y = |requests: u32| self.bottom() - ROW_HEIGHT * (f64::from(requests) / self.ceiling).min(1.0);
        for (colour, part) in series {
            let mut path = String::new();
            for (number, bin) in bins.iter().enumerate() {
                let (below, height) = part(bin);
                if height > 0 {
                    let left = LEFT + number as f64 * BIN_WIDTH;
                    let _ = write!(
                        path,
                        "M{left:.0} {:.1}V{:.1}h{BIN_WIDTH}V{0:.1}z",
                        y(below),
                        y(below + height)
                    );
                }
            }
            let _ = writeln!(out, r#"<path fill="{colour}" d="{path}"/>"#);
        }
    }
}

/// Text as it may stand in XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(ended_ms: u64, kind: Kind, outcome: Outcome) -> Operation {
        Operation {
            kind,
            node: 0,
            began_ns: 0,
            ended_ns: ended_ms * 1_000_000,
            outcome,
            attempts: 1,
            revision: 0,
        }
    }

    /// Each is counted in the 50 ms in which it ended, what ended outside nowhere.
    #[test]
    fn requests_are_counted_where_they_end() {
        let operations = [
            operation(99, Kind::Write, Outcome::Ok),
            operation(100, Kind::Write, Outcome::Ok),
            operation(149, Kind::Read, Outcome::Ok),
            operation(150, Kind::Query, Outcome::Failed),
            operation(151, Kind::Write, Outcome::Unknown),
            operation(200, Kind::Write, Outcome::Ok),
        ];
        let counted = bins(&operations, 100_000_000, 200_000_000);
        let bin = |writes, others, failed| Bin { writes, others, failed };
        assert_eq!(counted, [bin(1, 1, 0), bin(0, 0, 2)]);
    }

    /// A row for each half minute, each band in the rows that it touches and named once, failures in their colour.
    #[test]
    fn the_page_shows_rows_bands_and_failures() {
        let operations = [
            operation(1_000, Kind::Write, Outcome::Ok),
            operation(31_000, Kind::Read, Outcome::Failed),
        ];
        let band = Band {
            name: "kill <a>".to_owned(),
            from_ns: 29_000_000_000,
            until_ns: 31_000_000_000,
        };
        let page = Page {
            title: "t",
            subtitle: "s",
            operations: &operations,
            began_ns: 0,
            ended_ns: 45_000_000_000,
            bands: &[band],
        };
        let text = svg(&page);
        assert_eq!(text.matches("kill &lt;a&gt;").count(), 1, "{text}");
        assert_eq!(
            text.matches(&format!(r#"height="{ROW_HEIGHT}" fill="{BAND}""#)).count(),
            2,
            "{text}"
        );
        let bars = |colour: &str| text.matches(&format!(r#"fill="{colour}" d="M"#)).count();
        assert_eq!((bars(WRITES), bars(OTHERS), bars(FAILED)), (1, 0, 1), "{text}");
        assert!(text.contains(">45 s<") && text.ends_with("</svg>\n"), "{text}");
    }
}
