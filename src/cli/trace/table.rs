//! Facts of traces as text.

use dynosim::workload::stats::{Arrivals, CacheStats, Distribution, SessionStats, TraceStats};

use super::stats::Facts;
use super::words::{about, bars, columns, grouped, histogram, mean, ms, pairs, percent, seconds, share, table};

/// Characters of a line of bars over time.
const BARS: usize = 60;

/// The facts: one trace in full, several as a row each.
pub fn text(all: &[Facts]) -> String {
    match all {
        [one] => full(one),
        several => rows(several),
    }
}

fn full(facts: &Facts) -> String {
    let TraceStats { prompt, output, sessions, cache, .. } = &facts.stats;
    let format = facts.format.as_ref().map_or_else(String::new, |format| format!("{format}, "));
    let mut text = format!("{} ({format}{} tokens per block)\n", facts.name, grouped(u64::from(cache.block_tokens)));
    text += &format!("\nLoad\n{}", pairs(&load(&facts.stats)));
    text += &format!("\nLengths\n{}", distributions("tokens", [("prompt", prompt, mean), ("output", output, mean)]));
    if sessions.multi_turn > 0 {
        text += &format!("\nSessions\n{}", conversations(sessions));
    }
    text += &format!("\nPrefix reuse, one cache for all\n{}", reuse(cache, sessions));
    text
}

fn load(stats: &TraceStats) -> Vec<(&'static str, String)> {
    let TraceStats { requests, prompt_tokens, output_tokens, arrivals, .. } = stats;
    let tokens = format!("{} prompt, {} output", about(*prompt_tokens as f64), about(*output_tokens as f64));
    let mut lines = vec![("requests", grouped(*requests)), ("tokens", tokens)];
    let Some(a) = arrivals else {
        lines.push(("arrivals", "the trace does not say when requests arrive".to_owned()));
        return lines;
    };
    lines.push(("duration", seconds(a.duration_s)));
    if a.mean_per_s > 0.0 {
        let per_s = |tokens: u64| about(tokens as f64 / a.duration_s);
        let (rate, prompt, output) = (about(a.mean_per_s), per_s(*prompt_tokens), per_s(*output_tokens));
        lines.push(("rate", format!("{rate} requests/s, {prompt} prompt tokens/s, {output} output tokens/s")));
        let (peak, window, at) = (about(a.peak_per_s), seconds(a.window_s), seconds(a.peak_at_s));
        let times = about(a.peak_to_mean);
        lines.push(("peak", format!("{peak} requests/s in the {window} from {at} on, {times} times the mean")));
        let cv = about(a.gap_cv);
        lines.push(("burstiness", format!("{cv} coefficient of variation of the gaps (evenly spaced 0, Poisson 1)")));
        lines.push(("over time", over_time(a)));
    }
    lines
}

/// Counts over time as a line of bars.
fn over_time(arrivals: &Arrivals) -> String {
    let counts: Vec<u64> = arrivals.windows.iter().map(|w| w.count).collect();
    let per_bar = counts.len().div_ceil(BARS).max(1);
    let sums = counts.chunks(per_bar).map(|chunk| chunk.iter().sum::<u64>() as f64);
    format!("{}  {} each", bars(sums), seconds(arrivals.window_s * per_bar as f64))
}

/// A row: its name, the values, how a value is written.
type Row<'a> = (&'a str, &'a Distribution, fn(f64) -> String);

/// Distributions as a table; `what` heads the first column.
fn distributions<const N: usize>(what: &str, list: [Row<'_>; N]) -> String {
    let widest = list.iter().map(|(_, d, _)| d.histogram.len()).max().unwrap_or(0);
    let line = |(name, d, written): Row<'_>| {
        let shape = format!("{:<widest$}", histogram(&d.histogram));
        let cells = [d.mean, d.p50, d.p90, d.p99, d.min, d.max].map(written);
        std::iter::once(name.to_owned()).chain(cells).chain([shape]).collect()
    };
    let header = [what, "mean", "p50", "p90", "p99", "min", "max", "min to max, log"];
    table(&header, list.into_iter().map(line), 1)
}

