//! Charts as SVG, both axes logarithmic: ten times is always as far. Pure.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;

use plotters::prelude::*;

use crate::figure::Figure;
use crate::rows::growth::Point;
use crate::server::Side;

const SIZE: (u32, u32) = (900, 480);
/// Told apart without colours too well seen by few (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// One line: its name and points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart: title, what the axes are, lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above.
    pub title: &'static str,
    /// Along.
    pub x: &'static str,
    /// Up.
    pub y: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

/// Latency of puts of 256 bytes against the load that was answered, by the number of clients; `None` where those rows were not measured.
pub fn latency_against_load(figures: &[Figure]) -> Option<Chart> {
    let mut lines: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for clients in ["1 client", "16 clients", "64 clients", "256 clients"] {
        let of = |what: &str| {
            let name = format!("put, {clients}, 256 B: {what}");
            figures.iter().find(|figure| figure.name == name)
        };
        let rate = of("throughput")?;
        for percentile in ["p50", "p99"] {
            let latency = of(percentile)?;
            let ours = (rate.our_median()?, latency.our_median()?);
            let peer = (rate.peer_median()?, latency.peer_median()?);
            lines.entry((Side::Ours.name(), percentile)).or_default().push(ours);
            lines.entry((Side::Peer.name(), percentile)).or_default().push(peer);
        }
    }
    let series = lines.into_iter().map(|((side, percentile), points)| Series {
        name: format!("{side} {percentile}"),
        points,
    });
    Some(Chart {
        title: "Put of 256 bytes by 1, 16, 64 and 256 clients",
        x: "puts a second",
        y: "milliseconds",
        series: series.collect(),
    })
}

/// The median of one client against how many keys, or tasks, there are.
pub fn growth(points: &[Point], title: &'static str, things: &'static str) -> Option<Chart> {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        let name = format!("{} {}", point.side.name(), point.what);
        lines.entry(name).or_default().push((point.count as f64, point.p50_ms));
    }
    let series: Vec<Series> = lines
        .into_iter()
        .map(|(name, points)| Series { name, points })
        .collect();
    (!series.is_empty()).then_some(Chart {
        title,
        x: things,
        y: "median, milliseconds",
        series,
    })
}

impl Chart {
    /// The text of an SVG file.
    pub fn svg(&self) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = around(all().map(|(x, _)| *x));
        let y = around(all().map(|(_, y)| *y));
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(self.title, ("sans-serif", 18))
                .margin(16)
                .x_label_area_size(44)
                .y_label_area_size(64)
                .build_cartesian_2d(x.log_scale(), y.log_scale())?;
            chart
                .configure_mesh()
                .x_desc(self.x)
                .y_desc(self.y)
                .light_line_style(WHITE)
                .draw()?;
            for (number, series) in self.series.iter().enumerate() {
                let colour = COLOURS[number % COLOURS.len()];
                chart
                    .draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)).point_size(3))?
                    .label(&series.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .draw()?;
            area.present()?;
        }
        Ok(text)
    }
}

/// A range with some room around all values.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for value in values {
        least = least.min(value);
        most = most.max(value);
    }
    least / 1.5..most * 1.5
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four lines with a point for each number of clients, each named in the picture; none without all the rows.
    #[test]
    fn loads_become_lines() {
        let figure = |name: String, value: f64| Figure {
            ours: vec![value],
            peer: vec![2.0 * value],
            ..Figure::new(name, "")
        };
        let mut figures = Vec::new();
        for (place, clients) in ["1 client", "16 clients", "64 clients", "256 clients"]
            .into_iter()
            .enumerate()
        {
            for (what, value) in [("throughput", 1_000.0), ("p50", 1.0), ("p99", 5.0)] {
                figures.push(figure(
                    format!("put, {clients}, 256 B: {what}"),
                    value * (place + 1) as f64,
                ));
            }
        }
        let chart = latency_against_load(&figures).expect("all rows");
        assert_eq!(chart.series.len(), 4);
        assert!(chart.series.iter().all(|series| series.points.len() == 4));
        let svg = chart.svg().expect("a picture");
        for name in ["blox p50", "blox p99", "etcd p50", "etcd p99"] {
            assert!(svg.contains(name), "{svg}");
        }
        assert_eq!(latency_against_load(&figures[3..]), None);
        assert_eq!(growth(&[], "", ""), None);
    }
}
