//! The selected worker or request; without one, the run.

use bevy_egui::egui::{self, Align2, Color32, FontId, Rect, RichText, Sense, Ui, pos2, vec2};

use super::widgets::{colored_row, heading, parts, row};
use super::{Desk, Wishes};
use crate::scenario::Role;
use crate::sim::metrics::WorkerState;
use crate::view::frame::{Tile, TilePhase, WorkerFrame, WorkerName};
use crate::view::life::{Life, StageKind};
use crate::view::window::history::kv_use;
use crate::view::window::scene::role_color;
use crate::view::window::state::{Target, ViewState};
use crate::view::window::theme::{Theme, mix};
use crate::view::window::words;

/// Requests listed of a worker, at most.
const LISTED: usize = 14;

/// Draws the inspector.
pub fn show(ui: &mut Ui, desk: &Desk<'_>, view: &ViewState, wishes: &mut Wishes) {
    egui::ScrollArea::vertical().show(ui, |ui| match view.selected {
        None => run(ui, desk),
        Some(Target::Worker(name)) => worker(ui, desk, name, wishes),
        Some(Target::Request(index)) => request(ui, desk, index, wishes),
    });
}

fn title(ui: &mut Ui, theme: &Theme, text: &str, under: &str) {
    ui.label(RichText::new(text).size(17.0).color(theme.text));
    ui.label(RichText::new(under).size(13.0).color(theme.dim));
    ui.add_space(4.0);
}

fn run(ui: &mut Ui, desk: &Desk<'_>) {
    let (theme, frame) = (desk.theme, desk.frame);
    title(ui, theme, "The run so far", "Click a worker or a request.");
    let headline = &frame.headline;
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), words::span);
    heading(ui, theme, "Requests");
    row(ui, theme, "arrived", &words::count(frame.traffic.arrived.into()));
    let flying = frame.traffic.arrived.saturating_sub(frame.traffic.ended);
    row(ui, theme, "in flight", &words::count(flying.into()));
    row(ui, theme, "at the router", &words::count(frame.router.waiting.len() as u64));
    let waiting: usize = workers(desk).map(|w| w.waiting.len()).sum();
    row(ui, theme, "waiting at workers", &words::count(waiting as u64));
    row(ui, theme, "completed", &words::count(headline.completed.into()));
    heading(ui, theme, "Latency of completed requests");
    row(ui, theme, "TTFT p50", &ms(headline.ttft_p50_ms));
    row(ui, theme, "TTFT p90", &ms(headline.ttft_p90_ms));
    row(ui, theme, "ITL p50", &ms(headline.itl_p50_ms));
    if let Some(share) = headline.sla_attainment {
        let color = if share < 0.95 { theme.missed } else { theme.text };
        colored_row(ui, theme, "within SLA", &words::percent(share), color);
    }
    heading(ui, theme, "Cost and output");
    row(ui, theme, "GPUs now", &words::count(headline.gpus.into()));
    row(ui, theme, "GPU-hours", &words::digits(headline.gpu_hours));
    row(ui, theme, "output tokens", &words::count(headline.output_tokens));
    if !frame.transfers.is_empty() {
        heading(ui, theme, "KV on its way");
        let bytes = frame.transfers.iter().map(|t| t.bytes).sum();
        row(ui, theme, "transfers", &words::count(frame.transfers.len() as u64));
        row(ui, theme, "bytes", &words::bytes(bytes));
    }
    let decided = desk.track.markers.iter().filter(|m| m.at <= frame.at);
    let last: Vec<_> = decided.rev().take(3).collect();
    if !last.is_empty() {
        heading(ui, theme, "Last changes of the fleet");
        for marker in last {
            ui.label(RichText::new(words::instant(marker.at.as_secs())).size(12.0).color(theme.planner));
            ui.label(RichText::new(&marker.text).size(12.0).color(theme.dim));
        }
    }
}

fn workers<'a>(desk: &'a Desk<'_>) -> impl Iterator<Item = &'a WorkerFrame> {
    desk.frame.pools.iter().flat_map(|p| &p.workers)
}

