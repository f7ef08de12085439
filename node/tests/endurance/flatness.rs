//! Whether a quantity has stayed flat: the medians of a window after the warm-up and of the last one, so that neither a restart nor a
//! flush decides.

use super::sampler::{QUANTITIES, Sample, Samples};

/// What a quantity may grow by between the windows.
pub struct Allowance {
    /// As a part of what it was.
    pub part: f64,
    /// And this much more, in its unit: what is small may move more.
    pub more: f64,
}

/// One node's figures of one quantity.
#[derive(Debug)]
pub struct Growth {
    pub node: String,
    pub quantity: &'static str,
    pub early: f64,
    pub late: f64,
    pub highest: f64,
    pub flat: bool,
}

/// Compares the second quarter of the time with the last one, for every node and quantity.
pub fn growths(samples: &Samples, allowance: &Allowance) -> Vec<Growth> {
    let mut found = Vec::new();
    for (node, samples) in &samples.nodes {
        let end = samples.last().map_or(0.0, |sample| sample.at_seconds);
        for quantity in &QUANTITIES {
            let window = |from: f64, to: f64| -> Vec<f64> {
                let inside = |sample: &&Sample| (from * end..=to * end).contains(&sample.at_seconds);
                samples.iter().filter(inside).map(quantity.of).collect()
            };
            let (early, late) = (median(window(0.25, 0.5)), median(window(0.75, 1.0)));
            found.push(Growth {
                node: node.clone(),
                quantity: quantity.name,
                early,
                late,
                highest: window(0.0, 1.0).into_iter().fold(0.0, f64::max),
                flat: late <= early * (1.0 + allowance.part) + allowance.more,
            });
        }
    }
    found
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory_mib: impl Fn(u64) -> u64) -> Samples {
        let sample = |second: u64| Sample {
            at_seconds: second as f64,
            resident_bytes: memory_mib(second) << 20,
            handles: 100,
            threads: 20,
            log_bytes: 0,
            state_bytes: 0,
            snapshot_bytes: 0,
            disk_bytes: 0,
        };
        Samples {
            nodes: vec![("a".to_owned(), (0..3_600).map(sample).collect())],
        }
    }

    fn is_flat(samples: &Samples) -> bool {
        let allowance = Allowance { part: 0.1, more: 8.0 };
        growths(samples, &allowance).iter().all(|growth| growth.flat)
    }

    /// Sawteeth and restarts are flat; a steady leak of 40 MiB an hour is not.
    #[test]
    fn a_leak_is_seen_and_a_sawtooth_is_not() {
        assert!(is_flat(&samples(|second| 60 + second % 300 / 6)));
        assert!(is_flat(&samples(|second| if second == 3_599 { 500 } else { 60 })));
        assert!(!is_flat(&samples(|second| 60 + second * 40 / 3_600 + second % 7)));
    }
}
