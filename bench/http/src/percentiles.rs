//! Percentiles of all samples, exactly: there are few enough to keep each, so there is no histogram to round them.

use std::time::Duration;

/// The one that so many of a thousand do not exceed; sorted before. Nothing if there is none.
pub fn per_mille(sorted: &[Duration], mille: usize) -> Duration {
    let rank = (sorted.len() * mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The middle one, or the mean of the two in the middle. Not a number if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// p99 of each window, in milliseconds, at the middle of the window in seconds. Windows without requests are left out.
pub fn p99_by_window(samples: impl IntoIterator<Item = (Duration, Duration)>, window: Duration) -> Vec<(f64, f64)> {
    let mut windows: Vec<Vec<Duration>> = Vec::new();
    for (due, took) in samples {
        let at = usize::try_from(due.as_nanos() / window.as_nanos()).unwrap_or(usize::MAX);
        if windows.len() <= at {
            windows.resize(at + 1, Vec::new());
        }
        windows[at].push(took);
    }
    let mut points = Vec::new();
    let mut middle = window / 2;
    for mut took in windows {
        took.sort_unstable();
        if !took.is_empty() {
            points.push((middle.as_secs_f64(), milliseconds(per_mille(&took, 990))));
        }
        middle += window;
    }
    points
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{median, p99_by_window, per_mille};

    fn millis(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_percentile_is_a_sample_and_the_smallest_that_so_many_do_not_exceed() {
        let hundred = millis(1..=100);
        assert_eq!(per_mille(&hundred, 500), Duration::from_millis(50));
        assert_eq!(per_mille(&hundred, 990), Duration::from_millis(99));
        assert_eq!(per_mille(&hundred, 999), Duration::from_millis(100));
        assert_eq!(per_mille(&millis([7]), 500), Duration::from_millis(7));
        assert_eq!(per_mille(&[], 990), Duration::ZERO);
    }

    #[test]
    fn a_median_of_few_is_what_one_thinks() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_slow_spell_is_seen_in_its_window_only() {
        let window = Duration::from_millis(250);
        let samples = (0..1000u64).map(|n| {
            let slow = (500..750).contains(&n);
            (Duration::from_millis(n), Duration::from_millis(if slow { 20 } else { 1 }))
        });
        assert_eq!(p99_by_window(samples, window), [(0.125, 1.0), (0.375, 1.0), (0.625, 20.0), (0.875, 1.0)]);
        let gap = [(Duration::ZERO, window), (Duration::from_millis(600), window)];
        assert_eq!(p99_by_window(gap, window), [(0.125, 250.0), (0.625, 250.0)]);
    }
}
