//! The keys.

use bevy_egui::egui::{self, Align2, RichText, vec2};

use crate::view::window::state::ViewState;
use crate::view::window::theme::Theme;

/// Keys and what they do; the viewer obeys these and no others.
pub const KEYS: &[(&str, &str)] = &[
    ("Space", "play or pause"),
    ("Left Right", "one second back or on"),
    (", .", "previous or next forward pass, of the selected worker if one is"),
    ("< >", "previous or next request event, of the selected request if one is"),
    ("[ ]", "previous or next decision of router or planner"),
    ("{ }", "previous or next planner tick"),
    ("Home End", "start or end of the run"),
    ("B", "the busiest moment"),
    ("+ -", "faster or slower"),
    ("M", "as fast as it can"),
    ("/", "find a request (17) or a worker (P3)"),
    ("Esc", "select nothing"),
    ("F", "fit the fleet into the window"),
    ("mouse wheel, drag", "zoom, move"),
    ("T", "dark or light"),
    ("Tab", "panels on or off"),
    ("F1 ?", "this list"),
];

/// Draws the list; a click beside it closes it.
pub fn show(ctx: &egui::Context, theme: &Theme, view: &mut ViewState) {
    let frame = egui::Frame::new()
        .fill(theme.panel)
        .stroke((1.0, theme.line))
        .corner_radius(8.0)
        .inner_margin(egui::Margin::symmetric(24, 18));
    let area = egui::Area::new(egui::Id::new("help"))
        .order(egui::Order::Foreground)
        .fade_in(false)
        .anchor(Align2::CENTER_CENTER, vec2(0.0, 0.0));
    let response = area.show(ctx, |ui| {
        frame.show(ui, |ui| {
            ui.set_width(560.0);
            ui.label(RichText::new("Keys").size(17.0).color(theme.text));
            ui.add_space(6.0);
            egui::Grid::new("keys").num_columns(2).spacing(vec2(22.0, 5.0)).show(ui, |ui| {
                for (keys, what) in KEYS {
                    ui.label(RichText::new(*keys).size(13.0).color(theme.text));
                    ui.label(RichText::new(*what).size(13.0).color(theme.dim));
                    ui.end_row();
                }
            });
        });
    });
    let outside = ctx.input(|i| i.pointer.any_pressed()) && !response.response.contains_pointer();
    if outside {
        view.help = false;
    }
}
