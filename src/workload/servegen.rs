//! ServeGen client profiles: requests drawn from what was measured of the clients of a service.
//!
//! A client has two files. `NAME-trace.csv` holds a row per time window (600 s in the published data): start in seconds,
//! requests per second, coefficient of variation, and the distribution of gaps that fits best, `Gamma` or `Weibull` with
//! shape and scale; a window without requests names none. `NAME-dataset.json` holds, by time of day, how long prompts
//! and outputs are.
//!
//! Every client is a renewal process whose clock runs at the rate of the window: a gap is drawn from the window's
//! distribution, scaled to a mean of one request, and lasts until that many requests are due. So each window has its
//! rate on average, and a gap may reach from one window into the next. (ServeGen's own generator stretches the gaps of
//! each window to fill it, and loses one request of every window that way.) Prompt and output lengths are drawn
//! independently of each other; the data has only the two distributions.
//!
//! Every client has random streams of its own, named after it, so that another client beside it changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Weibull};
use serde_json::{Map, Value};

use crate::scenario::{SyntheticArrivals, TraceWindow};
use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::checks;
use super::content::Content;
use super::hints::RouterHints;
use super::model::{MAX_GENERATED, MAX_TOKENS, Release, RequestSpec, Session, Workload};
use super::options::TraceOptions;
use super::source::{Source, lines};
use super::streams;

const TRACE: &str = "-trace.csv";
const DATASET: &str = "-dataset.json";
/// Length of a window that no other one follows, seconds.
const WINDOW_S: f64 = 600.0;
/// What a random stream is for.
const GAPS: u64 = 0;
const LENGTHS: u64 = 1;

/// Whether a line is a row of a client's rates.
pub(super) fn is_profile_row(line: &str) -> bool {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let number = |at: usize| fields.get(at).is_some_and(|text| text.parse::<f64>().is_ok());
    fields.len() == 6
        && matches!(fields.get(3).copied(), Some("" | "Gamma" | "Weibull"))
        && [0, 1, 2, 4, 5].into_iter().all(number)
}

/// Draws the requests of the clients that `files` belong to.
pub(super) fn load(files: &[PathBuf], options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut notes = Vec::new();
    let mut clients = Vec::new();
    for stem in stems(files)? {
        clients.push(Client::read(&stem, &mut notes)?);
    }
    let rate = match options.reading.arrivals {
        Some(SyntheticArrivals::Poisson { rate_per_s }) => Some(rate_per_s),
        _ => None,
    };
    let everything = TraceWindow { start_s: 0.0, end_s: f64::INFINITY };
    let window = options.reading.window.unwrap_or(everything);
    let scales = rate.map(|rate| scales(&clients, rate));
    let expected: f64 = clients.iter().flat_map(|c| c.pieces(&window, scales.as_deref())).map(|p| p.mass()).sum();
    if expected.is_nan() || expected > MAX_GENERATED as f64 {
        let cause = format!("about {expected:.0} requests would be drawn, more than {MAX_GENERATED}");
        return Err(WorkloadError::setting("trace-window", cause, "draw a part, such as 0..3600 seconds"));
    }
    let mut drawn = Vec::new();
    for client in &clients {
        client.draw(&window, scales.as_deref(), options.seed, &mut drawn)?;
    }
    // Stable: clients are sorted by name.
    drawn.sort_by(|a: &Drawn, b: &Drawn| a.at_s.total_cmp(&b.at_s));
    let Some(begin_s) = drawn.first().map(|first| first.at_s) else {
        let cause = format!("the clients send nothing in {window} s");
        return Err(WorkloadError::setting("trace-window", cause, "choose another part, or more of it"));
    };
    notes.push(format!("{} requests were drawn from the profiles of {} clients", drawn.len(), clients.len()));
    workload(&drawn, begin_s, options, notes)
}

