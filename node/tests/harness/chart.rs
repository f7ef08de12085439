//! Charts over time as SVG: panels one above another, a line a node, marks across all of them.

use std::fmt::Write;

/// Width of a page, pixels.
const WIDTH: f64 = 900.0;
/// Height of one panel's plot, pixels.
const PLOT_HEIGHT: f64 = 150.0;
/// Room around the plots, pixels: for the values' and the times' labels, and for titles.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 84.0;
const TITLE_HEIGHT: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// About so many labels an axis.
const TICKS: f64 = 5.0;
/// More points than pixels show nothing more.
const POINTS_MAX: usize = 800;
/// Told apart without colours too well seen by few (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// One line: seconds and values.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One quantity.
pub struct Panel {
    pub title: String,
    pub unit: String,
    pub lines: Vec<Line>,
}

/// Something that happened.
pub struct Mark {
    pub at_seconds: f64,
    /// Index of the line whose colour it has.
    pub line: usize,
}

/// Panels over the same time.
pub struct Page {
    pub title: String,
    pub subtitle: String,
    pub panels: Vec<Panel>,
    pub marks: Vec<Mark>,
    /// What a mark means.
    pub marks_mean: String,
}

/// Seconds, or minutes where there are many.
struct TimeAxis {
    end_seconds: f64,
    unit: &'static str,
    unit_seconds: f64,
}

impl TimeAxis {
    fn over(page: &Page) -> TimeAxis {
        let times = page
            .panels
            .iter()
            .flat_map(|panel| &panel.lines)
            .flat_map(|line| &line.points)
            .map(|(at, _)| *at);
        let end_seconds = times.fold(1.0, f64::max);
        let (unit, unit_seconds) = if end_seconds > 300.0 {
            ("minutes", 60.0)
        } else {
            ("seconds", 1.0)
        };
        TimeAxis {
            end_seconds,
            unit,
            unit_seconds,
        }
    }

    fn x(&self, at_seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at_seconds / self.end_seconds).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, f64)> {
        let end = self.end_seconds / self.unit_seconds;
        let step = step(end, 2.0 * TICKS);
        (0..=(end / step) as usize).map(move |number| {
            let value = number as f64 * step;
            (self.x(value * self.unit_seconds), value)
        })
    }
}

/// The page as the text of an SVG file.
pub fn svg(page: &Page) -> String {
    let axis = TimeAxis::over(page);
    let height = TOP + page.panels.len() as f64 * (PLOT_HEIGHT + TITLE_HEIGHT) + BOTTOM;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="#444">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="28" font-size="17" font-weight="600" fill="#111">{}</text>
<text x="{LEFT}" y="47">{}</text>
"##,
        escaped(&page.title),
        escaped(&page.subtitle)
    );
    legend(&mut out, page);
    for (number, panel) in page.panels.iter().enumerate() {
        let top = TOP + number as f64 * (PLOT_HEIGHT + TITLE_HEIGHT) + TITLE_HEIGHT;
        draw_panel(&mut out, panel, &axis, top, &page.marks);
    }
    let bottom = height - BOTTOM;
    for (x, value) in axis.ticks() {
        let _ = writeln!(
            out,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 17.0,
            number_text(value)
        );
    }
    let _ = writeln!(
        out,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
        (LEFT + WIDTH - RIGHT) / 2.0,
        bottom + 35.0,
        axis.unit
    );
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, page: &Page) {
    let names = page.panels.first().map(|panel| &panel.lines);
    let mut x = LEFT;
    for (number, line) in names.into_iter().flatten().enumerate() {
        let _ = writeln!(
            out,
            r##"<line x1="{x:.0}" y1="66" x2="{:.0}" y2="66" stroke="{}" stroke-width="3"/><text x="{:.0}" y="70">{}</text>"##,
            x + 18.0,
            colour(number),
            x + 24.0,
            escaped(&line.name)
        );
        x += 44.0 + 7.0 * line.name.chars().count() as f64;
    }
    if !page.marks.is_empty() {
        let _ = writeln!(
            out,
            r##"<line x1="{0:.0}" y1="58" x2="{0:.0}" y2="74" stroke="#666" stroke-dasharray="3 3"/><text x="{1:.0}" y="70">{2}</text>"##,
            x + 4.0,
            x + 12.0,
            escaped(&page.marks_mean)
        );
    }
}

fn draw_panel(out: &mut String, panel: &Panel, axis: &TimeAxis, top: f64, marks: &[Mark]) {
    let values = panel
        .lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(_, value)| *value);
    let highest = values.fold(0.0, f64::max);
    let step = step(highest.max(f64::MIN_POSITIVE), TICKS);
    let ceiling = ((highest / step).floor() + 1.0) * step;
    let bottom = top + PLOT_HEIGHT;
    let y = |value: f64| bottom - PLOT_HEIGHT * (value / ceiling);
    let _ = writeln!(
        out,
        r##"<text x="{LEFT}" y="{:.1}" font-weight="600" fill="#222">{} <tspan font-weight="400" fill="#666">({})</tspan></text>"##,
        top - 9.0,
        escaped(&panel.title),
        escaped(&panel.unit)
    );
    for number in 0..=(ceiling / step).round() as usize {
        let value = number as f64 * step;
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" y1="{0:.1}" x2="{1:.1}" y2="{0:.1}" stroke="{2}"/><text x="{3:.1}" y="{4:.1}" text-anchor="end">{5}</text>"##,
            y(value),
            WIDTH - RIGHT,
            if number == 0 { "#888" } else { "#e5e5e5" },
            LEFT - 8.0,
            y(value) + 4.0,
            number_text(value)
        );
    }
    for mark in marks {
        let _ = writeln!(
            out,
            r#"<line x1="{0:.1}" y1="{top:.1}" x2="{0:.1}" y2="{bottom:.1}" stroke="{1}" stroke-dasharray="3 3" opacity="0.7"/>"#,
            axis.x(mark.at_seconds),
            colour(mark.line)
        );
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let every = line.points.len().div_ceil(POINTS_MAX).max(1);
        let mut points = String::new();
        for (at, value) in line.points.iter().step_by(every) {
            let _ = write!(points, "{:.1},{:.1} ", axis.x(*at), y(*value));
        }
        let _ = writeln!(
            out,
            r#"<polyline fill="none" stroke="{}" stroke-width="1.5" stroke-linejoin="round" points="{}"/>"#,
            colour(number),
            points.trim_end()
        );
    }
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A round step that divides `span` into about `wanted` parts.
fn step(span: f64, wanted: f64) -> f64 {
    let rough = span / wanted;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn number_text(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
