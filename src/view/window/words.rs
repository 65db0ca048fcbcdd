//! Numbers as people read them: three significant digits, thousands apart, time as seconds or minutes.

use crate::scenario::Role;
use crate::view::frame::WorkerName;
use crate::view::window::state::Target;

/// A count with thousands apart: `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in few letters: `950`, `12.3k`, `4.56M`.
pub fn short(n: f64) -> String {
    match n.abs() {
        x if x >= 999_500_000.0 => digits(n / 1e9) + "G",
        x if x >= 999_500.0 => digits(n / 1e6) + "M",
        x if x >= 9_999.5 => digits(n / 1e3) + "k",
        x if x >= 1_000.0 || n.fract() == 0.0 => format!("{n:.0}"),
        _ => digits(n),
    }
}

/// Three significant digits.
pub fn digits(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if a >= 99.95 => format!("{x:.0}"),
        a if a >= 9.995 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// A span given in milliseconds: `24.1 ms`, `1.35 s`, `2.0 min`.
pub fn span(ms: f64) -> String {
    match ms {
        x if x >= 120_000.0 => format!("{} min", digits(x / 60_000.0)),
        x if x >= 999.5 => format!("{} s", digits(x / 1e3)),
        x => format!("{} ms", digits(x)),
    }
}

/// An instant in seconds: `1,203.4 s`.
pub fn instant(secs: f64) -> String {
    let tenths = (secs.max(0.0) * 10.0).floor() as u64;
    format!("{}.{} s", count(tenths / 10), tenths % 10)
}

/// Bytes: `1.31 GB`.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        x if x >= 1e9 => format!("{} GB", digits(x / 1e9)),
        x if x >= 1e6 => format!("{} MB", digits(x / 1e6)),
        x if x >= 1e3 => format!("{} kB", digits(x / 1e3)),
        x => format!("{x:.0} B"),
    }
}

/// A share: `71 %`.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A worker's short name: `P3`.
pub fn worker(name: WorkerName) -> String {
    let letter = match name.role {
        Role::Aggregated => 'W',
        Role::Prefill => 'P',
        Role::Decode => 'D',
    };
    format!("{letter}{}", name.id)
}

/// What a search means: `17` a request, `P3`, `D0` or `W7` a worker.
pub fn target(search: &str) -> Option<Target> {
    let search: String = search.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
    if let Ok(request) = search.parse() {
        return Some(Target::Request(request));
    }
    let role = match search.chars().next()?.to_ascii_uppercase() {
        'W' => Role::Aggregated,
        'P' => Role::Prefill,
        'D' => Role::Decode,
        _ => return None,
    };
    let id = search.get(1..)?.parse().ok()?;
    Some(Target::Worker(WorkerName { role, id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([count(7), count(1_203), count(1_234_567)], ["7", "1,203", "1,234,567"]);
        assert_eq!([short(950.0), short(1_234.0), short(12_345.0)], ["950", "1234", "12.3k"]);
        assert_eq!([span(24.06), span(812.4), span(1_350.0)], ["24.1 ms", "812 ms", "1.35 s"]);
        assert_eq!(instant(1_203.46), "1,203.4 s");
        assert_eq!(bytes(1_310_000_000), "1.31 GB");
    }
}