fn workload(
    drawn: &[Drawn],
    begin_s: f64,
    options: &TraceOptions,
    notes: Vec<String>,
) -> Result<Workload, WorkloadError> {
    let mut requests = Vec::with_capacity(drawn.len());
    for request in drawn {
        let arrival = match options.concurrency {
            Some(_) => SimTime::ZERO,
            None => SimTime::from_ms((request.at_s - begin_s) * 1_000.0 / options.speedup)
                .map_err(|e| WorkloadError::setting("arrival-speedup-ratio", e.to_string(), "choose a larger one"))?,
        };
        let (prompt_tokens, output_tokens) = (request.input, request.output);
        requests.push(RequestSpec { arrival, delay: SimDuration::ZERO, prompt_tokens, output_tokens });
    }
    let release = match options.concurrency {
        None => Release::Flat,
        concurrency => {
            let session = |first: u32| Session { name: format!("request_{}", first + 1).into(), first, turns: 1 };
            let sessions = (0..).take(requests.len()).map(session).collect();
            Release::Sessions { sessions, concurrency, named: true }
        }
    };
    Ok(Workload {
        requests,
        release,
        content: Content::Unique,
        planned_outputs: true,
        timed: true,
        hints: RouterHints::default(),
        notes,
    })
}

/// What the two files of each client are called before their endings, sorted.
fn stems(files: &[PathBuf]) -> Result<Vec<String>, WorkloadError> {
    let mut stems = Vec::new();
    for file in files {
        let name = file.to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let Some(stem) = name.strip_suffix(TRACE).or_else(|| name.strip_suffix(DATASET)) else {
            let cause = format!("is no ServeGen file by its name, which must end in {TRACE} or {DATASET}");
            return Err(WorkloadError::file(file, cause, "rename the file, or leave it out"));
        };
        stems.push(stem.to_owned());
    }
    stems.sort();
    stems.dedup();
    Ok(stems)
}

/// One client of the service.
#[derive(Debug)]
struct Client {
    /// Name of its files without folders and endings.
    name: String,
    windows: Vec<Window>,
    /// By start in seconds.
    lengths: Vec<(f64, Lengths)>,
}

/// A client's behaviour for a while.
#[derive(Debug, Clone, Copy)]
struct Window {
    start_s: f64,
    end_s: f64,
    rate_per_s: f64,
    gaps: Gaps,
}

/// A distribution of gaps, scaled to a mean of 1.
#[derive(Debug, Clone, Copy)]
enum Gaps {
    Gamma(Gamma<f64>),
    Weibull(Weibull<f64>),
}

impl Gaps {
    fn new(name: &str, shape: f64) -> Result<Self, String> {
        if name == "Gamma" {
            return Gamma::new(shape, 1.0 / shape).map(Self::Gamma).map_err(|e| e.to_string());
        }
        let mean = libm::tgamma(1.0 + 1.0 / shape);
        if !mean.is_finite() {
            return Err("the mean is infinite".to_owned());
        }
        Weibull::new(1.0 / mean, shape).map(Self::Weibull).map_err(|e| e.to_string())
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Gamma(gamma) => gamma.sample(rng),
            Self::Weibull(weibull) => weibull.sample(rng),
        }
    }
}

/// A stretch of time with one rate.
struct Piece {
    start_s: f64,
    end_s: f64,
    rate_per_s: f64,
    gaps: Gaps,
}

impl Piece {
    /// Requests expected in it.
    fn mass(&self) -> f64 {
        (self.end_s - self.start_s) * self.rate_per_s
    }
}

/// A factor on all rates between two times.
struct Scale {
    start_s: f64,
    end_s: f64,
    factor: f64,
}

