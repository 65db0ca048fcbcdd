//! ServeGen client profiles.

use super::*;
use dynosim::scenario::SyntheticArrivals as Arrivals;

const TRACE: &str =
    "0,2.0,0.5,Gamma,4.0,0.125\n600,0,0,,0,0\n1200,4.0,1.4,Weibull,0.75,0.21\n1800,1.0,1.0,Gamma,1.0,1.0\n";
const DATASET: &str = r#"{
  "1200": {"input_tokens": "{700: 1.0}", "output_tokens": "{5: 0.5, 6: 0.5}", "reason_ratio": "{0.0: 0.5, 0.5: 0.5}"},
  "0": {"input_tokens": "{10: 0.25, 20: 0.75}", "output_tokens": {"1": 3, "0": 1}},
  "1800": {"input_tokens": "{}", "output_tokens": "{}"}
}"#;

/// Opens the profiles of two clients, of the second under this name.
fn draw(second: &str, change: impl FnOnce(&mut TraceOptions)) -> Result<Workload, WorkloadError> {
    let (trace, dataset) = (format!("{second}-trace.csv"), format!("{second}-dataset.json"));
    open_files(
        &[
            ("a-trace.csv", TRACE.as_bytes()),
            ("a-dataset.json", DATASET.as_bytes()),
            (&trace, TRACE.as_bytes()),
            (&dataset, DATASET.as_bytes()),
        ],
        change,
    )
}

/// Requests per second of the recorded windows, a few seconds at their borders left out: the clock begins at the first
/// request.
fn rates(workload: &Workload) -> [f64; 4] {
    let within = |i: usize, at: f64| (5.0..595.0).contains(&(at - 600.0 * i as f64));
    std::array::from_fn(|i| workload.requests.iter().filter(|r| within(i, r.arrival.as_secs())).count() as f64 / 590.0)
}

#[test]
fn every_window_has_its_rate_and_its_lengths() {
    let workload = draw("b", |_| {}).expect("a load");
    check_shape(&workload);
    assert!(matches!((&workload.release, &workload.content), (Release::Flat, Content::Unique)));
    assert!(workload.timed && workload.requests[0].arrival == SimTime::ZERO);
    let near = |got: f64, wanted: f64| (got - wanted).abs() < 0.15 * wanted.max(0.1);
    let rates = rates(&workload);
    assert!(near(rates[0], 4.0) && rates[1] == 0.0 && near(rates[2], 8.0) && near(rates[3], 2.0), "{rates:?}");
    let early = workload.requests.iter().filter(|r| r.arrival.as_secs() < 590.0);
    let (short, long): (Vec<&RequestSpec>, Vec<&RequestSpec>) = early.partition(|r| r.prompt_tokens == 10);
    assert!(long.iter().all(|r| r.prompt_tokens == 20 && r.output_tokens < 2));
    assert!(near(long.len() as f64 / short.len() as f64, 3.0));
    // The last window has no data of its own and takes that of the one before.
    assert!(workload.requests.iter().filter(|r| r.arrival.as_secs() > 1_200.0).all(|r| r.prompt_tokens == 700));
    assert!(workload.notes[1].contains("were drawn from the profiles of 2 clients"));
}

#[test]
fn gaps_have_the_spread_of_their_distribution() {
    let spread = |window: &str| {
        let workload =
            open_files(&[("a-trace.csv", TRACE.as_bytes()), ("a-dataset.json", DATASET.as_bytes())], |options| {
                options.reading.window = window.parse().ok();
            });
        let at: Vec<f64> = workload.expect("a load").requests.iter().map(|r| r.arrival.as_secs()).collect();
        let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt() / mean
    };
    // Gamma with shape 4: 1/2; Weibull with shape 0.75: about 1.35.
    assert!((spread("0..600") - 0.5).abs() < 0.05 && (spread("1200..1800") - 1.35).abs() < 0.15);
}

#[test]
fn draws_depend_on_the_seed_and_the_clients_name_alone() {
    let at = |workload: &Workload| workload.requests.iter().map(|r| (r.arrival, r.prompt_tokens)).collect::<Vec<_>>();
    let (one, again) = (draw("b", |_| {}).unwrap(), draw("b", |_| {}).unwrap());
    assert_eq!(at(&one), at(&again));
    assert_ne!(at(&one), at(&draw("b", |options| options.seed = 7).unwrap()));
    // Beside any other client the first one sends the same: as many requests in any window.
    let alone =
        open_files(&[("a-dataset.json", DATASET.as_bytes()), ("a-trace.csv", TRACE.as_bytes())], |_| {}).unwrap();
    let count = |second: &str| draw(second, |_| {}).unwrap().requests.len();
    let other = |second: &str| {
        let (trace, dataset) = (format!("{second}-trace.csv"), format!("{second}-dataset.json"));
        open_files(&[(&trace, TRACE.as_bytes()), (&dataset, DATASET.as_bytes())], |_| {}).unwrap().requests.len()
    };
    for second in ["b", "c"] {
        assert_eq!(count(second), alone.requests.len() + other(second));
    }
}

#[test]
fn a_given_rate_is_that_of_all_clients_together() {
    let rate = |options: &mut TraceOptions| options.reading.arrivals = Some(Arrivals::Poisson { rate_per_s: 10.0 });
    let rates = rates(&draw("b", rate).expect("a load"));
    assert!(rates[1] == 0.0 && [0, 2, 3].iter().all(|i| (rates[*i] - 10.0).abs() < 1.0), "{rates:?}");
}

