//! The study of docs/planner-study.md: aggregated against disaggregated workers under the SLA planner, and what start-up
//! time does to the aggregated ones.
//!
//! ```sh
//! cargo run --release --example planner_study -- conversation_trace.jsonl [FOLDER]
//! ```
//!
//! Prints the tables of the page; with a folder, writes its two pictures there.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use dynosim::plot::{Axis, Color, Figure, Panel, Unit, palette};
use dynosim::report::{Report, SessionNames};
use dynosim::scenario::{Role, Scenario, Topology};
use dynosim::sim::Simulation;
use dynosim::sim::metrics::Outcome;
use dynosim::workload;
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// Bounds of the guide's planner configuration, milliseconds.
const TTFT_MS: f64 = 1_500.0;
const ITL_MS: f64 = 50.0;

/// What one run came to.
struct Study {
    report: Report,
    events: usize,
    /// Replicas of every pool, asked for and kept, from second to second.
    replicas: Vec<(Role, Vec<(f64, f64)>)>,
    wall: Duration,
}

impl Study {
    /// Runs a configuration of this project over `trace`; `startup` are seconds until a new worker is ready.
    fn run(name: &str, trace: &Path, startup: Option<u32>) -> Result<Self, Failure> {
        let begin = Instant::now();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut document: Value = serde_json::from_str(&fs::read_to_string(folder.join(name))?)?;
        if let Some(seconds) = startup.filter(|seconds| *seconds > 0) {
            document["extra-engine-args"]["startup_time"] = json!(seconds);
        }
        let mut scenario = Scenario::from_json(&document.to_string())?;
        scenario.trace.push(trace.to_string_lossy().into_owned());
        scenario.sla_ttft_ms = Some(TTFT_MS);
        scenario.sla_itl_ms = Some(ITL_MS);
        let run = scenario.resolve(Path::new("."))?;
        let workload = workload::load(&run)?;
        let sessions = SessionNames::of(&workload);
        let mut simulation = Simulation::new(&run, workload)?;
        simulation.run_to_end();
        let outcome = simulation.finish();
        let report = Report::build(&run, &outcome, &sessions, &[], Duration::ZERO);
        let replicas = replicas(&run.topology, &outcome);
        Ok(Self { report, events: outcome.scaling_events.len(), replicas, wall: begin.elapsed() })
    }

    fn figure(&self, key: &str) -> f64 {
        self.report.number(key).unwrap_or(f64::NAN)
    }

    /// Share of the completed requests that met both bounds.
    fn attainment(&self) -> f64 {
        self.figure("goodput_completed_requests") / self.figure("completed_requests")
    }

    /// A row of the tables.
    fn row(&self, name: &str) -> String {
        let ms = |key: &str| self.figure(key);
        format!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} % | {:.2} | {} |",
            ms("mean_ttft_ms"),
            ms("p90_ttft_ms"),
            ms("p99_ttft_ms"),
            ms("mean_itl_ms"),
            ms("p90_itl_ms"),
            self.attainment() * 100.0,
            ms("gpu_hours"),
            self.events,
        )
    }
}

const HEADER: &str = "| | mean TTFT | p90 | p99 | mean ITL | p90 | within both bounds | GPU-hours | scaling events |\n\
    |---|---:|---:|---:|---:|---:|---:|---:|---:|";

/// Replicas of every pool over time.
fn replicas(topology: &Topology, outcome: &Outcome) -> Vec<(Role, Vec<(f64, f64)>)> {
    let pools = match topology {
        Topology::Aggregated { workers, .. } => vec![(Role::Aggregated, *workers)],
        Topology::Disaggregated { prefill_workers, decode_workers, .. } => {
            vec![(Role::Prefill, *prefill_workers), (Role::Decode, *decode_workers)]
        }
    };
    let over_time = |(role, first): (Role, u32)| {
        let events = outcome.scaling_events.iter().filter(|event| event.role == role);
        let mut points = vec![(0.0, f64::from(first))];
        points.extend(events.map(|event| (event.at.as_secs(), f64::from(event.to))));
        let last = points.last().map_or(0.0, |(_, replicas)| *replicas);
        points.push((outcome.end.as_secs(), last));
        (role, points)
    };
    pools.into_iter().map(over_time).collect()
}

/// The runs of the sweep, on as many threads as the machine has.
fn sweep(trace: &Path, startups: &[u32]) -> Result<Vec<Study>, Failure> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(startups.len().max(1));
    let mut parts: Vec<(u32, Study)> = thread::scope(|scope| {
        let share = |first: usize| {
            let mine = startups.iter().skip(first).step_by(threads);
            mine.map(|startup| Ok((*startup, Study::run("guide-agg.json", trace, Some(*startup))?)))
                .collect::<Result<Vec<_>, Failure>>()
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        let mut parts = Vec::new();
        for thread in running {
            parts.extend(thread.join().map_err(|_| "a run ended in a panic")??);
        }
        Ok::<_, Failure>(parts)
    })?;
    parts.sort_by_key(|(startup, _)| *startup);
    Ok(parts.into_iter().map(|(_, study)| study).collect())
}

