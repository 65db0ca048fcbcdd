//! Facts of traces as a page of charts.

use dynosim::plot::{Axis, Bar, Color, Figure, Panel, Unit, palette};
use dynosim::workload::stats::{Arrivals, Bin, CacheStats, Distribution, TraceStats, Window};

use super::stats::Facts;
use super::words::{about, count_of, grouped, mean, percent, seconds, share};

/// Traces that get a colour of their own.
const MOST: usize = 7;

/// The page: one trace in full, several on common axes.
pub fn figure(all: &[Facts]) -> Figure {
    match all {
        [one] => full(one),
        several => compared(several),
    }
}

fn full(facts: &Facts) -> Figure {
    let TraceStats { prompt, output, cache, .. } = &facts.stats;
    let figure = Figure::new(&facts.name).subtitle(summary(&facts.stats)).source(DEFINITION);
    let timed = facts.stats.arrivals.as_ref().filter(|a| a.mean_per_s > 0.0);
    let mut panels: Vec<Panel> =
        timed.into_iter().flat_map(|a| [rate_panel(a), tokens_panel(a), gaps_panel(a)]).collect();
    panels.push(lengths_panel(prompt, output));
    // A cache that never finds anything needs no charts.
    if cache.ideal_reuse > 0.0 {
        panels.push(reuse_panel(cache));
        panels.extend(timed.map(|arrivals| repetition_panel(arrivals, cache)));
    }
    laid_out(figure, panels)
}

/// The panels in rows of equal length.
fn laid_out(figure: Figure, panels: Vec<Panel>) -> Figure {
    let columns = if panels.len() == 4 { 2 } else { 3 };
    panels.into_iter().fold(figure.columns(columns), Figure::panel)
}

const DEFINITION: &str = "Facts of the trace, without any engine: a turn comes its think time after the one it waits for. \
    Reuse: share of prompt blocks found in one LRU cache for all requests.";

fn summary(stats: &TraceStats) -> String {
    let TraceStats { requests, prompt, output, sessions, cache, arrivals, .. } = stats;
    let mut parts = vec![count_of(*requests, "request")];
    if sessions.multi_turn > 0 {
        parts.push(format!("{} of {} turns", count_of(sessions.count, "session"), mean(sessions.turns.mean)));
    }
    if let Some(a) = arrivals.as_ref().filter(|a| a.mean_per_s > 0.0) {
        parts.push(format!("{} at {}/s", seconds(a.duration_s), about(a.mean_per_s)));
    }
    parts.push(format!("{} tokens in, {} out", mean(prompt.mean), mean(output.mean)));
    let own = format!(", {} in sessions", share(cache.within_sessions));
    let own = if sessions.multi_turn > 0 { own } else { String::new() };
    parts.push(match cache.ideal_reuse {
        0.0 => "no shared prefixes".to_owned(),
        reuse => format!("ideal reuse {} of {}-token blocks{own}", share(reuse), cache.block_tokens),
    });
    parts.join(" · ")
}

/// Windows of at least `window_s`: begin, length, and what arrives in them.
fn windows(arrivals: &Arrivals, window_s: f64) -> impl Iterator<Item = (f64, f64, Window)> {
    let per_point = (window_s / arrivals.window_s).round().max(1.0) as usize;
    let length = arrivals.window_s * per_point as f64;
    let sum = |windows: &[Window]| {
        let mut total = Window::default();
        windows.iter().for_each(|window| total += *window);
        total
    };
    arrivals.windows.chunks(per_point).enumerate().map(move |(i, chunk)| (i as f64 * length, length, sum(chunk)))
}

/// Points of a value per second; the last one holds until the trace ends. A last window of which the trace fills less than
/// half would say little about a rate and is left out.
fn per_second(arrivals: &Arrivals, window_s: f64, value: fn(&Window) -> u64) -> Vec<(f64, f64)> {
    let filled = |at: f64, length: f64| (arrivals.duration_s - at).min(length);
    let tells = |(at, length, _): &(f64, f64, Window)| *at == 0.0 || filled(*at, *length) >= length / 2.0;
    let rate = |at: f64, length: f64, window: &Window| match filled(at, length) {
        filled if filled >= length / 2.0 => value(window) as f64 / filled,
        _ => value(window) as f64 / length,
    };
    let point = |(at, length, window): (f64, f64, Window)| (at, rate(at, length, &window));
    let mut points: Vec<(f64, f64)> = windows(arrivals, window_s).filter(tells).map(point).collect();
    if let Some((at, last)) = points.last().copied() {
        points.push((arrivals.duration_s.max(at), last));
    }
    points
}

