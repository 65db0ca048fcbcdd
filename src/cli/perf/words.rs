//! Numbers and names as people read them.

use dynosim::perf::Backend;
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object};
use tabled::settings::{Alignment, Padding, Style};

/// A whole number with thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in GiB with one decimal.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30))
}

/// Milliseconds with three significant digits, at most three decimals.
pub fn ms(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A GPU's name as its vendor writes it: `H200 SXM` for `h200_sxm`.
pub fn gpu_name(system: &str) -> String {
    system.replace('_', " ").to_uppercase()
}

/// A model without its organisation.
pub fn model_name(model: &str) -> &str {
    model.trim_end_matches('/').rsplit('/').next().unwrap_or(model)
}

/// An engine's name as its makers write it.
pub fn backend_name(backend: &str) -> String {
    match backend.parse() {
        Ok(Backend::Vllm) => "vLLM".to_owned(),
        Ok(Backend::Sglang) => "SGLang".to_owned(),
        Ok(Backend::Trtllm) => "TensorRT-LLM".to_owned(),
        Err(_) => backend.to_owned(),
    }
}

/// A number format as papers write it; other names stay.
pub fn format_name(name: &str) -> &str {
    match name {
        "bfloat16" => "BF16",
        "fp8" | "fp8_static" => "FP8",
        "fp8_block" => "block FP8",
        other => other,
    }
}

/// A table of texts: a header, a line, rows. The first `left` columns are aligned left, the others right.
pub fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, left: usize) -> String {
    let mut builder = Builder::default();
    builder.push_record(header.iter().copied());
    rows.into_iter().for_each(|row| builder.push_record(row));
    let mut table = builder.build();
    table
        .with(Style::empty())
        .with(Padding::new(0, 2, 0, 0))
        .modify(Columns::new(..left).inverse(), Alignment::right());
    let text = table.to_string();
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let rule = "─".repeat(lines.iter().map(|line| line.chars().count()).max().unwrap_or(0));
    lines.insert(1.min(lines.len()), &rule);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_871_961].map(grouped), ["0", "999", "1,000", "1,871,961"]);
        assert_eq!([1.0, 9.996, 99.96, 1_234.5].map(ms), ["1.00", "10.0", "100", "1234"]);
        assert_eq!(gib(151_397_597_184), "141.0 GiB");
    }

    #[test]
    fn names_are_those_of_the_makers() {
        assert_eq!(gpu_name("h200_sxm"), "H200 SXM");
        assert_eq!(model_name("nvidia/Llama-3.1-8B-Instruct-FP8"), "Llama-3.1-8B-Instruct-FP8");
        assert_eq!(["vllm", "trtllm", "mine"].map(backend_name), ["vLLM", "TensorRT-LLM", "mine"]);
    }
}
