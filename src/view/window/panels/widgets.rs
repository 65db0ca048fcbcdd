//! Small parts that panels share.

use bevy_egui::egui::{Align2, Color32, FontId, Rect, Response, RichText, Sense, Ui, pos2, vec2};

use crate::view::window::ink::Ink;
use crate::view::window::theme::Theme;

/// A heading of a section.
pub fn heading(ui: &mut Ui, theme: &Theme, text: &str) {
    ui.add_space(8.0);
    ui.label(RichText::new(text).size(12.0).color(theme.dim).strong());
    ui.add_space(1.0);
}

/// A name on the left and a figure on the right.
pub fn row(ui: &mut Ui, theme: &Theme, name: &str, value: &str) {
    colored_row(ui, theme, name, value, theme.text);
}

/// A name on the left and a figure in a colour of its own on the right.
pub fn colored_row(ui: &mut Ui, theme: &Theme, name: &str, value: &str, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::hover());
    let mut ink = Ink::new(ui.painter(), None);
    // The figure comes first; the name gets what is left.
    let most = rect.width() * 0.68;
    let used = ink.text_within(rect.right_center(), Align2::RIGHT_CENTER, 13.0, color, value, most);
    ink.text_within(rect.left_center(), Align2::LEFT_CENTER, 13.0, theme.dim, name, rect.width() - used - 8.0);
    ink.finish();
}

/// Pictures on buttons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    /// Two bars.
    Pause,
    /// A triangle.
    Play,
    /// A bar and a triangle to the right.
    Forward,
    /// A triangle to the left and a bar.
    Back,
    /// Two triangles to the right.
    Skip,
    /// Two triangles to the left.
    SkipBack,
}

/// A button with a picture.
pub fn button(ui: &mut Ui, theme: &Theme, icon: Icon, hint: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(28.0, 28.0), Sense::click());
    let painter = ui.painter();
    if response.hovered() {
        painter.rect_filled(rect, 5.0, theme.line);
    }
    let c = rect.center();
    let bar = |x: f32, w: f32| {
        painter.rect_filled(Rect::from_center_size(pos2(c.x + x, c.y), vec2(w, 12.0)), 1.0, theme.accent);
    };
    let triangle = |x: f32, w: f32| {
        let points = vec![pos2(c.x + x, c.y - 6.0), pos2(c.x + x + w, c.y), pos2(c.x + x, c.y + 6.0)];
        painter.add(bevy_egui::egui::Shape::convex_polygon(points, theme.accent, bevy_egui::egui::Stroke::NONE));
    };
    match icon {
        Icon::Pause => {
            bar(-3.5, 3.5);
            bar(3.5, 3.5);
        }
        Icon::Play => triangle(-4.0, 10.0),
        Icon::Forward => {
            bar(-4.5, 2.5);
            triangle(-1.0, 8.0);
        }
        Icon::Back => {
            bar(4.5, 2.5);
            triangle(1.0, -8.0);
        }
        Icon::Skip => {
            triangle(-6.5, 6.5);
            triangle(0.5, 6.5);
        }
        Icon::SkipBack => {
            triangle(6.5, -6.5);
            triangle(-0.5, -6.5);
        }
    }
    response.on_hover_text(hint)
}

/// A horizontal bar in parts; `parts` are shares of the whole.
pub fn parts(ui: &mut Ui, theme: &Theme, height: f32, parts: &[(f32, Color32)]) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(rect, 2.0, theme.line);
    let mut x = rect.min.x;
    for &(share, color) in parts {
        let width = rect.width() * share;
        if width > 0.0 {
            painter.rect_filled(Rect::from_min_size(pos2(x, rect.min.y), vec2(width, height)), 0.0, color);
        }
        x += width;
    }
}

/// A figure with its name above it, right-aligned at `right`; its left edge.
pub fn figure(ui: &Ui, theme: &Theme, right: f32, center: f32, name: &str, value: &str, color: Color32) -> f32 {
    let painter = ui.painter();
    let value = painter.text(pos2(right, center + 8.0), Align2::RIGHT_CENTER, value, FontId::proportional(15.0), color);
    let name =
        painter.text(pos2(right, center - 10.0), Align2::RIGHT_CENTER, name, FontId::proportional(12.0), theme.dim);
    value.min.x.min(name.min.x)
}