/// How the figures go with start-up time.
fn sweep_picture(startups: &[u32], runs: &[Study]) -> Figure {
    let points = |value: &dyn Fn(&Study) -> f64| -> Vec<(f64, f64)> {
        startups.iter().zip(runs).map(|(startup, run)| (f64::from(*startup), value(run))).collect()
    };
    let of = |key: &'static str| points(&move |run| run.figure(key));
    let x = || Axis::linear("start-up time, seconds", Unit::Plain).to(f64::from(startups.last().copied().unwrap_or(1)));
    let blue = palette::PREFILL.ramp(3);
    let orange = palette::DECODE.ramp(2);
    let ttft = Panel::new("Time to first token", x(), Axis::log("TTFT", Unit::Milliseconds))
        .line("mean", blue[0], of("mean_ttft_ms"))
        .line("p90", blue[1], of("p90_ttft_ms"))
        .line("p99", blue[2], of("p99_ttft_ms"))
        .rule_y(TTFT_MS, "SLA", palette::MISSED);
    let itl = Panel::new("Inter-token latency", x(), Axis::linear("ITL", Unit::Milliseconds).from(0.0))
        .line("mean", orange[0], of("mean_itl_ms"))
        .line("p90", orange[1], of("p90_itl_ms"))
        .rule_y(ITL_MS, "SLA", palette::MISSED);
    let events = Panel::new("Scaling events", x(), Axis::linear("events", Unit::Plain).from(0.0)).line(
        "",
        palette::PLANNER,
        points(&|run| run.events as f64),
    );
    let good = Panel::new("Requests within both bounds", x(), Axis::linear("share", Unit::Share).from(0.0).to(1.0))
        .line("", palette::TRANSFER, points(&Study::attainment));
    let hours = Panel::new("GPU-hours", x(), Axis::linear("hours", Unit::Plain).from(0.0)).line(
        "",
        palette::CACHED,
        of("gpu_hours"),
    );
    let bought = points(&|run| run.figure("goodput_completed_requests") / run.figure("gpu_hours"));
    let bought =
        Panel::new("What a GPU-hour buys", x(), Axis::linear("requests within both bounds", Unit::Plain).from(0.0))
            .line("", palette::TRANSFER, bought);
    [ttft, itl, events, good, hours, bought].into_iter().fold(figure("What start-up time does"), Figure::panel)
}

/// Replicas over time of chosen runs.
fn replicas_picture(named: &[(String, &Study)]) -> Figure {
    let panel = |(name, study): &(String, &Study)| {
        let axis = Axis::linear("replicas asked for", Unit::Plain).from(0.0).to(9.0);
        let panel = Panel::new(name.clone(), Axis::linear("time", Unit::Seconds).to(3_600.0), axis);
        study.replicas.iter().fold(panel, |panel, (role, points)| {
            let (label, color): (&str, Color) = match role {
                Role::Aggregated => ("aggregated", palette::CACHED),
                Role::Prefill => ("prefill", palette::PREFILL),
                Role::Decode => ("decode", palette::DECODE),
            };
            panel.step(label, color, points.clone())
        })
    };
    named.iter().map(panel).fold(figure("What the planner asked for"), Figure::panel).panel_height(280)
}

fn figure(title: &str) -> Figure {
    Figure::new(title)
        .subtitle(
            "Llama-3.1-8B FP8 on H200, vLLM, two workers to begin with, SLA planner with both loops; \
             TTFT 1,500 ms, ITL 50 ms",
        )
        .source("Mooncake conversation trace, 12,031 requests in an hour; simulated, examples/planner_study.rs")
}

fn main() -> Result<(), Failure> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let trace = arguments.next().ok_or("give a trace, such as conversation_trace.jsonl")?;
    let folder = arguments.next();

    println!("{HEADER}");
    let agg = Study::run("guide-agg.json", &trace, None)?;
    println!("{}", agg.row("aggregated"));
    let disagg = Study::run("guide-disagg.json", &trace, None)?;
    println!("{}\n", disagg.row("disaggregated"));

    let startups: Vec<u32> = (0..=300).step_by(10).collect();
    let begin = Instant::now();
    let runs = sweep(&trace, &startups)?;
    let wall = begin.elapsed();
    println!("{HEADER}");
    for (startup, run) in startups.iter().zip(&runs) {
        println!("{}", run.row(&format!("{startup} s")));
    }
    let slowest = runs.iter().map(|run| run.wall).max().unwrap_or_default();
    eprintln!("{} runs in {:.1} s, the slowest in {:.2} s", runs.len(), wall.as_secs_f64(), slowest.as_secs_f64());

    if let Some(folder) = folder {
        fs::write(folder.join("planner-study-startup.svg"), sweep_picture(&startups, &runs).to_svg())?;
        let mut chosen = vec![("Aggregated".to_owned(), &agg), ("Disaggregated".to_owned(), &disagg)];
        for startup in [60, 100, 160, 300] {
            let position = startups.iter().position(|s| *s == startup).ok_or("not a start-up time of the sweep")?;
            chosen.push((format!("Aggregated, start-up {startup} s"), &runs[position]));
        }
        fs::write(folder.join("planner-study-replicas.svg"), replicas_picture(&chosen).to_svg())?;
    }
    Ok(())
}
