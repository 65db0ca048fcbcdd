//! The scenario in words, and what the colours mean.

use bevy_egui::egui::{self, Sense, Ui, vec2};

use super::Desk;
use super::widgets::{heading, row};
use crate::scenario::Role;
use crate::view::frame::TilePhase;
use crate::view::window::ink::Ink;
use crate::view::window::scene::{phase, role_color};
use crate::view::window::theme::{Theme, mix};

/// A scenario as sections of names and values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Sections in order.
    pub sections: Vec<(String, Vec<(String, String)>)>,
}

impl Facts {
    /// From the JSON of a scenario: plain values first, then one section for every object.
    pub fn of(scenario: &serde_json::Value) -> Self {
        let mut plain = Vec::new();
        let mut sections = Vec::new();
        for (key, value) in scenario.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Object(fields) => {
                    let entries = fields.iter().map(|(k, v)| (name(k), text(v))).collect();
                    sections.push((name(key), entries));
                }
                _ if key == "version" => {}
                value => plain.push((name(key), text(value))),
            }
        }
        sections.insert(0, ("Scenario".to_owned(), plain));
        Self { sections }
    }
}

fn name(key: &str) -> String {
    key.replace(['-', '_'], " ")
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => {
            // Of a path, its end tells the most.
            text.rsplit(['/', '\\']).next().unwrap_or(text).to_owned()
        }
        serde_json::Value::Array(list) if list.len() > 3 => format!("{} entries", list.len()),
        serde_json::Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        serde_json::Value::Number(number) => {
            let digits = number.to_string();
            digits.strip_suffix(".0").unwrap_or(&digits).to_owned()
        }
        other => other.to_string(),
    }
}

/// Draws the panel.
pub fn show(ui: &mut Ui, desk: &Desk<'_>) {
    let theme = desk.theme;
    // Entries and headings of the key below.
    let legend = if desk.frame.pools.len() > 1 { 230.0 } else { 176.0 };
    let room = (ui.available_height() - legend).max(60.0);
    egui::ScrollArea::vertical().max_height(room).auto_shrink([false, false]).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        for (title, entries) in &desk.facts.sections {
            heading(ui, theme, title);
            for (name, value) in entries {
                row(ui, theme, name, value);
            }
        }
    });
    key(ui, desk);
}

/// What shapes and colours stand for.
fn key(ui: &mut Ui, desk: &Desk<'_>) {
    let theme = desk.theme;
    ui.add_space(6.0);
    ui.spacing_mut().item_spacing.y = 1.0;
    let phases = [
        (TilePhase::Prefill, "prompt being computed", 0.6),
        (TilePhase::Decode, "emitting tokens", 0.6),
        (TilePhase::Held, "held, or KV on its way", 1.0),
        (TilePhase::Reserved, "blocks reserved", 0.0),
    ];
    heading(ui, theme, "Requests");
    let split = desk.frame.pools.len() > 1;
    for (what, text, fill) in phases {
        if split || matches!(what, TilePhase::Prefill | TilePhase::Decode) {
            let (color, glyph) = phase(theme, what);
            entry(ui, theme, text, |ink, min| ink.glyph(glyph, min, 11.0, fill, color, mix(theme.panel, color, 0.38)));
        }
    }
    entry(ui, theme, "waiting", |ink, min| {
        ink.glyph(crate::view::window::ink::Glyph::Disc, min + vec2(2.0, 2.0), 7.0, 1.0, theme.waiting, theme.waiting);
    });
    entry(ui, theme, "over its SLA", |ink, min| {
        ink.rect(egui::Rect::from_min_size(min + vec2(0.0, 8.0), vec2(11.0, 3.0)), theme.missed);
    });
    heading(ui, theme, "KV blocks");
    let square =
        |color| move |ink: &mut Ink<'_>, min| ink.rect(egui::Rect::from_min_size(min, vec2(11.0, 11.0)), color);
    let roles = desk.frame.pools.iter().map(|p| p.role);
    for role in roles {
        let text = match role {
            Role::Aggregated => "in use",
            Role::Prefill => "in use for prefill",
            Role::Decode => "in use for decode",
        };
        entry(ui, theme, text, square(mix(role_color(theme, role), theme.card, 0.2)));
    }
    entry(ui, theme, "kept for reuse", square(theme.cached));
    if split {
        entry(ui, theme, "reserved", square(theme.transfer));
    }
}

fn entry(ui: &mut Ui, theme: &Theme, text: &str, draw: impl FnOnce(&mut Ink<'_>, egui::Pos2)) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
    let mut ink = Ink::new(ui.painter(), None);
    draw(&mut ink, rect.min + vec2(1.0, 3.0));
    ink.text(rect.left_center() + vec2(21.0, 0.0), egui::Align2::LEFT_CENTER, 12.5, theme.text, text);
    ink.finish();
}