/// The whole time of the trace.
fn time(arrivals: &Arrivals) -> Axis {
    Axis::linear("time", Unit::Seconds).from(0.0).to(arrivals.duration_s)
}

fn rate_panel(arrivals: &Arrivals) -> Panel {
    let label = format!("requests/s, windows of {}", seconds(arrivals.window_s));
    let title = format!("Arrivals, {}/s on average", about(arrivals.mean_per_s));
    Panel::new(title, time(arrivals), Axis::linear(label, Unit::Count))
        .step("", palette::CACHED, per_second(arrivals, 0.0, |w| w.count))
        .rule_y(arrivals.mean_per_s, "", palette::WAITING)
}

fn tokens_panel(arrivals: &Arrivals) -> Panel {
    // Less than a token a second is nothing.
    let some = |value: fn(&Window) -> u64| {
        let points = per_second(arrivals, 0.0, value).into_iter();
        points.map(|(at, rate)| (at, if rate >= 1.0 { rate } else { 0.0 })).collect()
    };
    Panel::new("Tokens", time(arrivals), Axis::log("tokens/s", Unit::Count))
        .step("prompt", palette::PREFILL, some(|w| w.prompt_tokens))
        .step("output", palette::DECODE, some(|w| w.output_tokens))
}

fn gaps_panel(arrivals: &Arrivals) -> Panel {
    let x = Axis::log("gap between arrivals", Unit::Milliseconds);
    let title = format!("Gaps, coefficient of variation {}", about(arrivals.gap_cv));
    let panel = Panel::new(title, x, Axis::linear("share of gaps above", Unit::Share).to(1.0));
    let above = |(x, below): (f64, f64)| (x, 1.0 - below);
    let mut measured: Vec<(f64, f64)> = cumulative(&arrivals.gaps_ms).into_iter().map(above).collect();
    // Requests that come together have a gap that the axis has no place for: the line begins with the others.
    if let (0.0, Some((_, share))) = (arrivals.gaps_ms.min, measured.get(1).copied())
        && let Some(first) = measured.first_mut()
    {
        first.1 = share;
    }
    let (Some((low, _)), Some((high, _))) = (measured.first().copied(), measured.last().copied()) else { return panel };
    let steps = 120;
    let at = |i: i32| low * (high / low).powf(f64::from(i) / f64::from(steps));
    let poisson = (0..=steps).map(at).map(|x| (x, (-x / arrivals.gaps_ms.mean).exp())).collect();
    panel.line("this trace", palette::CACHED, measured).line("Poisson", palette::WAITING, poisson)
}

/// Edges of the bins and the share of values below each.
fn cumulative(d: &Distribution) -> Vec<(f64, f64)> {
    let mut below = 0;
    let count = d.count.max(1) as f64;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for bin in &d.histogram {
        // A logarithmic axis has no place for 0; half the edge stands for it.
        let from = if bin.from > 0.0 { bin.from } else { bin.to / 2.0 };
        if points.is_empty() {
            points.push((from.max(d.min.min(bin.to)), 0.0));
        }
        below += bin.count;
        points.push((bin.to.min(d.max.max(from)), below as f64 / count));
    }
    points
}

fn lengths_panel(prompt: &Distribution, output: &Distribution) -> Panel {
    let panel =
        Panel::new("Lengths", Axis::log("tokens", Unit::Tokens), Axis::linear("share of requests", Unit::Share));
    let bars = |d: &Distribution| {
        let bar =
            |bin: &Bin| Bar { from: bin.from.max(0.7), to: bin.to, value: bin.count as f64 / d.count.max(1) as f64 };
        d.histogram.iter().map(bar).collect::<Vec<_>>()
    };
    panel.histogram("prompt", palette::PREFILL, bars(prompt)).histogram("output", palette::DECODE, bars(output))
}

