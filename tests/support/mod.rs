//! Runs a fixture of the reference through the library and lists every difference.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, panic};

use dynosim::report::{Report, SessionNames, write_rows};
use dynosim::scenario::Scenario;
use dynosim::sim::Simulation;
use dynosim::workload;
use serde_json::{Map, Value, json};

/// Absolute tolerance of times, milliseconds.
const TIME_MS: f64 = 1e-6;
/// Relative tolerance of times in request rows.
const TIME_RELATIVE: f64 = 1e-9;
/// Relative tolerance of report figures.
const REPORT_RELATIVE: f64 = 1e-6;
/// Relative tolerance of report figures of the KV router where nothing is drawn.
const KV_RELATIVE: f64 = 1e-9;
/// How far beyond the runs of the reference a figure may lie where ties are drawn, as a share of its bounds.
const RANGE_MARGIN: f64 = 0.05;
/// Relative tolerance of percentiles that come from a sketch.
const SKETCH_RELATIVE: f64 = 2e-3;
/// Differences printed per fixture; the rest is counted.
const SHOWN: usize = 12;

/// A fixture in one form, whatever its folder.
pub struct Case {
    /// File name without extension.
    pub name: String,
    /// The scenario, as a JSON document.
    scenario: Map<String, Value>,
    /// The reference's report.
    report: Map<String, Value>,
    /// Least and greatest value of each figure over several runs of the reference, where its ties are drawn unseeded.
    range: Option<Map<String, Value>>,
    /// The reference's rows, if recorded.
    rows: Option<Vec<Value>>,
    /// Keeps an inline trace on disk.
    _folder: Option<tempfile::TempDir>,
}

/// What to do with a fixture.
pub enum Verdict {
    /// Run it.
    Run(Box<Case>),
    /// Needs a file that is not here.
    NoTrace(PathBuf),
}

/// The folder of fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Names of all fixtures of a kind, sorted.
pub fn names(kind: &str) -> Vec<String> {
    let entries = fs::read_dir(fixtures().join(kind)).expect("the fixture folder is readable");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.expect("entry").file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no fixtures of kind {kind}");
    names
}

/// Reads a fixture.
pub fn read(kind: &str, name: &str) -> Verdict {
    let text = fs::read_to_string(fixtures().join(kind).join(format!("{name}.json"))).expect("readable fixture");
    let fixture: Value = serde_json::from_str(&text).expect("fixture is JSON");
    let mut scenario = Map::new();
    for (flag, value) in fixture["cli"].as_object().expect("cli is an object") {
        let key = flag.trim_start_matches('-');
        // Objects are given as JSON text on the command line.
        let inline = value.as_str().filter(|text| text.starts_with('{'));
        let value = inline.map_or_else(|| value.clone(), |text| serde_json::from_str(text).expect("inline JSON"));
        scenario.insert(key.to_owned(), value);
    }
    if let Some(script) = fixture.get("scaling_policy") {
        scenario.insert("scaling".to_owned(), script.clone());
    }
    let mut folder = None;
    match &fixture["trace"] {
        Value::Array(rows) => {
            let temporary = tempfile::tempdir().expect("temporary folder");
            let path = temporary.path().join("trace.jsonl");
            let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
            fs::write(&path, lines).expect("trace written");
            scenario.insert("trace".to_owned(), json!(path));
            for (file, arrays) in fixture["files"].as_object().into_iter().flatten() {
                write_npz(&temporary.path().join(file), arrays);
                let args = scenario.get_mut("extra-engine-args").expect("files belong to engine arguments");
                args["planner_profile_data"] = json!(temporary.path().join(file));
            }
            folder = Some(temporary);
        }
        Value::String(file) => {
            let path = if file.starts_with("traces/") { fixtures().join(file) } else { shared_trace(file) };
            if !path.is_file() {
                return Verdict::NoTrace(path);
            }
            scenario.insert("trace".to_owned(), json!(path));
        }
        _ => {}
    }
    let expected = &fixture["expected"];
    let object = |value: &Value| value.as_object().expect("report is an object").clone();
    let list = |value: Option<&Value>| value.map(|rows| rows.as_array().expect("rows are a list").clone());
    let (report, rows) = match expected.get("report") {
        Some(report) => (object(report), list(expected.get("requests"))),
        None => (object(expected), list(fixture.get("expected_requests"))),
    };
    let range = fixture.get("expected_range").map(object);
    Verdict::Run(Box::new(Case { name: name.to_owned(), scenario, report, range, rows, _folder: folder }))
}