fn worker(ui: &mut Ui, desk: &Desk<'_>, name: WorkerName, wishes: &mut Wishes) {
    let theme = desk.theme;
    let role = match name.role {
        Role::Aggregated => "Worker",
        Role::Prefill => "Prefill worker",
        Role::Decode => "Decode worker",
    };
    let Some(worker) = workers(desk).find(|w| w.name == name) else {
        title(ui, theme, &format!("{role} {}", words::worker(name)), "not there at this instant");
        return;
    };
    let state = match worker.state {
        WorkerState::Active => "ready",
        WorkerState::Starting => "starting",
        WorkerState::Draining => "draining",
    };
    title(ui, theme, &format!("{role} {}", words::worker(name)), state);
    if let Some(ready) = worker.ready_at {
        row(ui, theme, "ready in", &words::span(ready.since(desk.frame.at).as_ms()));
    }
    heading(ui, theme, "Forward pass");
    match worker.pass {
        None => row(ui, theme, "no pass in progress", ""),
        Some(pass) => {
            row(ui, theme, "takes", &words::span(pass.end.since(pass.start).as_ms()));
            row(ui, theme, "ends in", &words::span(pass.end.since(desk.frame.at).as_ms()));
            if pass.prefill_tokens > 0 {
                row(ui, theme, "prefill tokens", &words::count(pass.prefill_tokens));
                row(ui, theme, "prefill requests", &words::count(pass.prefill_requests.into()));
            }
            row(ui, theme, "decoding requests", &words::count(pass.decode_requests.into()));
        }
    }
    heading(ui, theme, "KV blocks");
    let kv = &worker.kv;
    let share = |blocks| kv_use(blocks, kv.total);
    let hue = mix(role_color(theme, name.role), theme.panel, 0.2);
    let shares = [(share(kv.active), hue), (share(kv.reserved), theme.transfer), (share(kv.cached), theme.cached)];
    parts(ui, theme, 8.0, &shares);
    ui.add_space(3.0);
    let entries = [("in use", kv.active), ("reserved", kv.reserved), ("kept for reuse", kv.cached), ("free", kv.free)];
    for (what, blocks) in entries {
        let text = format!("{}   {}", words::count(blocks), words::percent(f64::from(share(blocks))));
        row(ui, theme, what, &text);
    }
    row(ui, theme, "evicted so far", &words::count(worker.evicted));
    row(ui, theme, "preemptions so far", &words::count(worker.preemptions));

    heading(ui, theme, &format!("{} running, {} waiting", worker.running.len(), worker.waiting.len()));
    for tile in worker.running.iter().take(LISTED) {
        if tile_row(ui, theme, tile) {
            wishes.select = Some(Some(Target::Request(tile.request)));
        }
    }
    if worker.running.len() > LISTED {
        let more = format!("and {} more", worker.running.len() - LISTED);
        ui.label(RichText::new(more).size(12.0).color(theme.dim));
    }
}

fn phase_word(phase: TilePhase) -> &'static str {
    match phase {
        TilePhase::Prefill => "prefill",
        TilePhase::Decode => "decode",
        TilePhase::Held => "held",
        TilePhase::Reserved => "reserved",
        TilePhase::BringingUp => "from tier",
    }
}

fn phase_color(theme: &Theme, phase: TilePhase) -> Color32 {
    match phase {
        TilePhase::Prefill => theme.prefill,
        TilePhase::Decode => theme.decode,
        TilePhase::Held | TilePhase::Reserved | TilePhase::BringingUp => theme.transfer,
    }
}

/// A request in a list; whether it was clicked.
fn tile_row(ui: &mut Ui, theme: &Theme, tile: &Tile) -> bool {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::click());
    let painter = ui.painter();
    if response.hovered() {
        painter.rect_filled(rect, 3.0, theme.line);
    }
    let font = FontId::proportional(12.5);
    let y = rect.center().y;
    painter.text(
        pos2(rect.min.x + 52.0, y),
        Align2::RIGHT_CENTER,
        words::count(tile.request.into()),
        font.clone(),
        theme.text,
    );
    painter.text(pos2(rect.min.x + 62.0, y), Align2::LEFT_CENTER, phase_word(tile.phase), font, theme.dim);
    let bar = Rect::from_min_max(pos2(rect.min.x + 122.0, y - 3.0), pos2(rect.max.x - 2.0, y + 3.0));
    let color = phase_color(theme, tile.phase);
    painter.rect_filled(bar, 2.0, mix(theme.panel, color, 0.3));
    painter.rect_filled(Rect::from_min_size(bar.min, vec2(bar.width() * tile.progress, bar.height())), 2.0, color);
    if tile.misses_sla {
        painter.circle_filled(pos2(bar.min.x - 7.0, y), 3.0, theme.missed);
    }
    response.clicked()
}

fn request(ui: &mut Ui, desk: &Desk<'_>, index: u32, wishes: &mut Wishes) {
    let theme = desk.theme;
    let now = place(desk, index);
    title(ui, theme, &format!("Request {}", words::count(index.into())), &now.words);
    if let Some(tile) = now.tile {
        parts(ui, theme, 6.0, &[(tile.progress, phase_color(theme, tile.phase))]);
        ui.add_space(3.0);
    }
    if let Some(name) = now.worker
        && ui.link(RichText::new(format!("Show worker {}", words::worker(name))).size(13.0)).clicked()
    {
        wishes.select = Some(Some(Target::Worker(name)));
    }
    let Some(life) = desk.life else {
        if let Some(tile) = now.tile {
            heading(ui, theme, "Tokens");
            row(ui, theme, "prompt", &words::count(tile.input_tokens.into()));
            row(ui, theme, "output asked for", &words::count(tile.output_tokens.into()));
        }
        heading(ui, theme, "Life");
        let text = if desk.track.end.is_none() { "known when the run is computed" } else { "no such request" };
        ui.label(RichText::new(text).size(13.0).color(theme.dim));
        return;
    };
    gantt(ui, desk, life);
    let record = &life.record;
    heading(ui, theme, "Tokens");
    row(ui, theme, "prompt", &words::count(record.input_tokens.into()));
    row(ui, theme, "of them reused", &words::count(record.reused_tokens.into()));
    row(
        ui,
        theme,
        "output",
        &format!(
            "{} of {}",
            words::count(record.output_tokens.into()),
            words::count(record.requested_output_tokens.into())
        ),
    );
    heading(ui, theme, "Outcome");
    let since = |at: Option<crate::time::SimTime>| {
        at.map_or_else(|| "–".to_owned(), |at| words::span(at.since(record.arrival).as_ms()))
    };
    row(ui, theme, "arrived at", &words::instant(record.arrival.as_secs()));
    row(ui, theme, "TTFT", &since(record.first_token));
    if let (Some(first), Some(last)) = (record.first_token, record.last_token)
        && record.output_tokens > 1
    {
        let gap = last.since(first).as_ms() / f64::from(record.output_tokens - 1);
        row(ui, theme, "mean ITL", &words::span(gap));
    }
    row(ui, theme, "end to end", &since(record.terminal));
    match life.met_sla {
        Some(true) => row(ui, theme, "SLA", "met"),
        Some(false) => colored_row(ui, theme, "SLA", "missed", theme.missed),
        None => {}
    }
}