fn reuse_panel(cache: &CacheStats) -> Panel {
    let x = Axis::log("cache, tokens", Unit::Count);
    let panel = Panel::new("Prefix reuse by cache size", x, Axis::linear("share of prompt blocks found", Unit::Share));
    let panel = panel.line("", palette::CACHED, curve(cache)).rule_y(
        cache.ideal_reuse,
        format!("no limit {}", percent(cache.ideal_reuse)),
        palette::WAITING,
    );
    let marked = cache.sizes.iter().filter(|size| [0.5, 0.9].contains(&size.of_ideal));
    marked.fold(panel, |panel, size| {
        let text = format!("{} % of it: {}", size.of_ideal * 100.0, about(size.tokens as f64));
        panel.note((size.tokens as f64, size.of_ideal * cache.ideal_reuse), text, palette::CACHED)
    })
}

fn curve(cache: &CacheStats) -> Vec<(f64, f64)> {
    let mut points: Vec<(u64, f64)> = cache.curve.iter().map(|p| (p.tokens, p.reuse)).collect();
    points.extend(cache.sizes.iter().map(|s| (s.tokens, s.of_ideal * cache.ideal_reuse)));
    points.sort_by_key(|(tokens, _)| *tokens);
    points.dedup_by_key(|(tokens, _)| *tokens);
    points.into_iter().map(|(tokens, reuse)| (tokens as f64, reuse)).collect()
}

/// How much repeats what came before, over time: it grows as long as a cache would be warming up.
fn repetition_panel(arrivals: &Arrivals, cache: &CacheStats) -> Panel {
    // Without requests there is no share, and the line has a gap.
    let point = |(at, _, window): (f64, f64, Window)| (at, window.repeated_blocks as f64 / window.prompt_blocks as f64);
    let mut points: Vec<(f64, f64)> = windows(arrivals, 0.0).map(point).collect();
    if let Some((_, last)) = points.last().copied() {
        points.push((arrivals.duration_s, last));
    }
    let y = Axis::linear("share of prompt blocks seen before", Unit::Share).to(1.0);
    let title = format!("Ideal reuse over time, {} in all", percent(cache.ideal_reuse));
    Panel::new(title, time(arrivals), y).step("", palette::CACHED, points).rule_y(
        cache.ideal_reuse,
        "",
        palette::WAITING,
    )
}

fn compared(all: &[Facts]) -> Figure {
    let shown = || all.iter().take(MOST).enumerate().map(|(i, facts)| (Color::category(i), facts));
    // Longer windows for all, so that the lines can be compared.
    let longest = shown().filter_map(|(_, facts)| facts.stats.arrivals.as_ref()).map(|a| a.window_s);
    let window_s = longest.fold(0.0, f64::max);
    let label = format!("requests/s, windows of {}", seconds(window_s));
    let rate = Panel::new("Arrivals", Axis::linear("time", Unit::Seconds), Axis::linear(label, Unit::Count));
    let below = || Axis::linear("share of requests at or below", Unit::Share).to(1.0);
    let prompt = Panel::new("Prompt lengths", Axis::log("tokens", Unit::Tokens), below());
    let output = Panel::new("Output lengths", Axis::log("tokens", Unit::Tokens), below());
    let x = Axis::log("cache, tokens", Unit::Count);
    let reuse = Panel::new("Prefix reuse by cache size", x, Axis::linear("share of prompt blocks found", Unit::Share));
    let mut panels = vec![rate, prompt, output, reuse];
    for (color, Facts { name, stats, .. }) in shown() {
        let TraceStats { arrivals, prompt, output, cache, .. } = stats;
        let rate = arrivals.as_ref().map_or_else(Vec::new, |a| per_second(a, window_s, |w| w.count));
        let lines = [rate, cumulative(prompt), cumulative(output), curve(cache)];
        for (index, (panel, points)) in panels.iter_mut().zip(lines).enumerate() {
            let drawn = panel.clone();
            *panel = if index == 0 { drawn.step(name, color, points) } else { drawn.line(name, color, points) };
        }
    }
    if all.iter().all(|facts| facts.stats.cache.ideal_reuse == 0.0) {
        panels.pop();
    }
    let left_out = all.len().saturating_sub(MOST);
    let note = if left_out > 0 { format!("; the first {MOST} are drawn") } else { String::new() };
    let subtitle = format!("{} requests{note}", grouped(all.iter().map(|f| f.stats.requests).sum()));
    laid_out(Figure::new(count_of(all.len() as u64, "trace")).subtitle(subtitle).source(DEFINITION), panels)
}
