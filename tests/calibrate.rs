//! Calibration: known corrections are found again, the second half stays unseen, files and runs agree, bad input is named,
//! and four real engines are met as closely as the documentation says.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use dynosim::calibrate::{
    Calibration, Comparison, Knobs, Measurements, Metric, Parameter, Replay, Settings, calibrate,
};
use dynosim::perf::Correction;
use dynosim::scenario::Scenario;
use dynosim::time::SimTime;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An engine that is busy, now and then idle, and short of KV blocks with the pool of [`BLOCKS`].
const ENGINE: &str = r#"{"timing": {"roofline": {"model": "llama-3.1-8b", "gpu": "h100_sxm"}, "async_scheduling": true},
    "max_num_seqs": 48, "max_num_batched_tokens": 2048, "block_size": 16}"#;
const BLOCKS: u32 = 900;
/// A pool that never fills.
const AMPLE: u32 = 30_000;

/// Arrival in seconds, prompt tokens, output tokens.
fn arrivals() -> Vec<(f64, u32, u32)> {
    let mut at = 0.0;
    (0..160_u32)
        .map(|i| {
            at += if i % 40 == 39 { 3.0 } else { f64::from(i * 37 % 11) * 0.012 };
            (at, 40 + i * 331 % 1_500, 8 + i * 53 % 150)
        })
        .collect()
}

/// One line of measurements.
fn line(at: f64, first: f64, last: f64, input: u32, output: u32) -> String {
    json!({"arrival": at, "first_token": first, "last_token": last, "input_tokens": input, "output_tokens": output})
        .to_string()
}

fn parse(lines: &[String]) -> Measurements {
    Measurements::parse(&lines.join("\n"), Path::new("run/requests.jsonl")).unwrap()
}

fn scenario(engine: &str) -> Scenario {
    Scenario { extra_engine_args: Some(engine.parse().unwrap()), ..Scenario::default() }
}

/// What an engine with these corrections would have been measured to do; `bend` changes the latencies of a request.
fn measure(truth: Knobs, bend: impl Fn(usize) -> f64) -> Vec<String> {
    // Latencies are of no matter where only arrivals are replayed.
    let planned: Vec<String> = arrivals().iter().map(|(at, i, o)| line(*at, at + 1.0, at + 2.0, *i, *o)).collect();
    let planned = parse(&planned);
    let settings = Settings::complete(&scenario(ENGINE), Path::new(""), &planned).unwrap();
    let latencies = Replay::new(&settings.run, &planned.requests).simulate(truth).unwrap();
    arrivals()
        .iter()
        .zip(&latencies)
        .enumerate()
        .map(|(index, ((at, input, output), latency))| {
            let [first, last] = [latency[0], latency[2]].map(|ms| at + ms.unwrap() * bend(index) / 1e3);
            line(*at, first, last, *input, *output)
        })
        .collect()
}

fn truth() -> Knobs {
    let correction = Correction { prefill_scale: 1.4, decode_scale: 0.8, per_pass_overhead_ms: 3.0 };
    Knobs { correction, num_gpu_blocks: Some(BLOCKS) }
}

fn ample() -> Knobs {
    Knobs { num_gpu_blocks: Some(AMPLE), ..truth() }
}

/// A fit that begins with a pool of `blocks`.
fn fit(lines: &[String], blocks: u32, parameters: Option<&[Parameter]>) -> Calibration {
    let measured = parse(lines);
    let correction = Some(json!({"num_gpu_blocks": blocks}).to_string().parse().unwrap());
    let scenario = Scenario { timing_correction: correction, ..scenario(ENGINE) };
    let settings = Settings::complete(&scenario, Path::new(""), &measured).unwrap();
    calibrate(&measured, settings, parameters).unwrap()
}

#[test]
fn known_corrections_are_found_again() {
    let calibration = fit(&measure(truth(), |_| 1.0), 1_200, Some(&Parameter::ALL));
    let Knobs { correction, num_gpu_blocks } = calibration.fit.best;
    let within =
        |found: f64, known: f64, share: f64| assert!((found / known - 1.0).abs() < share, "{found} for {known}");
    within(correction.prefill_scale, 1.4, 0.02);
    within(correction.decode_scale, 0.8, 0.02);
    within(correction.per_pass_overhead_ms, 3.0, 0.05);
    within(f64::from(num_gpu_blocks.unwrap()), f64::from(BLOCKS), 0.01);
    for metric in Metric::ALL {
        let [before, after] = calibration.held_out.map(|half| half[metric as usize]);
        assert!(after.errors()[0].abs() < 0.01 && after.per_request < 0.02, "{metric:?}: {after:?}");
        assert!(after.per_request < before.per_request / 4.0, "{metric:?}: {before:?}");
        assert!(after.pearson.unwrap() > 0.95, "{metric:?}: {after:?}");
    }
    assert!(calibration.warnings().is_empty(), "{:?}", calibration.warnings());
}