#[test]
fn closed_loops_and_speed_ups_are_those_of_other_traces() {
    let closed = draw("b", |options| options.concurrency = Some(4)).expect("a load");
    assert!(
        matches!(&closed.release, Release::Sessions { sessions, concurrency: Some(4), .. } if sessions.len() == closed.requests.len())
    );
    let (plain, fast) = (draw("b", |_| {}).unwrap(), draw("b", |options| options.speedup = 2.0).unwrap());
    let last = |workload: &Workload| workload.requests.last().unwrap().arrival.as_ms();
    assert!((last(&plain) / 2.0 - last(&fast)).abs() < 1e-3);
}

#[test]
fn errors_name_the_file_and_the_place() {
    let with = |trace: &str, dataset: &str| {
        open_files(&[("a-trace.csv", trace.as_bytes()), ("a-dataset.json", dataset.as_bytes())], |options| {
            options.reading.format = Some(TraceFormat::ServeGen);
        })
        .expect_err("something is wrong")
        .to_string()
    };
    for (trace, expected) in [
        ("0,1,1,Gamma,1\n", "a-trace.csv, line 1, `row`: has 5 fields"),
        ("0,1,1,Pareto,1,1\n", "line 1, `distribution`: is \"Pareto\""),
        ("0,1,1,Gamma,0,1\n", "line 1, `shape`: is 0"),
        ("0,1,1,Weibull,1e-9,1\n", "line 1, `shape`: is 1e-9: the mean is infinite"),
        ("0,-1,1,Gamma,1,1\n", "line 1, `rate`: is \"-1\""),
        ("0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", "line 2, `start`: is not later"),
        ("0,1e300,1,Gamma,1,1\n", "`trace-window`: about 6"),
        ("0,0,0,,0,0\n", "`trace-window`: the clients send nothing"),
        ("\n", "no rows"),
    ] {
        let error = with(trace, DATASET);
        assert!(error.contains(expected), "{trace}\n  {error}\n  {expected}");
    }
    for (dataset, expected) in [
        ("{", "a-dataset.json, line 1, column 1: EOF"),
        ("[]", "invalid type: sequence"),
        (r#"{"x": {"input_tokens": "{1: 1}", "output_tokens": "{1: 1}"}}"#, "the key \"x\" is no time"),
        (r#"{"0": {"input_tokens": "{1: 1}"}}"#, "no time has both prompt and output lengths"),
        (r#"{"0": {"input_tokens": "1", "output_tokens": "{1: 1}"}}"#, "`input_tokens` at 0: it is no dictionary"),
        (r#"{"0": {"input_tokens": "{1 1}", "output_tokens": "{1: 1}"}}"#, "`input_tokens` at 0: an entry has no `:`"),
        (r#"{"0": {"input_tokens": "{-1: 1}", "output_tokens": "{1: 1}"}}"#, "\"-1\" is no number up to"),
        (r#"{"0": {"input_tokens": "{1: -1}", "output_tokens": "{1: 1}"}}"#, "the weight of 1 is -1"),
    ] {
        let error = with(TRACE, dataset);
        assert!(error.contains(expected), "{dataset}\n  {error}\n  {expected}");
    }
    let alone = open_files(&[("a-trace.csv", TRACE.as_bytes())], |_| {}).expect_err("half a client").to_string();
    assert!(alone.contains("cannot read the trace") && alone.contains("a-dataset.json"), "{alone}");
    let unnamed = open_files(&[("rates.csv", TRACE.as_bytes())], |_| {}).expect_err("no client").to_string();
    assert!(unnamed.contains("rates.csv: is no ServeGen file by its name"), "{unnamed}");
}

#[test]
fn prompts_with_pictures_are_as_long_as_all_their_parts() {
    let dataset = r#"{"0": {"text_tokens": "{100: 1}", "image_tokens": "{1000: 1}", "image_count": "{2: 1}",
        "audio_tokens": "{7: 1}", "audio_count": "{0: 1}", "output_tokens": "{9: 1}"}}"#;
    let files = [("a-trace.csv", "0,1,1,Gamma,1,1\n".as_bytes()), ("a-dataset.json", dataset.as_bytes())];
    assert_eq!(lengths(&open_files(&files, |_| {}).expect("a load"))[0], (2_100, 9));
}

proptest! {
    #[test]
    fn spoilt_profiles_are_a_load_or_an_error(
        at in 0_usize..400,
        length in 0_usize..6,
        patch in prop::sample::select(vec!["", "\0", "\n", ",", "1e308", "-", "{", "}", "9", "0"]),
        which in any::<bool>(),
    ) {
        let (mut trace, mut dataset) = (TRACE.as_bytes().to_vec(), DATASET.as_bytes().to_vec());
        let bytes = if which { &mut trace } else { &mut dataset };
        let at = at % bytes.len();
        bytes.splice(at..(at + length).min(bytes.len()), patch.bytes());
        let result = open_files(&[("a-trace.csv", &trace), ("a-dataset.json", &dataset)], |options| {
            options.reading.format = Some(TraceFormat::ServeGen);
            options.reading.window = "0..60".parse().ok();
        });
        if let Ok(workload) = result {
            check_shape(&workload);
        }
    }
}
