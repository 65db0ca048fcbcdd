//! Simulated time: whole nanoseconds, never negative, never wrapping.
//!
//! Times that arrive as milliseconds (trace rows, sampled gaps, transfer delays) are rounded to nanoseconds once, ties to
//! even. Durations of forward passes are whole nanoseconds by specification, so sums of them are exact and do not depend
//! on the order in which they are added.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// Nanoseconds in one millisecond.
const NS_PER_MS: f64 = 1e6;

/// An instant on the virtual clock, in nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(u64);

/// A span of virtual time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimDuration(u64);

/// Milliseconds that do not fit the clock: negative, not a number, or beyond 584 years.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} ms is outside the virtual clock (0 to 1.8e13 ms)")]
pub struct TimeRangeError(pub f64);

fn nanos(ms: f64) -> Result<u64, TimeRangeError> {
    let ns = (ms * NS_PER_MS).round_ties_even();
    // 2^64 is exact in f64; anything at or above it does not fit.
    if (0.0..18_446_744_073_709_551_616.0).contains(&ns) { Ok(ns as u64) } else { Err(TimeRangeError(ms)) }
}

impl SimTime {
    /// The start of a run.
    pub const ZERO: Self = Self(0);
    /// Later than every event.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the start.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// The instant nearest to `ms` milliseconds, ties to even.
    ///
    /// # Errors
    /// When `ms` is negative, not finite, or too large for the clock.
    pub fn from_ms(ms: f64) -> Result<Self, TimeRangeError> {
        nanos(ms).map(Self)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the start, for reports.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / NS_PER_MS
    }

    /// Seconds since the start, for reports.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> SimDuration {
        SimDuration(self.0.saturating_sub(earlier.0))
    }

    /// `self + span`, at the end of the clock when that lies beyond it.
    pub const fn saturating_add(self, span: SimDuration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl SimDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `ns` nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// The span nearest to `ms` milliseconds, ties to even.
    ///
    /// # Errors
    /// When `ms` is negative, not finite, or too large for the clock.
    pub fn from_ms(ms: f64) -> Result<Self, TimeRangeError> {
        nanos(ms).map(Self)
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds, for reports.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / NS_PER_MS
    }

    /// Seconds, for reports.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Whether the span is empty.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Add<SimDuration> for SimTime {
    type Output = Self;
    /// Stays at the end of the clock instead of wrapping.
    fn add(self, span: SimDuration) -> Self {
        self.saturating_add(span)
    }
}

impl AddAssign<SimDuration> for SimTime {
    fn add_assign(&mut self, span: SimDuration) {
        *self = *self + span;
    }
}

impl Sub for SimTime {
    type Output = SimDuration;
    fn sub(self, earlier: Self) -> SimDuration {
        self.since(earlier)
    }
}

impl Add for SimDuration {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for SimDuration {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.as_ms())
    }
}

/// Date of a day counted from 1970-01-01, Gregorian calendar, UTC.
///
/// Years are counted from March, so that the leap day comes last; 400 years are 146 097 days.
pub fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_round_to_the_nearest_nanosecond_ties_to_even() {
        assert_eq!(SimTime::from_ms(0.000_000_5), Ok(SimTime::ZERO));
        assert_eq!(SimTime::from_ms(0.000_001_5), Ok(SimTime::from_nanos(2)));
        assert_eq!(SimTime::from_ms(16.714_071), Ok(SimTime::from_nanos(16_714_071)));
    }

    #[test]
    fn times_outside_the_clock_are_refused() {
        for ms in [-1.0, f64::NAN, f64::INFINITY, 1e300, 1.9e13] {
            assert!(SimTime::from_ms(ms).is_err(), "{ms}");
        }
    }

    #[test]
    fn the_clock_stops_at_its_end_instead_of_wrapping() {
        assert_eq!(SimTime::MAX + SimDuration::from_nanos(1), SimTime::MAX);
        assert_eq!(SimTime::ZERO - SimTime::MAX, SimDuration::ZERO);
    }
}