#[test]
fn what_was_named_is_fitted_and_nothing_else() {
    let lines = measure(truth(), |_| 1.0);
    let none = fit(&lines, BLOCKS, Some(&[]));
    assert_eq!((none.fit.best, none.fit.parameters.len()), (none.fit.start, 0));
    assert_eq!(none.held_out[0], none.held_out[1]);
    let decode = fit(&lines, BLOCKS, Some(&[Parameter::DecodeScale])).fit.best;
    let neutral = Correction::default();
    assert_ne!(decode.correction.decode_scale, 1.0);
    assert_eq!(
        decode,
        Knobs { correction: Correction { decode_scale: decode.correction.decode_scale, ..neutral }, ..decode }
    );
}

#[test]
fn the_second_half_judges_and_does_not_teach() {
    let all = Some([Parameter::PrefillScale, Parameter::DecodeScale].as_slice());
    let simple = Knobs { correction: Correction { per_pass_overhead_ms: 0.0, ..ample().correction }, ..ample() };
    let fair = fit(&measure(simple, |_| 1.0), AMPLE, all);
    let bent = fit(&measure(simple, |index| if index < 80 { 1.0 } else { 1.7 }), AMPLE, all);
    assert_eq!(bent.fit.best, fair.fit.best);
    assert_eq!(bent.fitted, fair.fitted);
    let error = bent.held_out[1][Metric::E2e as usize].errors()[0];
    assert!((error - (1.0 / 1.7 - 1.0)).abs() < 0.01, "{error}");
    let taught = fit(&measure(simple, |index| if index < 80 { 1.7 } else { 1.0 }), AMPLE, all);
    assert_ne!(taught.fit.best, fair.fit.best);
}

#[test]
fn what_the_measurements_do_not_tell_stays_and_is_said() {
    let lines = measure(ample(), |_| 1.0);
    let silent = fit(&lines, AMPLE, None);
    assert_eq!((silent.fit.best.num_gpu_blocks, silent.warnings().len()), (Some(AMPLE), 0));
    let asked = fit(&lines, AMPLE, Some(&[Parameter::DecodeScale, Parameter::NumGpuBlocks]));
    assert_eq!(asked.fit.unidentified, [Parameter::NumGpuBlocks]);
    assert_eq!(asked.fit.best.num_gpu_blocks, Some(AMPLE));
    assert!(asked.warnings()[0].starts_with("`num_gpu_blocks` was not fitted"), "{:?}", asked.warnings());
}

/// A folder with measurements of the known truth in `run`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/requests.jsonl"), measure(truth(), |_| 1.0).join("\n")).unwrap();
    folder
}

fn dynosim(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dynosim").unwrap();
    command.current_dir(folder).env_remove("DYNOSIM_LOG").args(args);
    command
}

/// `dynosim perf calibrate` on `run`.
fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = dynosim(folder, &["perf", "calibrate", "--measured", "run"]);
    command.args(args);
    command
}

#[test]
fn equal_input_gives_equal_bytes_and_the_file_gives_any_run_what_was_promised() {
    let folder = folder();
    let once = |name: &str| {
        let args = ["--extra-engine-args", ENGINE, "--fit", "decode_scale,prefill_scale", "--json", "--out", name];
        let assert = program(folder.path(), &args).assert().code(0).stderr(is_empty());
        (assert.get_output().stdout.clone(), fs::read(folder.path().join(name)).unwrap())
    };
    let (output, file) = once("a.json");
    assert_eq!(once("b.json"), (output.clone(), file.clone()));

    let report: Value = serde_json::from_slice(&output).unwrap();
    let correction: Value = serde_json::from_slice(&file).unwrap();
    for (key, value) in report["corrections"].as_object().unwrap() {
        assert_eq!(&correction[key], value, "{key}");
    }
    let trace: String = arrivals()
        .iter()
        .enumerate()
        .map(|(i, (at, input, output))| {
            let ids: Vec<usize> = (0..4).map(|block| i * 4 + block).take(input.div_ceil(512) as usize).collect();
            let ms = at * 1e3;
            format!("{}\n", json!({"timestamp": ms, "input_length": input, "output_length": output, "hash_ids": ids}))
        })
        .collect();
    fs::write(folder.path().join("t.jsonl"), trace).unwrap();
    let engine = correction["fit"]["engine_args"].to_string();
    let args =
        ["replay", "t.jsonl", "--report-json", "r.json", "--semantics", "corrected", "--timing-correction", "a.json"];
    dynosim(folder.path(), &args).args(["--extra-engine-args", &engine]).assert().code(0);
    let replay: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("r.json")).unwrap()).unwrap();
    for (key, name) in [("ttft_ms", "mean_ttft_ms"), ("e2e_ms", "mean_e2e_latency_ms")] {
        let half = |half: &str| report[half]["after"][key]["simulated"]["mean"].as_f64().unwrap();
        let (promised, got) = ((half("fitted_half") + half("held_out_half")) / 2.0, replay[name].as_f64().unwrap());
        assert!((got / promised - 1.0).abs() < 1e-4, "{name}: {got}, promised {promised}");
    }
}