/// Writes `arrays`, lists of numbers or of equally long lists of numbers, as float64 members of an archive.
fn write_npz(path: &Path, arrays: &Value) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).expect("archive created"));
    for (name, array) in arrays.as_object().expect("arrays by name") {
        let rows = array.as_array().expect("an array");
        let shape = match rows[0].as_array() {
            Some(row) => format!("({}, {})", rows.len(), row.len()),
            None => format!("({},)", rows.len()),
        };
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:117}\n");
        let flat = rows.iter().flat_map(|row| row.as_array().map_or_else(|| vec![row.clone()], Clone::clone));
        let numbers = flat.flat_map(|number| number.as_f64().expect("a number").to_le_bytes());
        let bytes: Vec<u8> = [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()]
            .concat()
            .into_iter()
            .chain(numbers)
            .collect();
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).expect("member begun");
        std::io::Write::write_all(&mut archive, &bytes).expect("member written");
    }
    archive.finish().expect("archive written");
}

/// Where a large public trace is expected.
fn shared_trace(file: &str) -> PathBuf {
    let shared = env::var_os("DYNOSIM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    shared.join("traces").join(file)
}

/// Runs the given fixtures and fails with the differences of all of them.
pub fn check(kind: &str, names: impl IntoIterator<Item = String>) {
    let (mut run, mut failures) = (0, Vec::new());
    for name in names {
        match read(kind, &name) {
            Verdict::NoTrace(path) => {
                eprintln!("SKIPPED: {kind}/{name} needs {}; set DYNOSIM_SHARED to the folder above", path.display());
            }
            Verdict::Run(case) => {
                run += 1;
                let differences = case.differences();
                if !differences.is_empty() {
                    let shown: String = differences.iter().take(SHOWN).map(|line| format!("    {line}\n")).collect();
                    failures.push(format!("  {}: {} differences\n{shown}", case.name, differences.len()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {run} {kind} fixtures differ:\n{}", failures.len(), failures.concat());
    eprintln!("{run} {kind} fixtures agree");
}

impl Case {
    /// Everything in which our run differs from the reference's.
    fn differences(&self) -> Vec<String> {
        // A panic in one fixture must not hide the others.
        let ran = panic::catch_unwind(|| execute(&self.scenario));
        match ran {
            Ok(Ok((report, rows))) => {
                let by_cost = self.scenario.get("router-mode").is_some_and(|mode| mode == "kv_router");
                let mut differences = match &self.range {
                    Some(range) => range_differences(range, &report),
                    None => {
                        report_differences(&self.report, &report, if by_cost { KV_RELATIVE } else { REPORT_RELATIVE })
                    }
                };
                if let Some(expected) = self.rows.as_ref().filter(|_| self.range.is_none()) {
                    // Of equal workers the reference takes any, so they may have changed places.
                    let ignored: &[&str] = if by_cost { &["prefill_worker_idx", "decode_worker_idx"] } else { &[] };
                    differences.extend(row_differences(expected, &rows, ignored));
                }
                differences
            }
            Ok(Err(error)) => vec![format!("does not run: {error}")],
            Err(_) => vec!["panicked".to_owned()],
        }
    }
}

/// Report and rows of a scenario.
fn execute(scenario: &Map<String, Value>) -> Result<(Report, Vec<Value>), String> {
    let text = Value::Object(scenario.clone()).to_string();
    let run = Scenario::from_json(&text).and_then(|s| s.resolve(Path::new(""))).map_err(|e| e.to_string())?;
    let workload = workload::load(&run).map_err(|e| e.to_string())?;
    let (sessions, notes) = (SessionNames::of(&workload), workload.notes.clone());
    let mut simulation = Simulation::new(&run, workload).map_err(|e| e.to_string())?;
    simulation.run_to_end();
    let outcome = simulation.finish();
    let mut lines = Vec::new();
    write_rows(&mut lines, &outcome, &sessions).map_err(|e| e.to_string())?;
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>();
    let report = Report::build(&run, &outcome, &sessions, &notes, Duration::from_millis(1));
    Ok((report, rows.map_err(|e| e.to_string())?))
}

/// Figures outside the range of the reference's runs, widened by [`RANGE_MARGIN`].
///
/// Least and greatest values belong to a single request each and are left out: ten more runs of the reference's hour with
/// four workers had a `min_e2e_latency_ms` from 25.4 to 42.3 where the five of the fixture have 35.7 to 57.3.
fn range_differences(range: &Map<String, Value>, report: &Report) -> Vec<String> {
    let outside = |(key, bounds): (&String, &Value)| {
        let (low, high) = (bounds[0].as_f64().expect("a number"), bounds[1].as_f64().expect("a number"));
        let got = report.number(key);
        // Counts do not depend on how ties went.
        let count = bounds[0].is_u64() && bounds[0] == bounds[1];
        let fits = got.is_some_and(|got| {
            if count {
                return got == low;
            }
            got >= low - RANGE_MARGIN * low.abs() - TIME_MS && got <= high + RANGE_MARGIN * high.abs() + TIME_MS
        });
        (!fits).then(|| format!("report {key}: expected {low} to {high}, got {got:?}"))
    };
    let of_one_request = |key: &str| ["min_", "max_"].iter().any(|prefix| key.starts_with(prefix));
    range.iter().filter(|(key, _)| !of_one_request(key)).filter_map(outside).collect()
}

/// Integers are counts and equal exactly; floats within tolerance.
fn report_differences(expected: &Map<String, Value>, report: &Report, relative: f64) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, wanted) in expected {
        let got = report.get(key).unwrap_or(&Value::Null);
        let sketched = ["_itl_ms", "_output_token_throughput_per_user"].iter().any(|name| key.ends_with(name))
            && ["median", "p75", "p90", "p95", "p99"].iter().any(|p| key.starts_with(p));
        let relative = if sketched { SKETCH_RELATIVE } else { relative };
        // Only times and their spread may be off by rounding alone.
        let absolute = if key.ends_with("_ms") || key.ends_with("_per_user") { TIME_MS } else { 1e-12 };
        if !agree(wanted, got, absolute, relative) {
            differences.push(format!("report {key}: expected {wanted}, got {got}"));
        }
    }
    differences
}

/// Rows are paired in a common order; a field the fixture leaves out is null.
fn row_differences(expected: &[Value], got: &[Value], ignored: &[&str]) -> Vec<String> {
    let sorted = |rows: &[Value]| {
        let keyed = |row: &Value| {
            let mut row = row.clone();
            row.as_object_mut().expect("row is an object").retain(|key, _| !ignored.contains(&key.as_str()));
            (order_key(&row), row)
        };
        let mut rows: Vec<(String, Value)> = rows.iter().map(keyed).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    };
    let mut differences = Vec::new();
    if expected.len() != got.len() {
        differences.push(format!("expected {} rows, got {}", expected.len(), got.len()));
    }
    for (index, ((_, wanted), (_, got))) in sorted(expected).iter().zip(&sorted(got)).enumerate() {
        for (key, value) in got.as_object().expect("row is an object") {
            let wanted = wanted.get(key).unwrap_or(&Value::Null);
            if key != "uuid" && !agree(wanted, value, TIME_MS, TIME_RELATIVE) {
                let arrival = &got["arrival_time_ms"];
                differences.push(format!("row {index} (arrival {arrival}) {key}: expected {wanted}, got {value}"));
            }
        }
    }
    differences
}

/// Times count to the nanosecond, so that the last bits of a float do not decide the order.
fn order_key(row: &Value) -> String {
    let nanos = |key: &str| row[key].as_f64().map_or(0, |ms| (ms * 1e6).round() as u64);
    let count = |key: &str| row[key].as_u64().map_or(0, |n| n + 1);
    format!(
        "{:020} {:40} {:09} {:09} {:09} {:020} {:020} {:05} {:05}",
        nanos("arrival_time_ms"),
        row["session_id"].as_str().unwrap_or(""),
        count("turn_index"),
        count("input_length"),
        count("requested_output_length"),
        nanos("first_token_ms"),
        nanos("terminal_time_ms"),
        count("prefill_worker_idx"),
        count("decode_worker_idx"),
    )
}

fn agree(wanted: &Value, got: &Value, absolute: f64, relative: f64) -> bool {
    match (wanted, got) {
        (Value::Number(wanted), Value::Number(got)) if wanted.is_f64() => {
            let (Some(wanted), Some(got)) = (wanted.as_f64(), got.as_f64()) else { return false };
            (wanted - got).abs() <= absolute + relative * wanted.abs()
        }
        (Value::Number(wanted), Value::Number(got)) => wanted.as_f64() == got.as_f64(),
        _ => wanted == got,
    }
}