/// What makes the rates of all clients together `rate` at all times when any of them is active.
fn scales(clients: &[Client], rate: f64) -> Vec<Scale> {
    let windows = || clients.iter().flat_map(|client| &client.windows);
    let mut borders: Vec<f64> = windows().flat_map(|window| [window.start_s, window.end_s]).collect();
    borders.sort_by(f64::total_cmp);
    borders.dedup();
    // Rates by the index of the border at which they begin and end to count.
    let mut change = vec![0.0; borders.len()];
    for window in windows() {
        for (border, by) in [(window.start_s, window.rate_per_s), (window.end_s, -window.rate_per_s)] {
            if let Ok(at) = borders.binary_search_by(|b| b.total_cmp(&border))
                && let Some(slot) = change.get_mut(at)
            {
                *slot += by;
            }
        }
    }
    let mut total = 0.0;
    let pairs = borders.iter().zip(borders.iter().skip(1)).zip(change);
    let scale = |((start, end), change): ((&f64, &f64), f64)| {
        total += change;
        let factor = if total > 1e-12 { rate / total } else { 0.0 };
        Scale { start_s: *start, end_s: *end, factor }
    };
    pairs.map(scale).collect()
}

/// A request.
#[derive(Debug)]
struct Drawn {
    at_s: f64,
    input: u32,
    output: u32,
}

impl Client {
    fn read(stem: &str, notes: &mut Vec<String>) -> Result<Self, WorkloadError> {
        let open = |ending: &str| {
            let plain = PathBuf::from(format!("{stem}{ending}"));
            let packed = PathBuf::from(format!("{stem}{ending}.gz"));
            Source::read(if !plain.exists() && packed.exists() { &packed } else { &plain })
        };
        let (trace, dataset) = (open(TRACE)?, open(DATASET)?);
        let windows = read_windows(&trace.path, trace.text(notes)?)?;
        let lengths = read_lengths(&dataset.path, dataset.text(notes)?)?;
        let name = Path::new(stem).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, windows, lengths })
    }

    /// The client's windows within `window`, cut where the factor on rates changes.
    fn pieces<'a>(&'a self, window: &'a TraceWindow, scales: Option<&'a [Scale]>) -> impl Iterator<Item = Piece> + 'a {
        const WHOLE: &[Scale] = &[Scale { start_s: f64::NEG_INFINITY, end_s: f64::INFINITY, factor: 1.0 }];
        let scales = scales.unwrap_or(WHOLE);
        self.windows.iter().flat_map(move |w| {
            let first = scales.partition_point(|scale| scale.end_s <= w.start_s);
            let within = scales.iter().skip(first).take_while(|scale| scale.start_s < w.end_s);
            within.filter_map(move |scale| {
                let piece = Piece {
                    start_s: w.start_s.max(window.start_s).max(scale.start_s),
                    end_s: w.end_s.min(window.end_s).min(scale.end_s),
                    rate_per_s: w.rate_per_s * scale.factor,
                    gaps: w.gaps,
                };
                (piece.end_s > piece.start_s && piece.rate_per_s > 0.0).then_some(piece)
            })
        })
    }

    fn stream(&self, seed: u64, purpose: u64) -> ChaCha8Rng {
        // FNV-1a, so that the name alone decides.
        let hash = self
            .name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        streams::stream(seed, hash.wrapping_mul(2).wrapping_add(purpose))
    }

    fn draw(
        &self,
        window: &TraceWindow,
        scales: Option<&[Scale]>,
        seed: u64,
        drawn: &mut Vec<Drawn>,
    ) -> Result<(), WorkloadError> {
        let (mut gaps, mut lengths) = (self.stream(seed, GAPS), self.stream(seed, LENGTHS));
        // Requests that are to become due before the next one is sent.
        let mut owed: Option<f64> = None;
        for piece in self.pieces(window, scales) {
            let mut at_s = piece.start_s;
            let mut left = owed.unwrap_or_else(|| piece.gaps.draw(&mut gaps));
            loop {
                let next_s = at_s + left / piece.rate_per_s;
                if next_s >= piece.end_s {
                    owed = Some((left - (piece.end_s - at_s) * piece.rate_per_s).max(0.0));
                    break;
                }
                at_s = next_s;
                let (input, output) = self.lengths_at(at_s, &mut lengths);
                drawn.push(Drawn { at_s, input, output });
                if drawn.len() as u64 > MAX_GENERATED {
                    let cause = format!("more than {MAX_GENERATED} requests were drawn");
                    return Err(WorkloadError::setting("trace-window", cause, "draw a part, such as 0..3600 seconds"));
                }
                left = piece.gaps.draw(&mut gaps);
            }
        }
        Ok(())
    }

    /// Prompt and output length of a request at a time: from the latest data before it, or the first there is.
    fn lengths_at(&self, at_s: f64, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let after = self.lengths.partition_point(|(start, _)| *start <= at_s);
        match self.lengths.get(after.saturating_sub(1)) {
            Some((_, lengths)) => lengths.draw(rng),
            None => (1, 0),
        }
    }
}

