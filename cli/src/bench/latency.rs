//! Latencies as people compare them.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles of what was measured, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    /// Of latencies in microseconds, to three figures.
    pub fn of(micros: impl IntoIterator<Item = u32>) -> Self {
        // Every u32 fits and three figures are allowed: it cannot fail.
        let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, u64::from(u32::MAX), 3) else {
            return Self::default();
        };
        for value in micros {
            histogram.saturating_record(u64::from(value));
        }
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// A time in microseconds, as it is kept; more than an hour becomes an hour.
pub fn micros(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_values() {
        let latency = Latency::of(1..=100_000);
        let close = |is: f64, should: f64| (is - should).abs() / should < 0.002;
        assert!(
            close(latency.p50_ms, 50.0)
                && close(latency.p99_ms, 99.0)
                && close(latency.p999_ms, 99.9),
            "{latency:?}"
        );
        assert_eq!(latency.count, 100_000);
        assert_eq!(Latency::of([]), Latency::default());
        assert_eq!(Latency::of([0, u32::MAX]).count, 2);
    }
}
