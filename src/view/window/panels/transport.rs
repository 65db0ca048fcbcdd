//! The transport bar: play, step, speed, where in time, headline figures.

use bevy_egui::egui::{Align2, FontId, Rect, Sense, Ui, pos2, vec2};

use super::widgets::{Icon, button, figure};
use super::{Desk, Wishes};
use crate::view::command::{Command, Direction, StepUnit};
use crate::view::player::Speed;
use crate::view::window::state::ViewState;
use crate::view::window::words;

/// Slowest and fastest speed, simulated seconds per second.
pub const SPEEDS: (f64, f64) = (0.01, 100_000.0);

/// Draws the bar.
pub fn show(ui: &mut Ui, desk: &Desk<'_>, view: &mut ViewState, wishes: &mut Wishes) {
    let theme = desk.theme;
    let bar = ui.max_rect();
    let center = bar.center().y;
    ui.painter().hline(bar.x_range(), bar.max.y - 0.5, (1.0, theme.line));
    let step = |unit, direction| Command::Step { unit, direction };
    let used = ui.horizontal_centered(|ui| {
        ui.add_space(12.0);
        ui.spacing_mut().item_spacing.x = 2.0;
        if button(ui, theme, Icon::SkipBack, "Previous decision  [").clicked() {
            wishes.commands.push(step(StepUnit::Decision, Direction::Backward));
        }
        if button(ui, theme, Icon::Back, "Previous pass  ,").clicked() {
            wishes.commands.push(step(StepUnit::Pass, Direction::Backward));
        }
        let icon = if desk.playing { Icon::Pause } else { Icon::Play };
        if button(ui, theme, icon, "Play or pause  Space").clicked() {
            wishes.commands.push(Command::TogglePlay);
        }
        if button(ui, theme, Icon::Forward, "Next pass  .").clicked() {
            wishes.commands.push(step(StepUnit::Pass, Direction::Forward));
        }
        if button(ui, theme, Icon::Skip, "Next decision  ]").clicked() {
            wishes.commands.push(step(StepUnit::Decision, Direction::Forward));
        }
        ui.add_space(14.0);
        clock(ui, desk);
        ui.add_space(14.0);
        speed(ui, desk, wishes);
        ui.add_space(10.0);
        if ui.available_width() > 640.0 {
            search(ui, view, wishes);
        }
        ui.cursor().min.x
    });

    let headline = &desk.frame.headline;
    let mut right = bar.max.x - 14.0;
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), words::span);
    let mut figures = Vec::new();
    if let Some(share) = headline.sla_attainment {
        let color = if share < 0.95 { theme.missed } else { theme.text };
        figures.push(("in SLA", words::percent(share), color));
    }
    figures.push(("GPUs", words::count(headline.gpus.into()), theme.text));
    figures.push(("ITL p50", ms(headline.itl_p50_ms), theme.text));
    figures.push(("TTFT p90", ms(headline.ttft_p90_ms), theme.text));
    figures.push(("completed", words::count(headline.completed.into()), theme.text));
    let used = used.inner;
    for (name, value, color) in figures {
        if right - 70.0 < used {
            break;
        }
        right = figure(ui, theme, right, center, name, &value, color) - 22.0;
    }
}

/// `1,203.4 s / 3,545 s`, as wide as it will ever be.
fn clock(ui: &mut Ui, desk: &Desk<'_>) {
    let theme = desk.theme;
    let (rect, _) = ui.allocate_exact_size(vec2(168.0, 28.0), Sense::hover());
    let painter = ui.painter();
    let at = pos2(rect.min.x + 84.0, rect.center().y);
    let now = words::instant(desk.playhead.as_secs());
    painter.text(at, Align2::RIGHT_CENTER, now, FontId::proportional(17.0), theme.text);
    let end = match desk.track.end {
        Some(end) => format!("/ {}", words::instant(end.as_secs())),
        None => format!("run {}", words::percent(f64::from(desk.progress.run))),
    };
    painter.text(at + vec2(7.0, 1.0), Align2::LEFT_CENTER, end, FontId::proportional(13.0), theme.dim);
}

/// A slider on a logarithmic scale.
fn speed(ui: &mut Ui, desk: &Desk<'_>, wishes: &mut Wishes) {
    let theme = desk.theme;
    let (rect, response) = ui.allocate_exact_size(vec2(176.0, 28.0), Sense::click_and_drag());
    let rail = Rect::from_center_size(pos2(rect.min.x + 60.0, rect.center().y), vec2(112.0, 4.0));
    let (least, most) = (SPEEDS.0.log10(), SPEEDS.1.log10());
    if let Some(at) = response.interact_pointer_pos() {
        let share = f64::from(((at.x - rail.min.x) / rail.width()).clamp(0.0, 1.0));
        let exact = 10f64.powf(least + (most - least) * share);
        // Round speeds are easier to talk about.
        let power = 10f64.powf(exact.log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power);
        let nearest = round.min_by(|a, b| (a / exact).ln().abs().total_cmp(&(b / exact).ln().abs()));
        wishes.commands.push(Command::SetSpeed(nearest.unwrap_or(exact)));
    }
    let painter = ui.painter();
    painter.rect_filled(rail, 2.0, theme.line);
    let (share, text) = match desk.speed {
        Speed::Times(times) => {
            (((times.log10() - least) / (most - least)).clamp(0.0, 1.0) as f32, format!("{}×", short(times)))
        }
        Speed::Full => (1.0, "max".to_owned()),
    };
    let x = rail.min.x + rail.width() * share;
    painter.rect_filled(Rect::from_min_max(rail.min, pos2(x, rail.max.y)), 2.0, theme.dim);
    painter.circle_filled(pos2(x, rail.center().y), 6.0, theme.accent);
    painter.text(
        pos2(rail.max.x + 12.0, rect.center().y),
        Align2::LEFT_CENTER,
        text,
        FontId::proportional(13.0),
        theme.text,
    );
    response.on_hover_text("Simulated seconds per second  + and −");
}

fn short(times: f64) -> String {
    if times >= 1.0 { words::short(times) } else { format!("{times}") }
}

fn search(ui: &mut Ui, view: &mut ViewState, wishes: &mut Wishes) {
    let field = bevy_egui::egui::TextEdit::singleline(&mut view.search)
        .id(bevy_egui::egui::Id::new("search"))
        .hint_text("Find 17 or P3  /")
        .desired_width(116.0);
    let response = ui.add(field);
    if std::mem::take(&mut view.focus_search) {
        response.request_focus();
    }
    if response.lost_focus()
        && ui.input(|i| i.key_pressed(bevy_egui::egui::Key::Enter))
        && let Some(target) = words::target(&view.search)
    {
        wishes.select = Some(Some(target));
        view.search.clear();
    }
}