fn read_windows(path: &Path, text: &str) -> Result<Vec<Window>, WorkloadError> {
    // Start, and rate and gaps if there are requests.
    let mut rows: Vec<(f64, Option<(f64, Gaps)>)> = Vec::new();
    for (line, row) in lines(text) {
        let fields: Vec<&str> = row.trim().split(',').collect();
        let [start, rate, _, name, shape, _] = fields.as_slice() else {
            let cause = format!("has {} fields", fields.len());
            let cure = "a row has 6: start, rate, coefficient of variation, Gamma or Weibull, shape, scale";
            return Err(WorkloadError::field(path, line, "row", cause, cure));
        };
        let number = |field, text: &str| {
            let value = text.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
            value.ok_or_else(|| {
                let cause = format!("is \"{}\"", text.escape_debug());
                WorkloadError::field(path, line, field, cause, "give a number of zero or more")
            })
        };
        let start = number("start", start)?;
        if rows.last().is_some_and(|(before, _)| *before >= start) {
            let cause = "is not later than the row before";
            return Err(WorkloadError::field(path, line, "start", cause, "sort the rows by time"));
        }
        let active = match *name {
            "" => None,
            "Gamma" | "Weibull" => {
                let gaps = Gaps::new(name, number("shape", shape)?).map_err(|cause| {
                    WorkloadError::field(
                        path,
                        line,
                        "shape",
                        format!("is {shape}: {cause}"),
                        "give a number above zero",
                    )
                })?;
                Some((number("rate", rate)?, gaps))
            }
            other => {
                let cause = format!("is \"{}\"", other.escape_debug());
                return Err(WorkloadError::field(
                    path,
                    line,
                    "distribution",
                    cause,
                    "use Gamma or Weibull, or nothing",
                ));
            }
        };
        rows.push((start, active));
    }
    checks::row_count(path, rows.len())?;
    let starts: Vec<f64> = rows.iter().map(|(start, _)| *start).collect();
    let last = match starts.as_slice() {
        [.., before, last] => last - before,
        _ => WINDOW_S,
    };
    let ends = starts.iter().skip(1).copied().chain(starts.last().map(|start| start + last));
    let window = |((start_s, active), end_s): ((f64, Option<(f64, Gaps)>), f64)| {
        active.map(|(rate_per_s, gaps)| Window { start_s, end_s, rate_per_s, gaps })
    };
    Ok(rows.into_iter().zip(ends).filter_map(window).collect())
}

/// How long prompts and outputs are.
#[derive(Debug)]
struct Lengths {
    /// Prompt tokens are the sum of these: a length, and how many of it there are.
    prompts: Vec<(Table, Option<Table>)>,
    outputs: Table,
}

impl Lengths {
    fn draw(&self, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let mut prompt = 0_u64;
        for (length, count) in &self.prompts {
            let count = count.as_ref().map_or(1, |count| count.draw(rng));
            for _ in 0..count {
                prompt += u64::from(length.draw(rng));
            }
        }
        (prompt.clamp(1, u64::from(MAX_TOKENS)) as u32, self.outputs.draw(rng))
    }
}

/// Most pieces of one kind a prompt may have.
const MAX_PIECES: u32 = 10_000;

/// A distribution over whole numbers.
#[derive(Debug)]
struct Table {
    values: Vec<u32>,
    /// Sum of the weights up to each value.
    sums: Vec<f64>,
}

