//! `dynosim perf plot`: latencies and throughput of a timing source as a picture.

use std::path::PathBuf;

use dynosim::perf::{PerfError, TableLibrary};
use dynosim::plot::{Axis, Color, Figure, Panel, Unit, palette};
use dynosim::report::write_atomically;

use super::source::Source;
use super::words::{backend_name, format_name, gib, gpu_name, model_name};
use crate::cli::error::CliError;

/// Flags of `dynosim perf plot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to draw
    key: String,
    /// SVG file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

/// Prefixes and contexts that get a line, where the source covers them.
const PREFIXES: [u64; 4] = [0, 8_192, 32_768, 131_072];
const CONTEXTS: [u64; 4] = [1_024, 4_096, 16_384, 65_536];
/// Prompts from here to there.
const NEW: (u64, u64) = (64, 32_768);
/// Largest batch; a step of more requests is rare.
const BATCH: u64 = 1_024;
/// Batches that are marked on the trade-off.
const MARKED: [u64; 4] = [8, 32, 128, 512];

/// Draws the picture into a file.
pub fn run(args: &Args, library: &TableLibrary) -> Result<(), CliError> {
    let source = Source::find(&args.key, library)?;
    let svg = figure(&source, &args.key)?.to_svg();
    write_atomically(&args.out, |out| out.write_all(svg.as_bytes()))?;
    Ok(())
}

fn figure(source: &Source, key: &str) -> Result<Figure, PerfError> {
    let room = source.capacity().transpose()?.map(|capacity| capacity.kv_tokens);
    let decode: Vec<Curve> = curves(&CONTEXTS, palette::DECODE, |context| decode_points(source, context, room));
    let words = Words::of(source, key);
    let panels = [prefill_panel(source, room), decode_panel(&decode, room), trade_off_panel(source, &decode, room)];
    let dots = if room.is_some() { " A dot ends a line where the KV cache is full." } else { "" };
    let figure = Figure::new(words.title).subtitle(words.subtitle).source(format!("{}.{dots}", words.source));
    Ok(panels.into_iter().fold(figure, Figure::panel))
}

/// A line of a family: its length in tokens, its colour, its points.
struct Curve {
    tokens: u64,
    color: Color,
    points: Vec<(f64, f64)>,
}

/// Adds a curve to a panel; `full`: it ends because the KV cache is full, which a dot says.
fn with_curve(panel: Panel, name: String, color: Color, points: Vec<(f64, f64)>, full: bool) -> Panel {
    let end = points.last().copied().filter(|_| full);
    let panel = panel.line(name, color, points);
    match end {
        Some(end) => panel.scatter("", color, vec![end]),
        None => panel,
    }
}

impl Curve {
    /// Whether a larger batch would not fit into `room` KV tokens.
    fn is_full(&self, room: Option<u64>) -> bool {
        let last = self.points.last().map_or(0, |(batch, _)| *batch as u64);
        room.is_some_and(|room| (last + 1) * self.tokens > room)
    }

    fn name(&self) -> String {
        if self.tokens == 0 { "none".to_owned() } else { Unit::Tokens.text(self.tokens as f64) }
    }
}

/// The curves of a family that have at least two points, in shades from short to long.
fn curves(lengths: &[u64], color: Color, points: impl Fn(u64) -> Vec<(f64, f64)>) -> Vec<Curve> {
    let drawn: Vec<(u64, Vec<(f64, f64)>)> =
        lengths.iter().map(|length| (*length, points(*length))).filter(|(_, points)| points.len() > 1).collect();
    let colors = color.ramp(drawn.len());
    drawn.into_iter().zip(colors).map(|((tokens, points), color)| Curve { tokens, color, points }).collect()
}

/// Whole numbers from `low` to `high`, about equal factors apart: all of the small ones, then `per_octave`.
fn steps(low: u64, high: u64, per_octave: u32) -> Vec<u64> {
    let mut numbers = Vec::new();
    if low > high {
        return numbers;
    }
    let mut octave = 1_u64 << low.max(1).ilog2();
    while octave <= high {
        let parts = u64::from(per_octave).min(octave);
        numbers.extend((0..parts).map(|i| octave + octave * i / parts).filter(|n| (low..=high).contains(n)));
        octave *= 2;
    }
    if numbers.last() != Some(&high) {
        numbers.push(high);
    }
    numbers
}

fn prefill_panel(source: &Source, room: Option<u64>) -> Panel {
    let last = |prefix: u64| room.map_or(NEW.1, |room| room.saturating_sub(prefix).min(NEW.1));
    let points = |prefix: u64| {
        let within = |new: &u64| source.covers_prefill(1, *new, prefix);
        let point = |new: u64| Some((new as f64, source.prefill_ms(1, new, prefix)?));
        steps(NEW.0, last(prefix), 24).into_iter().filter(within).filter_map(point).collect()
    };
    // A profile knows no prefix.
    let prefixes = if matches!(source, Source::Profile { .. }) { &PREFIXES[..1] } else { &PREFIXES[..] };
    let x = Axis::log2("new tokens", Unit::Tokens);
    let y = Axis::log("time for one prompt", Unit::Milliseconds);
    let panel = Panel::new("Prefill", x, y);
    let panel = if prefixes.len() > 1 { panel.names_at_ends("cached prefix") } else { panel };
    curves(prefixes, palette::PREFILL, points).into_iter().fold(panel, |panel, curve| {
        let name = if prefixes.len() > 1 { curve.name() } else { String::new() };
        with_curve(panel, name, curve.color, curve.points, last(curve.tokens) < NEW.1)
    })
}

