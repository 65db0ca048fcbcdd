//! `dynosim view`: watch a run in a window, or draw one picture of it.

use std::path::PathBuf;

use super::error::CliError;
use super::scenario_args::ScenarioArgs;

/// Flags of `dynosim view`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Draw one picture instead of opening a window
    #[arg(long, requires = "screenshot")]
    offscreen: bool,
    /// Where to write the picture (PNG)
    #[arg(long, value_name = "FILE", requires = "offscreen")]
    screenshot: Option<PathBuf>,
    /// Instant to start at, such as `1200s`, `350ms` or `20m`
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<f64>,
    /// Size of the picture in pixels
    #[arg(long, value_name = "WxH", default_value = "1280x720", value_parser = size)]
    size: (u32, u32),
    /// What to select, such as `request:17` or `worker:prefill:2`
    #[arg(long, value_name = "WHAT", value_parser = selection)]
    select: Option<Pick>,
    /// Magnification; 1 shows the whole fleet
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = zoom)]
    zoom: f32,
    /// Colours
    #[arg(long, default_value = "dark")]
    theme: Colours,
    /// Which panels to show
    #[arg(long, default_value = "all")]
    panel: Panels,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Colours {
    /// Light on dark
    Dark,
    /// Dark on light
    Light,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Panels {
    /// All of them
    All,
    /// The time line alone
    None,
    /// All of them, and the list of keys
    Help,
}

/// What `--select` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pick {
    Request(u32),
    Worker(dynosim::scenario::Role, u32),
}

fn instant(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("unknown unit `{unit}`; use ms, s, m or h")),
    };
    let number: f64 = digits.trim().parse().map_err(|_| "expected a time such as 1200s".to_owned())?;
    let secs = number * factor;
    if secs.is_finite() && secs >= 0.0 { Ok(secs) } else { Err("expected a time from 0 on".to_owned()) }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once(['x', 'X']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parts {
        Some((w, h)) if (320..=8192).contains(&w) && (240..=8192).contains(&h) => Ok((w, h)),
        _ => Err("expected a size such as 1920x1080, from 320x240 to 8192x8192".to_owned()),
    }
}

fn zoom(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(factor) if (0.05..=50.0).contains(&factor) => Ok(factor),
        _ => Err("expected a factor from 0.05 to 50".to_owned()),
    }
}

fn selection(text: &str) -> Result<Pick, String> {
    use dynosim::scenario::Role;
    let parts: Vec<&str> = text.split(':').collect();
    let pick = match parts.as_slice() {
        ["request", n] => n.parse().ok().map(Pick::Request),
        ["worker", n] | ["worker", "aggregated" | "agg", n] => {
            n.parse().ok().map(|n| Pick::Worker(Role::Aggregated, n))
        }
        ["worker", "prefill", n] => n.parse().ok().map(|n| Pick::Worker(Role::Prefill, n)),
        ["worker", "decode", n] => n.parse().ok().map(|n| Pick::Worker(Role::Decode, n)),
        _ => None,
    };
    pick.ok_or_else(|| "expected request:17, worker:3, worker:prefill:2 or worker:decode:0".to_owned())
}

/// Says how to get a viewer.
#[cfg(not(feature = "gui"))]
pub fn run(_: &Args) -> Result<u8, CliError> {
    Err(CliError::NoViewer)
}

/// Opens the window, or draws the picture.
#[cfg(feature = "gui")]
pub fn run(args: &Args) -> Result<u8, CliError> {
    use dynosim::time::SimTime;
    use dynosim::view::command::{Command, Selection};
    use dynosim::view::frame::WorkerName;
    use dynosim::view::player::Player;
    use dynosim::view::window::theme::Mode;
    use dynosim::view::window::{app, offscreen, state::Target, state::ViewState};

    let (scenario, title) = args.scenario.scenario()?;
    // Paths of the file start at its folder already; those of flags start at the working folder.
    let mut player = Player::open(scenario, std::path::Path::new(""))?;
    let selection = match args.select {
        None => Selection::Nothing,
        Some(Pick::Request(index)) => Selection::Request(index),
        Some(Pick::Worker(role, id)) => Selection::Worker(WorkerName { role, id }),
    };
    let at = SimTime::from_nanos((args.at.unwrap_or(0.0) * 1e9).round() as u64);
    // Neither of them can fail.
    let _ = player.apply(Command::Select(selection));
    let _ = player.apply(Command::Seek(at));
    let view = ViewState {
        selected: Target::of(selection),
        mode: match args.theme {
            Colours::Dark => Mode::Dark,
            Colours::Light => Mode::Light,
        },
        panels: !matches!(args.panel, Panels::None),
        help: matches!(args.panel, Panels::Help),
        zoom: args.zoom,
        ..ViewState::default()
    };
    match &args.screenshot {
        Some(path) => offscreen::screenshot(player, view, at, args.size, path)?,
        None => {
            let _ = player.apply(Command::Play);
            app::open(player, view, title)?;
        }
    }
    Ok(super::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynosim::scenario::Role;

    #[test]
    fn times_sizes_and_selections_are_read() {
        assert_eq!(instant("1200s"), Ok(1200.0));
        assert_eq!(instant("1.5m"), Ok(90.0));
        assert!(instant("soon").is_err());
        assert_eq!(size("1920x1080"), Ok((1920, 1080)));
        assert!(size("3x3").is_err());
        assert_eq!(selection("request:17"), Ok(Pick::Request(17)));
        assert_eq!(selection("worker:prefill:2"), Ok(Pick::Worker(Role::Prefill, 2)));
        assert!(selection("worker").is_err());
    }
}