#[test]
fn the_report_for_people_names_source_settings_corrections_and_errors() {
    let folder = folder();
    let meta = r#"{"model": "meta-llama/Llama-3.1-8B", "vllm_version": "0.19.0",
        "engine_kwargs": {"max_num_seqs": 48, "max_num_batched_tokens": 2048, "kv_cache_dtype": "auto"},
        "kv_cache": {"num_gpu_blocks": 901, "block_size": 16}, "hardware": {"device_name": "NVIDIA H100 80GB HBM3"}}"#;
    fs::write(folder.path().join("run/meta.json"), meta.replace("NVIDIA H100 80GB HBM3", "H100")).unwrap();
    let said = contains("Measured: run/requests.jsonl (160 requests)")
        .and(contains("max_num_seqs = 48 (meta.json, `engine_kwargs.max_num_seqs`)"))
        .and(contains("num_gpu_blocks = 900 (meta.json: 901 blocks, of which vLLM keeps 1 as null block)"))
        .and(contains("timing.async_scheduling = true (the default of vLLM 0.19.0)"))
        .and(contains("(fitted, from 1)"))
        .and(contains("prefill_scale = 1.0\n"))
        .and(contains("Errors on the 80 requests that the fit has not seen"));
    program(folder.path(), &["--fit", "decode_scale"]).assert().code(0).stdout(said).stderr(is_empty());
    // What the scenario says comes first, and is not said again.
    let args = ["--extra-engine-args", r#"{"max_num_seqs": 40}"#, "--fit", "none"];
    let silent = contains("max_num_seqs").not().and(contains(" before ")).and(contains(" after ").not());
    program(folder.path(), &args).assert().code(0).stdout(silent);
}