impl Table {
    /// The table of weights by value; nothing if it is empty.
    fn new(weights: BTreeMap<u32, f64>) -> Option<Self> {
        let mut sum = 0.0;
        let mut table = Self { values: Vec::new(), sums: Vec::new() };
        for (value, weight) in weights.into_iter().filter(|(_, weight)| *weight > 0.0) {
            sum += weight;
            table.values.push(value);
            table.sums.push(sum);
        }
        (sum > 0.0 && sum.is_finite()).then_some(table)
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let at = rng.random::<f64>() * total;
        let index = self.sums.partition_point(|sum| *sum <= at).min(self.values.len().saturating_sub(1));
        self.values.get(index).copied().unwrap_or(0)
    }
}

fn read_lengths(path: &Path, text: &str) -> Result<Vec<(f64, Lengths)>, WorkloadError> {
    let windows: BTreeMap<String, Map<String, Value>> =
        serde_json::from_str(text).map_err(|error| WorkloadError::document(path, &error))?;
    let mut lengths = Vec::new();
    for (start, fields) in windows {
        let Some(start_s) = start.parse::<f64>().ok().filter(|s| s.is_finite()) else {
            let cause = format!("the key \"{}\" is no time", start.escape_debug());
            return Err(WorkloadError::file(path, cause, "keys are seconds since the start"));
        };
        let table = |name: &str, limit: u32| match fields.get(name) {
            None => Ok(None),
            Some(value) => table(value, limit).map_err(|cause| {
                let cause = format!("`{name}` at {start}: {cause}");
                WorkloadError::file(path, cause, "give a dictionary of weights by number of tokens")
            }),
        };
        let Some(outputs) = table("output_tokens", MAX_TOKENS)? else { continue };
        let mut prompts = Vec::new();
        for name in ["input_tokens", "text_tokens"] {
            prompts.extend(table(name, MAX_TOKENS)?.map(|length| (length, None)));
        }
        if prompts.is_empty() {
            continue;
        }
        for (length, count) in
            [("image_tokens", "image_count"), ("audio_tokens", "audio_count"), ("video_tokens", "video_count")]
        {
            if let (Some(length), Some(count)) = (table(length, MAX_TOKENS)?, table(count, MAX_PIECES)?) {
                prompts.push((length, Some(count)));
            }
        }
        lengths.push((start_s, Lengths { prompts, outputs }));
    }
    if lengths.is_empty() {
        let cause = "no time has both prompt and output lengths";
        return Err(WorkloadError::file(path, cause, "give `input_tokens` and `output_tokens` for at least one time"));
    }
    lengths.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(lengths)
}

/// Weights by value, as a JSON object or as the text of a Python dictionary, which is what the published files hold. An
/// empty one means that there is no data.
fn table(value: &Value, limit: u32) -> Result<Option<Table>, String> {
    let mut weights = BTreeMap::new();
    let mut add = |key: &str, weight: f64| {
        let key = key.trim();
        let value = key.parse::<u32>().ok().filter(|v| *v <= limit);
        let value = value.ok_or_else(|| format!("\"{}\" is no number up to {limit}", key.escape_debug()))?;
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(format!("the weight of {value} is {weight}"));
        }
        weights.insert(value, weight);
        Ok(())
    };
    match value {
        Value::Object(map) => {
            for (key, weight) in map {
                add(key, weight.as_f64().ok_or_else(|| format!("the weight of {key} is {weight}"))?)?;
            }
        }
        Value::String(text) => {
            let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let inner = inner.ok_or("it is no dictionary")?;
            for entry in inner.split(',').filter(|entry| !entry.trim().is_empty()) {
                let (key, weight) = entry.split_once(':').ok_or("an entry has no `:`")?;
                let weight = weight.trim().parse().map_err(|_| "a weight is no number".to_owned())?;
                add(key, weight)?;
            }
        }
        Value::Null => {}
        _ => return Err("it is no dictionary".to_owned()),
    }
    Ok(Table::new(weights))
}
