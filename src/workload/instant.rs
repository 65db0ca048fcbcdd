//! Times as CSV traces write them, to whole nanoseconds and without rounding where the text is exact.

use crate::scenario::TimeUnit;

const NS_PER_S: i128 = 1_000_000_000;

/// Nanoseconds of a number in `unit`, or of a date and time (since 1970, UTC unless the text has an offset). Digits
/// beyond the nanosecond are rounded to it.
pub(super) fn parse(text: &str, unit: TimeUnit) -> Option<i64> {
    let text = text.trim();
    let ns = number(text, unit.decimals()).or_else(|| date_time(text))?;
    i64::try_from(ns).ok()
}

/// A decimal number times ten to the `decimals`.
fn number(text: &str, decimals: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if plain(whole) && plain(fraction) && whole.len() + fraction.len() > 0 {
        // Nineteen digits before the point are beyond the clock in any unit.
        if whole.trim_start_matches('0').len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let value = whole * 10_i128.pow(decimals) + i128::from(scaled(fraction, decimals));
        return Some(if negative { -value } else { value });
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !digits.contains(['e', 'E']) {
        return None;
    }
    let value = text.parse::<f64>().ok()? * 10_f64.powi(decimals as i32);
    // The range is far inside what the cast can hold.
    (value.abs() < 1e19).then(|| value.round_ties_even() as i128)
}

/// The digits after a point, times ten to the `decimals` (9 at most), rounded to a whole number, ties up.
fn scaled(fraction: &str, decimals: u32) -> i64 {
    let digit = |b: u8| i64::from(b - b'0');
    let kept = fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals as usize);
    let value = kept.fold(0, |value, b| value * 10 + digit(b));
    value + i64::from(fraction.as_bytes().get(decimals as usize).is_some_and(|b| *b >= b'5'))
}

/// `2023-11-16 18:17:03.9799600`, `2024-05-10T00:00:00Z`, `2024-05-12 00:00:10+02:00`.
fn date_time(text: &str) -> Option<i128> {
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes().get(10), Some(b' ' | b'T' | b't')) {
        return None;
    }
    let days = days(date)?;
    let clock = time.get(..8)?;
    let (hour, minute, second) = (two(clock, 0)?, two(clock, 3)?, two(clock, 6)?);
    // A leap second counts as the one that follows.
    if [2, 5].iter().any(|at| clock.as_bytes().get(*at) != Some(&b':')) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = time.get(8..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    if rest.starts_with('.') && fraction.is_empty() {
        return None;
    }
    let seconds = days * 86_400 + i64::from(hour * 3_600 + minute * 60 + second) - offset(zone)?;
    Some(i128::from(seconds) * NS_PER_S + i128::from(scaled(fraction, 9)))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None | Some(b'Z' | b'z') if zone.len() <= 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return None,
    };
    let minutes = match zone.len() {
        3 => 0,
        5 => two(zone, 3)?,
        6 if zone.as_bytes().get(3) == Some(&b':') => two(zone, 4)?,
        _ => return None,
    };
    Some(sign * i64::from(two(zone, 1)? * 3_600 + minutes * 60))
}

/// Two digits at a place.
fn two(text: &str, at: usize) -> Option<u32> {
    let [tens, ones] = text.as_bytes().get(at..at + 2)?.try_into().ok()?;
    let digit = |b: u8| b.is_ascii_digit().then(|| u32::from(b - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    let (year, month, day) = (two(date, 0)? * 100 + two(date, 2)?, two(date, 5)?, two(date, 8)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let month_days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let dashes = [4, 7].iter().all(|at| date.as_bytes().get(*at) == Some(&b'-'));
    if !dashes || day == 0 || day > month_days {
        return None;
    }
    // Years that begin in March put the leap day last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (y, m, d) = (i64::from(y), i64::from(m), i64::from(day));
    Some(365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_exact_in_every_unit() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (text, unit, ns) in [
            ("0", Seconds, 0),
            ("19440110.0", Seconds, 19_440_110_000_000_000),
            ("1.000000001", Seconds, 1_000_000_001),
            (".5", Seconds, 500_000_000),
            ("-2.5", Milliseconds, -2_500_000),
            ("1.0000005", Milliseconds, 1_000_001),
            ("9007199254740993", Microseconds, 9_007_199_254_740_993_000),
            (" 7 ", Nanoseconds, 7),
            ("7.5", Nanoseconds, 8),
            ("1.5e3", Seconds, 1_500_000_000_000),
        ] {
            assert_eq!(parse(text, unit), Some(ns), "{text}");
        }
        for text in ["", ".", "-", "1,5", "0x10", "1e400", "nan", "inf", "99999999999999999999", "1e19", "infinity"] {
            assert_eq!(parse(text, Seconds), None, "{text}");
        }
    }

    #[test]
    fn dates_are_counted_from_1970() {
        for (text, ns) in [
            ("1970-01-01 00:00:00", 0),
            ("2023-11-16 18:17:03.9799600", 1_700_158_623_979_960_000),
            ("2024-05-10 00:00:00.009930+00:00", 1_715_299_200_009_930_000),
            ("2024-05-12 00:00:10+02:00", 1_715_464_810_000_000_000),
            ("2024-02-29T23:59:60Z", 1_709_251_200_000_000_000),
            ("1969-12-31 23:59:59.5", -500_000_000),
            ("2000-01-01 00:00:00-0030", 946_686_600_000_000_000),
        ] {
            assert_eq!(parse(text, TimeUnit::Seconds), Some(ns), "{text}");
        }
        for text in [
            "2023-02-29 00:00:00",
            "2023-13-01 00:00:00",
            "2023-00-01 00:00:00",
            "2023-01-00 00:00:00",
            "2023-01-01 24:00:00",
            "2023-01-01 00:00",
            "2023-01-01 00:00:00.",
            "2023-01-01 00:00:00 PM",
            "2023-01-01x00:00:00",
            "2023/01/01 00:00:00",
            "2023-01-01 00:00:00+1:00",
            "0000-01-01 00:00:00",
            "9999-01-01 00:00:00",
        ] {
            assert_eq!(parse(text, TimeUnit::Seconds), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in 0_i64..80_000) {
            // Walks back from the count to the date the long way.
            let (mut year, mut left) = (1900, day);
            let length = |year: i64| 365 + i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let months = [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 1;
            for days in months {
                if left < days {
                    break;
                }
                left -= days;
                month += 1;
            }
            let text = format!("{year:04}-{month:02}-{:02}", left + 1);
            prop_assert_eq!(days(&text), Some(day - 25_567), "{}", text);
        }

        #[test]
        fn any_text_is_a_time_or_none(text in ".{0,40}") {
            let _ = parse(&text, TimeUnit::Seconds);
        }
    }
}