#[test]
fn what_cannot_be_done_is_refused_with_place_and_cure() {
    let folder = folder();
    let refused = |args: &[&str], text: &str| {
        program(folder.path(), args).assert().code(2).stdout(is_empty()).stderr(contains(text));
    };
    refused(&[], "`extra-engine-args`: is missing, and the measurements do not say which model they are from");
    refused(&["--fit", "speed"], "`fit`: has \"speed\" among its names; use prefill_scale,");
    refused(&["--extra-engine-args", "{"], "extra-engine-args");
    refused(&["--extra-engine-args", r#"{"timing": {"roofline": {"model": "x", "gpu": "h100"}}}"#], "roofline.model");
    refused(&["--scenario", "none.json"], "cannot read the scenario");
    let given = r#"{"timing": {"roofline": {"model": "llama-3.1-8b", "gpu": "h100"}, "per_pass_overhead_ms": 1}, "num_gpu_blocks": 900}"#;
    let args = |list| ["--extra-engine-args", given, "--fit", list];
    refused(&args("num_gpu_blocks"), "`extra-engine-args.num_gpu_blocks` is given, which outranks a correction file");
    refused(&args("per_pass_overhead_ms"), "`extra-engine-args.timing.per_pass_overhead_ms` is given");
    fs::write(folder.path().join("run/meta.json"), r#"{"model": 3}"#).unwrap();
    refused(&["--extra-engine-args", ENGINE], "meta.json, `model`: is 3; give a string");
    fs::write(folder.path().join("run/requests.jsonl"), "{}\n").unwrap();
    refused(&["--extra-engine-args", ENGINE], "requests.jsonl, line 1, `arrival`: is missing; every line needs it");
    fs::remove_file(folder.path().join("run/requests.jsonl")).unwrap();
    refused(&["--extra-engine-args", ENGINE], "cannot read the measurements");
}

#[test]
fn the_examples_of_the_documentation_are_accepted() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/calibration.md")).unwrap();
    let blocks: Vec<&str> = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [line, correction] = blocks.try_into().unwrap();
    assert_eq!(parse(&[line, line, line, line].map(|line| line.trim().to_owned())).requests.len(), 4);
    let correction = Some(correction.parse().unwrap());
    let scenario = Scenario { timing_correction: correction, input_tokens: Some(8), ..scenario(ENGINE) };
    let scenario = Scenario { output_tokens: Some(2), request_count: Some(1), request_rate: Some(1.0), ..scenario };
    scenario.resolve(Path::new("")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text, and any odd values in the fields, are measurements or an error that names the file.
    #[test]
    fn any_text_is_a_measurement_or_an_error(
        text in ".{0,80}",
        values in prop::collection::vec((0..12_usize, prop::num::f64::ANY, any::<i64>()), 4..8),
    ) {
        let odd = |kind: usize, float: f64, whole: i64| match kind {
            0 => json!(float),
            1 => json!(whole),
            2 => json!(text),
            3 => Value::Null,
            4 => json!([whole]),
            5 => json!(i64::MAX),
            _ => json!(whole.unsigned_abs() % 5 + 1),
        };
        let lines: Vec<String> = values
            .iter()
            .map(|(kind, float, whole)| {
                let value = |shift: usize| odd((kind + shift * 5) % 12, *float, whole.wrapping_mul(shift as i64 + 1));
                json!({"arrival": value(0), "queued": value(1), "first_token": value(2), "last_token": value(3),
                    "input_tokens": value(4), "output_tokens": value(5)}).to_string()
            })
            .collect();
        for input in [text.clone(), lines.join("\n")] {
            match Measurements::parse(&input, Path::new("m.jsonl")) {
                Ok(measured) => {
                    prop_assert!(measured.requests.len() >= 4);
                    prop_assert!(measured.requests.iter().all(|r| r.ttft_ms > 0.0 && r.e2e_ms >= r.ttft_ms));
                    prop_assert_eq!(measured.requests[0].arrival, SimTime::ZERO);
                }
                Err(error) => prop_assert!(error.to_string().starts_with("m.jsonl")),
            }
        }
    }
}

/// The measured runs, if they are here.
fn ground_truth() -> Option<PathBuf> {
    let shared = std::env::var_os("DYNOSIM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("traces/vllm_ground_truth");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: needs {}; set DYNOSIM_SHARED to the folder two above", folder.display());
    None
}

/// Calibrates one of the measured runs; on its held-out half the mean of TTFT and TPOT must be off by less than the given
/// shares, and TTFT and E2E must correlate by more than `r`.
fn meets(name: &str, ttft: f64, tpot: f64, r: f64) {
    let Some(folder) = ground_truth() else { return };
    let measured = Measurements::load(&folder.join(name)).unwrap();
    let settings = Settings::complete(&Scenario::default(), Path::new(""), &measured).unwrap();
    let calibration = calibrate(&measured, settings, None).unwrap();
    let [before, after] = calibration.held_out;
    let error = |half: &[Comparison; 3], metric: Metric| half[metric as usize].errors()[0].abs();
    assert!(error(&after, Metric::Ttft) < ttft, "TTFT {:?}", after[0]);
    assert!(error(&after, Metric::Tpot) < tpot, "TPOT {:?}", after[1]);
    for metric in Metric::ALL {
        assert!(error(&after, metric) < error(&before, metric), "{metric:?} got worse");
        assert_eq!(after[metric as usize].missing, 0);
    }
    for metric in [Metric::Ttft, Metric::E2e] {
        assert!(after[metric as usize].pearson.unwrap() > r, "{:?}", after[metric as usize]);
    }
}

#[test]
fn an_rtx_4090_short_of_kv_blocks_is_met() {
    meets("RTX4090_Llama-3.1-8B", 0.03, 0.02, 0.99);
}

#[test]
fn one_rtx_pro_6000_is_met() {
    meets("RTXPRO6000_Llama-3.1-8B", 0.02, 0.02, 0.99);
}

#[test]
fn two_rtx_pro_6000_with_tensor_parallelism_are_met() {
    meets("RTXPRO6000_Qwen3-32B", 0.02, 0.02, 0.99);
}

#[test]
fn two_rtx_pro_6000_with_experts_spread_over_them_are_met() {
    meets("RTXPRO6000_Qwen3-30B-A3B-Instruct-2507", 0.06, 0.05, 0.96);
}

#[test]
fn the_kv_blocks_of_a_real_engine_can_be_told_from_its_latencies() {
    let Some(folder) = ground_truth() else { return };
    // The GPU had 2588 blocks of 16 tokens. Without being told, the estimate begins with little more than half of them.
    let measured = Measurements::load(&folder.join("RTX4090_Llama-3.1-8B/requests.jsonl")).unwrap();
    let elsewhere = Measurements { path: "somewhere/requests.jsonl".into(), ..measured };
    let engine = r#"{"timing": {"roofline": {"model": "llama-3.1-8b", "gpu": "rtx_4090"}, "async_scheduling": true},
        "block_size": 16, "max_num_batched_tokens": 2048}"#;
    let settings = Settings::complete(&scenario(engine), Path::new(""), &elsewhere).unwrap();
    let calibration = calibrate(&elsewhere, settings, None).unwrap();
    let found = calibration.fit.best.num_gpu_blocks.unwrap();
    assert!((2_500..=2_700).contains(&found), "{found}");
}