/// Batch and milliseconds of decode steps that fit into `room` KV tokens.
fn decode_points(source: &Source, context: u64, room: Option<u64>) -> Vec<(f64, f64)> {
    let most = room.map_or(BATCH, |room| (room / context).min(BATCH));
    if most == 0 {
        return vec![];
    }
    let within = |batch: &u64| source.covers_decode(*batch, context);
    let point = |batch: u64| Some((batch as f64, source.decode_ms(batch, context)?));
    steps(1, most, 32).into_iter().filter(within).filter_map(point).collect()
}

fn decode_panel(curves: &[Curve], room: Option<u64>) -> Panel {
    let x = Axis::log2("batch size", Unit::Count);
    let y = Axis::log("inter-token latency (ITL)", Unit::Milliseconds);
    let panel = Panel::new("Decode", x, y).names_at_ends("context");
    curves.iter().fold(panel, |panel, curve| {
        with_curve(panel, curve.name(), curve.color, curve.points.clone(), curve.is_full(room))
    })
}

fn trade_off_panel(source: &Source, curves: &[Curve], room: Option<u64>) -> Panel {
    let gpus = source.gpus() as f64;
    let x = Axis::log("inter-token latency (ITL)", Unit::Milliseconds);
    let label = if gpus > 1.0 { "output tokens/s per GPU, by batch size" } else { "output tokens/s, by batch size" };
    let mut panel = Panel::new("Throughput against latency", x, Axis::log(label, Unit::Count)).names_at_ends("context");
    for (index, curve) in curves.iter().enumerate() {
        // Powers of two, and the batch at which the line ends: what lies between is a saw of kernel tiles.
        let last = curve.points.last().map(|(batch, _)| *batch);
        let chosen = |batch: f64| (batch as u64).is_power_of_two() || Some(batch) == last;
        let rate = |(batch, ms): &(f64, f64)| (*ms, batch / ms * 1e3 / gpus);
        let points: Vec<(f64, f64)> = curve.points.iter().filter(|(batch, _)| chosen(*batch)).map(rate).collect();
        if index == 0 {
            let marked = curve.points.iter().filter(|(batch, _)| MARKED.contains(&(*batch as u64)));
            for point in marked {
                panel = panel.note(rate(point), Unit::Count.text(point.0), curve.color);
            }
        }
        panel = with_curve(panel, curve.name(), curve.color, points, curve.is_full(room));
    }
    panel
}

/// What stands around the charts.
struct Words {
    title: String,
    subtitle: String,
    source: String,
}

impl Words {
    fn of(source: &Source, key: &str) -> Self {
        let on = |gpu: &str| match source.gpus() {
            1 => gpu_name(gpu),
            n => format!("{n} × {}", gpu_name(gpu)),
        };
        let mut parts = Vec::new();
        let (title, words) = match source {
            Source::Table(table) => {
                let meta = &table.meta;
                parts.push(format!("{} {}", backend_name(&meta.backend), meta.backend_version));
                parts.push(format!("tensor parallel {}", meta.tp));
                if let Some(ep) = meta.moe_ep.filter(|ep| *ep > 1) {
                    parts.push(format!("expert parallel {ep}"));
                }
                let [weights, kv_cache] = [&meta.quant.gemm, &meta.quant.kv_cache].map(|name| format_name(name));
                parts.push(format!("{weights} weights, {kv_cache} KV cache"));
                let license = meta.source.license.as_ref().map_or_else(String::new, |license| format!(", {license}"));
                let words = format!("Source: {}{license}; kernel times, interpolated", meta.source.describe());
                (format!("{} on {}", model_name(&meta.model), on(&meta.system)), words)
            }
            Source::Profile { file, .. } => {
                parts.push("planner profile · a cached prefix does not enter".to_owned());
                (file.clone(), format!("Source: {file}"))
            }
            Source::Estimate(estimate) => {
                let setup = &estimate.setup;
                parts.push(format!("roofline estimate, memory as in {}", backend_name(&estimate.backend.to_string())));
                parts.push(format!("tensor parallel {}", setup.tp));
                let [weights, kv_cache] =
                    [setup.weights, setup.kv_cache].map(|format| format.to_string().to_uppercase());
                parts.push(format!("{weights} weights, {kv_cache} KV cache"));
                let title = format!("{} on {} (estimate)", model_name(&estimate.model), on(&estimate.gpu.name));
                (title, format!("Source: data sheets, no measurement ({key})"))
            }
        };
        if let Some(Ok(capacity)) = source.capacity() {
            let tokens = Unit::Count.text(capacity.kv_tokens as f64);
            parts.push(format!("room for {tokens} KV tokens ({} per GPU)", gib(capacity.kv_budget_bytes)));
        }
        let mut subtitle = parts.join(" · ");
        if let Some(caution) = source.caution() {
            subtitle = format!("{subtitle}\nCaution: {caution}");
        }
        Self { title, subtitle, source: words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_both_ends_and_every_power_of_two() {
        let numbers = steps(1, 1_000, 8);
        assert_eq!(numbers[..9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!([16, 32, 64, 128, 256, 512, 1_000].iter().all(|n| numbers.contains(n)));
        assert!(numbers.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(steps(64, 64, 4), [64]);
    }
}
