//! Whether two sets of times differ: the Mann-Whitney U test, which asks nothing of how times are spread.

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranks {
    /// Pairs of which the first is the greater; ties count half.
    pub u: f64,
    /// How likely a difference like this is, or a greater one, if there is none. Two-sided, with corrections for ties and continuity;
    /// by the normal distribution, which is right from some twenty values each.
    pub p: f64,
}

/// Compares `first` with `second`.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Ranks {
    let mut all: Vec<(f64, bool)> = first.iter().map(|value| (*value, true)).chain(second.iter().map(|value| (*value, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut rank_sum, mut ties, mut before) = (0.0, 0.0, 0);
    for group in all.chunk_by(|one, other| one.0.total_cmp(&other.0).is_eq()) {
        let count = as_f64(group.len());
        // Ranks begin at 1; who is tied shares the mean of their ranks.
        let rank = as_f64(before) + (count + 1.0) / 2.0;
        rank_sum += rank * as_f64(group.iter().filter(|(_, is_first)| *is_first).count());
        ties += count * count * count - count;
        before += group.len();
    }
    let (n, m) = (as_f64(first.len()), as_f64(second.len()));
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    let p = if variance > 0.0 { erfc(distance / variance.sqrt() / std::f64::consts::SQRT_2) } else { 1.0 };
    Ranks { u, p: p.min(1.0) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tries are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// The complementary error function for `x >= 0`: its series near zero, its continued fraction beyond (Abramowitz and Stegun 7.1.5, 7.1.14).
fn erfc(x: f64) -> f64 {
    let root = std::f64::consts::PI.sqrt();
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100_i32 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / root * sum;
    }
    let fraction = (1..=60_i32).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    (-x * x).exp() / root / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * other.abs().max(1e-3)
    }

    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, value) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_265),
            (2.5, 4.069_520_174_449_589e-4),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            assert!(close(erfc(x), value), "{x}: {} {value}", erfc(x));
        }
    }

    /// U by its definition: every pair.
    fn by_pairs(first: &[f64], second: &[f64]) -> f64 {
        let one = |a: &f64, b: &f64| {
            if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        };
        first.iter().flat_map(|a| second.iter().map(move |b| one(a, b))).sum()
    }

    #[test]
    fn u_counts_pairs_and_ties_make_the_spread_smaller() {
        let (first, second) = ([1.0, 2.0, 2.0, 3.0, 9.0, 9.0, 9.0], [2.0, 2.0, 4.0, 8.0, 9.0, 10.0]);
        let ranks = mann_whitney(&first, &second);
        assert!(close(ranks.u, by_pairs(&first, &second)), "{ranks:?}");
        assert!(close(ranks.u + mann_whitney(&second, &first).u, 42.0));
        assert!(close(ranks.p, mann_whitney(&second, &first).p));
        // n = 7, m = 6, ties of 4 and 4: the variance is 42 / 12 * (14 - (60 + 60) / (13 * 12)).
        let spread = (42.0_f64 / 12.0 * (14.0 - 120.0 / 156.0)).sqrt();
        let z = ((ranks.u - 21.0).abs() - 0.5) / spread;
        assert!(close(ranks.p, erfc(z / 2.0_f64.sqrt())), "{ranks:?}");
    }

    #[test]
    fn a_difference_is_seen_and_none_is_not() {
        let values: Vec<f64> = (0..2_000).map(|n| f64::from((n * 7_919) % 2_003)).collect();
        let later: Vec<f64> = values.iter().map(|value| value + 100.0).collect();
        let same: Vec<f64> = (0..2_000).map(|n| f64::from((n * 6_367 + 11) % 2_003)).collect();
        assert!(mann_whitney(&values, &later).p < 1e-6);
        assert!(mann_whitney(&values, &same).p > 0.1);
        assert!(close(mann_whitney(&[1.0; 5], &[1.0; 9]).p, 1.0), "all alike");
        // One below the other: the least that eight values can say.
        assert!(mann_whitney(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]).p < 0.05);
    }
}
