//! One line for each budget.

/// The middle value; of an even number the lower of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[derive(Clone, Copy, Debug)]
pub enum Budget {
    AtLeast(f64),
    AtMost(f64),
}

impl Budget {
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// Counts what was over, and prints as it goes.
#[derive(Debug, Default)]
pub struct Report {
    pub over: usize,
}

impl Report {
    pub fn head(&self) {
        println!("{:<44} {:>14}   {:<40} {:>10}   {:<10}", "what", "measured", "reference, same run", "figure", "budget");
    }

    /// `figures` are the value held against the budget, one a round; their median decides.
    pub fn line(&mut self, what: &str, measured: &str, reference: &str, figures: &[f64], unit: Unit, budget: Budget) {
        let figure = median(figures.to_vec());
        let holds = budget.holds(figure);
        self.over += usize::from(!holds);
        let bound = match budget {
            Budget::AtLeast(bound) => format!(">= {}", unit.show(bound)),
            Budget::AtMost(bound) => format!("<= {}", unit.show(bound)),
        };
        let (low, high) = figures.iter().fold((f64::MAX, f64::MIN), |(low, high), f| (low.min(*f), high.max(*f)));
        let spread = if figures.len() > 1 { format!("  ({} .. {})", unit.show(low), unit.show(high)) } else { String::new() };
        let mark = if holds { "PASS" } else { "OVER" };
        println!("{what:<44} {measured:>14}   {reference:<40} {:>10}   {bound:<10} {mark}{spread}", unit.show(figure));
    }

    /// A figure without a budget of its own.
    pub fn note(&self, what: &str, measured: &str, reference: &str, figure: &str) {
        println!("{what:<44} {measured:>14}   {reference:<40} {figure:>10}   -");
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Percent,
    /// 0.1 is 1/10.
    Part,
    Times,
    Millis,
    Mebibytes,
    Megabytes,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.0} %", value * 100.0),
            Self::Part if value > 0.0 => format!("1/{:.*}", usize::from(value > 0.1), 1.0 / value),
            Self::Part => "0".to_owned(),
            Self::Times => format!("{value:.2}x"),
            Self::Millis if value < 10.0 => format!("{value:.2} ms"),
            Self::Millis => format!("{value:.0} ms"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::Megabytes => format!("{value:.1} MB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides_and_not_the_best_round() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        let mut report = Report::default();
        report.line("a", "", "", &[0.9, 0.5, 0.6], Unit::Percent, Budget::AtLeast(0.65));
        assert_eq!(report.over, 1);
        report.line("b", "", "", &[10.0], Unit::Millis, Budget::AtMost(60.0));
        assert_eq!(report.over, 1);
        report.line("nothing was measured", "", "", &[], Unit::Times, Budget::AtMost(2.0));
        assert_eq!(report.over, 2);
    }
}
