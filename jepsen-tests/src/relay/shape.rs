//! What becomes of packets on their way.

/// Held longer than this is gone for good: nobody asks for more, milliseconds.
pub const HOLD_MS_MAX: u64 = 10_000;

/// How long packets are held, and which of them are treated otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Shape {
    /// Each packet is held at least so long, milliseconds.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=HOLD_MS_MAX))]
    pub least_ms: u64,
    /// And at most so long, milliseconds. By itself this never lets one overtake another.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=HOLD_MS_MAX))]
    pub most_ms: u64,
    /// So many of a hundred are held longer, and those that follow overtake them.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    pub late_percent: u32,
    /// By up to so long, milliseconds.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=HOLD_MS_MAX))]
    pub late_ms: u64,
    /// So many of a hundred are sent twice.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    pub twice_percent: u32,
    /// So many of a hundred are not sent at all.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    pub lost_percent: u32,
}

impl Shape {
    /// As the command line has it.
    pub fn words(&self) -> Vec<String> {
        let all = [
            ("--least-ms", self.least_ms),
            ("--most-ms", self.most_ms),
            ("--late-percent", self.late_percent.into()),
            ("--late-ms", self.late_ms),
            ("--twice-percent", self.twice_percent.into()),
            ("--lost-percent", self.lost_percent.into()),
        ];
        all.iter()
            .flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()])
            .collect()
    }

    /// For people.
    pub fn told(&self) -> String {
        let mut parts = Vec::new();
        if self.most_ms > 0 {
            parts.push(format!("held {} to {} ms", self.least_ms, self.most_ms));
        }
        if self.late_percent > 0 {
            parts.push(format!(
                "{} % of them up to {} ms longer",
                self.late_percent, self.late_ms
            ));
        }
        if self.twice_percent > 0 {
            parts.push(format!("{} % sent twice", self.twice_percent));
        }
        if self.lost_percent > 0 {
            parts.push(format!("{} % lost", self.lost_percent));
        }
        parts.join(", ")
    }
}