fn conversations(sessions: &SessionStats) -> String {
    let SessionStats { count, multi_turn, turns, think_ms, starts } = sessions;
    let count = format!("{}, {} of them of several turns", grouped(*count), grouped(*multi_turn));
    let mut lines = vec![("sessions", count)];
    if let Some(starts) = starts.as_ref().filter(|s| s.mean_per_s > 0.0) {
        let (rate, cv) = (about(starts.mean_per_s), about(starts.gap_cv));
        lines.push(("begin", format!("{rate} per s, {cv} coefficient of variation of the gaps")));
    }
    pairs(&lines) + &distributions("per session", [("turns", turns, mean), ("wait before a turn", think_ms, ms)])
}

fn reuse(cache: &CacheStats, sessions: &SessionStats) -> String {
    let several = sessions.multi_turn > 0;
    let blocks = format!("{}, {} different ones", grouped(cache.blocks), grouped(cache.distinct_blocks));
    let ideal = format!("{} of them are found again in a cache without limit", share(cache.ideal_reuse));
    let mut lines = vec![("prompt blocks", blocks), ("ideal reuse", ideal)];
    if several {
        let (own, others) = (share(cache.within_sessions), share(cache.across_sessions));
        lines.push(("of this", format!("{own} from earlier turns of the session, {others} from other sessions")));
    }
    let other = if several { "another session" } else { "another request" };
    let (all, distinct) = (percent(cache.seen_in_other_sessions), percent(cache.distinct_shared));
    lines.push(("overlap", format!("{all} of prompt blocks are in {other} too, {distinct} of the different ones")));
    if cache.ideal_reuse == 0.0 {
        return pairs(&lines);
    }
    let most = cache.curve.last().map_or(0, |point| point.blocks);
    let told = |blocks: u64| blocks.is_power_of_two() && blocks >= most >> 9;
    let told = cache.curve.iter().filter(|p| p.asked_for || told(p.blocks));
    let mut points: Vec<_> = told.map(|p| (p.blocks, p.tokens, p.reuse, p.of_ideal)).collect();
    // The sizes that give a round share of the ideal stand between the round sizes.
    points.extend(cache.sizes.iter().map(|s| (s.blocks, s.tokens, s.of_ideal * cache.ideal_reuse, s.of_ideal)));
    points.sort_by_key(|(blocks, ..)| *blocks);
    points.dedup_by_key(|(blocks, ..)| *blocks);
    let line = |(blocks, tokens, reuse, of_ideal): (u64, u64, f64, f64)| {
        vec![grouped(blocks), about(tokens as f64), share(reuse), percent(of_ideal)]
    };
    pairs(&lines) + &table(&["cache, blocks", "tokens", "reuse", "of ideal"], points.into_iter().map(line), 0)
}

/// One row per trace.
fn rows(all: &[Facts]) -> String {
    let header = [
        "trace",
        "format",
        "requests",
        "duration",
        "req/s",
        "CV",
        "ISL mean",
        "p50",
        "p99",
        "OSL mean",
        "p50",
        "p99",
        "sessions",
        "turns",
        "reuse",
        "90 % of it takes",
    ];
    let line = |facts: &Facts| {
        let TraceStats { requests, arrivals, prompt, output, sessions, cache, .. } = &facts.stats;
        let timed = |value: fn(&Arrivals) -> String| arrivals.as_ref().map_or_else(|| "-".to_owned(), value);
        let needed = cache.sizes.iter().find(|size| size.of_ideal == 0.9).filter(|_| cache.ideal_reuse > 0.0);
        vec![
            facts.name.clone(),
            facts.format.clone().unwrap_or_default(),
            grouped(*requests),
            timed(|a| seconds(a.duration_s)),
            timed(|a| about(a.mean_per_s)),
            timed(|a| about(a.gap_cv)),
            mean(prompt.mean),
            mean(prompt.p50),
            mean(prompt.p99),
            mean(output.mean),
            mean(output.p50),
            mean(output.p99),
            grouped(sessions.count),
            mean(sessions.turns.mean),
            share(cache.ideal_reuse),
            needed.map_or_else(|| "-".to_owned(), |size| format!("{} tokens", about(size.tokens as f64))),
        ]
    };
    columns(&header, all.iter().map(line), 2)
}
