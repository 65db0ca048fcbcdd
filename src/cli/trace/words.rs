//! Numbers as people read them.

use dynosim::plot::Unit;
use dynosim::workload::stats::Bin;

pub use crate::cli::perf::words::{columns, grouped};

/// A number of which the size matters: `950`, `1.5k`, `145M`.
pub fn about(number: f64) -> String {
    Unit::Count.text(number)
}

/// A mean: whole from a hundred on, else with as many decimals as tell something.
pub fn mean(number: f64) -> String {
    if number >= 100.0 { grouped(number.round() as u64) } else { Unit::Plain.text(number) }
}

/// A time given in milliseconds.
pub fn ms(number: f64) -> String {
    seconds(number / 1_000.0)
}

/// A time in seconds.
pub fn seconds(number: f64) -> String {
    Unit::Seconds.text(number)
}

/// A share with four decimals, as papers give it.
pub fn share(number: f64) -> String {
    format!("{number:.4}")
}

/// A share in per cent with one decimal.
pub fn percent(number: f64) -> String {
    format!("{:.1} %", number * 100.0)
}

/// A number and a noun in the plural unless it is one.
pub fn count_of(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Values as a line of bars, the largest one full; what is not zero is visible.
pub fn bars(values: impl IntoIterator<Item = f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<f64> = values.into_iter().collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| match value {
        v if v <= 0.0 => ' ',
        v => BARS.get(((v / most * 8.0).ceil() as usize).clamp(1, 8) - 1).copied().unwrap_or('█'),
    };
    values.into_iter().map(bar).collect()
}

/// A histogram as a line of bars.
pub fn histogram(bins: &[Bin]) -> String {
    bars(bins.iter().map(|bin| bin.count as f64))
}

/// Names and what is said of them, two from the left.
pub fn pairs(list: &[(&str, String)]) -> String {
    let width = list.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    list.iter().map(|(name, text)| format!("  {name:<width$}  {text}\n")).collect()
}

/// A table of texts, two from the left.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, left: usize) -> String {
    columns(header, rows, left).lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([3.0, 4.25, 11_967.6].map(mean), ["3", "4.25", "11,968"]);
        assert_eq!((count_of(1, "turn"), count_of(2_000, "turn")), ("1 turn".to_owned(), "2,000 turns".to_owned()));
    }

    #[test]
    fn bars_show_what_is_there_and_nothing_else() {
        assert_eq!(bars([0.0, 0.001, 4.0, 8.0]), " ▁▄█");
        assert_eq!(bars([]), "");
    }

    #[test]
    fn names_are_aligned() {
        let list = [("a", "one".to_owned()), ("bcd", "two".to_owned())];
        assert_eq!(pairs(&list), "  a    one\n  bcd  two\n");
    }
}
