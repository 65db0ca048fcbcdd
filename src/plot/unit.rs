//! Numbers as people read them: `16k`, `1.2 s`, `80 GB`.

/// What an axis or a figure counts; decides prefixes and steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A bare number.
    Plain,
    /// A number of things, with decimal prefixes: `950`, `1.5k`, `2M`.
    Count,
    /// Tokens: as [`Unit::Count`], but whole multiples of 1024 are written as the field does: `8k`, `128k`, `1M`.
    Tokens,
    /// Milliseconds, shown as `µs`, `ms` or `s`.
    Milliseconds,
    /// Seconds, shown as `ms`, `s`, `min` or `h`.
    Seconds,
    /// Bytes with decimal prefixes: `80 GB`.
    Bytes,
    /// A share between 0 and 1, shown as per cent.
    Share,
}

/// Prefix of a unit: shown value = value / `per`, followed by `suffix`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prefix {
    pub(super) per: f64,
    pub(super) suffix: &'static str,
}

const fn prefix(per: f64, suffix: &'static str) -> Prefix {
    Prefix { per, suffix }
}

/// Prefixes of each unit, small to large; one is used from its `per` on, unless a later one says otherwise.
const PLAIN: [Prefix; 1] = [prefix(1.0, "")];
const COUNT: [Prefix; 5] = [prefix(1.0, ""), prefix(1e3, "k"), prefix(1e6, "M"), prefix(1e9, "G"), prefix(1e12, "T")];
const MILLISECONDS: [Prefix; 3] = [prefix(1e-3, " µs"), prefix(1.0, " ms"), prefix(1e3, " s")];
const SECONDS: [Prefix; 4] = [prefix(1e-3, " ms"), prefix(1.0, " s"), prefix(60.0, " min"), prefix(3600.0, " h")];
const BYTES: [Prefix; 5] =
    [prefix(1.0, " B"), prefix(1e3, " kB"), prefix(1e6, " MB"), prefix(1e9, " GB"), prefix(1e12, " TB")];
const SHARE: [Prefix; 1] = [prefix(0.01, " %")];

impl Unit {
    /// The value in words of at most three significant digits.
    ///
    /// ```
    /// use dynosim::plot::Unit;
    /// assert_eq!(Unit::Tokens.text(16_384.0), "16k");
    /// assert_eq!(Unit::Milliseconds.text(1_234.0), "1.23 s");
    /// assert_eq!(Unit::Share.text(0.995), "99.5 %");
    /// assert_eq!(Unit::Bytes.text(85_899_345_920.0), "85.9 GB");
    /// ```
    pub fn text(self, value: f64) -> String {
        if let Some(text) = self.binary(value) {
            return text;
        }
        let prefix = self.prefix(value.abs());
        format!("{}{}", significant(value / prefix.per, 3), prefix.suffix)
    }

    /// The prefix for numbers up to `magnitude`.
    pub(super) fn prefix(self, magnitude: f64) -> Prefix {
        let all: &[Prefix] = match self {
            Self::Plain => &PLAIN,
            Self::Count | Self::Tokens => &COUNT,
            Self::Milliseconds => &MILLISECONDS,
            Self::Seconds => &SECONDS,
            Self::Bytes => &BYTES,
            Self::Share => &SHARE,
        };
        // 0 is shown without a prefix.
        let base = all.iter().find(|p| p.per >= 1.0).unwrap_or(&all[0]);
        if magnitude == 0.0 {
            return *base;
        }
        // 999.96 would be written 1000: the rounded number chooses. Minutes and hours begin at two.
        let starts = |p: &Prefix| {
            if matches!(p.suffix, " min" | " h") { 2.0 * p.per } else { 0.9995 * p.per }
        };
        *all.iter().rev().find(|p| magnitude >= starts(p)).unwrap_or(&all[0])
    }

    /// `8k` for 8192 tokens, where that is exact.
    pub(super) fn binary(self, value: f64) -> Option<String> {
        if self != Self::Tokens || value < 1024.0 || value % 1024.0 != 0.0 || value % 1000.0 == 0.0 {
            return None;
        }
        let kibi = value / 1024.0;
        if kibi >= 1024.0 && kibi % 1024.0 == 0.0 {
            Some(format!("{}M", kibi / 1024.0))
        } else {
            Some(format!("{kibi}k"))
        }
    }
}

/// `value` with at most `digits` significant digits, without trailing zeros; whole digits are never dropped.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    // Rounding first: 9.996 has its first digit in the tens.
    let scientific = format!("{:.*e}", digits.saturating_sub(1), value);
    let exponent: i64 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let decimals = usize::try_from(digits as i64 - 1 - exponent).unwrap_or(0).min(12);
    trimmed(value, decimals)
}

/// `value` with at most `decimals` digits after the point, without trailing zeros and without a negative zero.
pub(super) fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        let cases = [
            (Unit::Count, 950.0, "950"),
            (Unit::Count, 999.6, "1k"),
            (Unit::Count, 1_500.0, "1.5k"),
            (Unit::Count, -2_500_000.0, "-2.5M"),
            (Unit::Tokens, 1_000.0, "1k"),
            (Unit::Tokens, 1_536.0, "1.54k"),
            (Unit::Tokens, 131_072.0, "128k"),
            (Unit::Tokens, 1_048_576.0, "1M"),
            (Unit::Tokens, 512.0, "512"),
            (Unit::Milliseconds, 0.0, "0 ms"),
            (Unit::Milliseconds, 0.25, "250 µs"),
            (Unit::Milliseconds, 999.9, "1 s"),
            (Unit::Milliseconds, 12.345, "12.3 ms"),
            (Unit::Seconds, 90.0, "90 s"),
            (Unit::Seconds, 150.0, "2.5 min"),
            (Unit::Seconds, 7_200.0, "2 h"),
            (Unit::Share, 0.5, "50 %"),
            (Unit::Plain, 0.001_234_5, "0.00123"),
            (Unit::Plain, 123_456.0, "123456"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(unit.text(value), text, "{unit:?} {value}");
        }
    }

    #[test]
    fn odd_values_are_no_trap() {
        assert_eq!(significant(f64::NAN, 3), "NaN");
        assert_eq!(significant(9.996, 3), "10");
        assert_eq!(significant(1e-300, 3), "0");
        assert_eq!(trimmed(-0.001, 2), "0");
    }
}