struct Place<'a> {
    words: String,
    tile: Option<&'a Tile>,
    worker: Option<WorkerName>,
}

/// Where a request is at this instant.
fn place<'a>(desk: &'a Desk<'_>, index: u32) -> Place<'a> {
    for worker in workers(desk) {
        let name = Some(worker.name);
        if let Some(tile) = worker.running.iter().find(|t| t.request == index) {
            let words = format!(
                "{} at {}, {}",
                phase_word(tile.phase),
                words::worker(worker.name),
                words::percent(tile.progress.into())
            );
            return Place { words, tile: Some(tile), worker: name };
        }
        if let Some(n) = worker.waiting.iter().position(|d| d.request == index) {
            let words = format!("waits at {}, number {} in line", words::worker(worker.name), n + 1);
            return Place { words, tile: None, worker: name };
        }
    }
    let words = match desk.frame.router.waiting.iter().position(|d| d.request == index) {
        Some(n) => format!("waits at the router, number {} in line", n + 1),
        None => match desk.life {
            Some(life) if desk.frame.at < life.record.arrival => "has not arrived yet".to_owned(),
            Some(life) if life.record.terminal.is_some_and(|end| end <= desk.frame.at) => "has ended".to_owned(),
            Some(_) => "between two places".to_owned(),
            None => "not in flight".to_owned(),
        },
    };
    Place { words, tile: None, worker: None }
}

fn stage(theme: &Theme, kind: StageKind) -> (&'static str, Color32) {
    match kind {
        StageKind::RouterQueue => ("router", theme.waiting),
        StageKind::EngineQueue => ("queue", theme.waiting),
        StageKind::Prefill => ("prefill", theme.prefill),
        StageKind::Hold => ("hold", mix(theme.panel, theme.transfer, 0.55)),
        StageKind::Transfer => ("transfer", theme.transfer),
        StageKind::DecodeQueue => ("queue", theme.waiting),
        StageKind::Decode => ("decode", theme.decode),
    }
}

/// The stages of a life as bars below one another, with the playhead through them.
fn gantt(ui: &mut Ui, desk: &Desk<'_>, life: &Life) {
    let theme = desk.theme;
    heading(ui, theme, "Life");
    let start = life.record.arrival;
    let until = desk.track.end.unwrap_or(desk.frame.at);
    let end = life.stages.iter().map(|s| s.end.unwrap_or(until)).max().unwrap_or(start);
    let span = end.since(start).as_ms().max(1e-6);
    let font = FontId::proportional(12.0);
    let height = 19.0;
    let size = vec2(ui.available_width(), height * life.stages.len() as f32 + 4.0);
    let (all, _) = ui.allocate_exact_size(size, Sense::hover());
    let plot = Rect::from_min_max(pos2(all.min.x + 52.0, all.min.y), pos2(all.max.x - 54.0, all.max.y));
    let painter = ui.painter();
    let x = |at: crate::time::SimTime| plot.min.x + (at.since(start).as_ms() / span) as f32 * plot.width();
    for (i, part) in life.stages.iter().enumerate() {
        let (name, color) = stage(theme, part.kind);
        let y = plot.min.y + (i as f32 + 0.5) * height;
        painter.text(pos2(all.min.x, y), Align2::LEFT_CENTER, name, font.clone(), theme.dim);
        let end = part.end.unwrap_or(until);
        let (from, to) = (x(part.start), x(end).max(x(part.start) + 1.5));
        painter.rect_filled(Rect::from_min_max(pos2(from, y - 5.0), pos2(to, y + 5.0)), 2.0, color);
        let took = words::span(end.since(part.start).as_ms());
        painter.text(pos2(all.max.x, y), Align2::RIGHT_CENTER, took, font.clone(), theme.text);
    }
    if (start..=end).contains(&desk.frame.at) {
        painter.vline(x(desk.frame.at), plot.y_range(), (1.0, theme.accent));
    }
}
