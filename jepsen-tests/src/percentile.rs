//! Percentiles by nearest rank: always one of the values.

/// The value below or at which `percent` of all are; `None` of nothing.
pub fn percentile(values: &[u64], percent: u32) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest rank: the median of four is the second, and the 99th of twenty is the largest.
    #[test]
    fn nearest_rank() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 1), Some(7));
        assert_eq!(percentile(&[40, 10, 30, 20], 50), Some(20));
        let twenty: Vec<u64> = (1..=20).collect();
        assert_eq!((percentile(&twenty, 50), percentile(&twenty, 99)), (Some(10), Some(20)));
        let thousand: Vec<u64> = (1..=1000).collect();
        assert_eq!(percentile(&thousand, 99), Some(990));
    }
}
