//! The traffic source and the router.

use bevy_egui::egui::{Align2, Rect, pos2, vec2};

use super::{Scene, batch};
use crate::view::window::ink::Ink;
use crate::view::window::words;

/// Height on the screen below which a box shows its name only.
const READABLE: f32 = 54.0;

/// Draws the traffic source.
pub fn traffic(scene: &Scene<'_>, ink: &mut Ink<'_>) {
    let theme = scene.theme;
    let rect = scene.place(scene.layout.traffic);
    let Some(inner) = frame(scene, ink, rect, "Traffic") else { return };
    let traffic = &scene.frame.traffic;
    let size = scene.lettering(13.0);
    let rate = words::digits(traffic.rate);
    let big = scene.lettering(21.0).min(24.0);
    let figure = ink.text(inner.min, Align2::LEFT_TOP, big, theme.text, &rate);
    ink.text(pos2(figure.max.x + 4.0, figure.max.y - 2.0), Align2::LEFT_BOTTOM, 12.0, theme.dim, "req/s");
    let of = format!("{} of {}", words::count(traffic.arrived.into()), words::count(traffic.total.into()));
    let at = pos2(inner.min.x, figure.max.y + 3.0);
    if at.y + size < inner.max.y {
        ink.text_within(at, Align2::LEFT_TOP, size - 1.0, theme.dim, &of, inner.width());
    }
    let share = traffic.arrived as f32 / traffic.total.max(1) as f32;
    let bar = Rect::from_min_max(pos2(inner.min.x, inner.max.y - 3.0), inner.max);
    ink.rect(bar, theme.line);
    ink.rect(Rect::from_min_size(bar.min, vec2(bar.width() * share, bar.height())), theme.dim);
}

/// Draws the router with the requests that wait at it.
pub fn router(scene: &Scene<'_>, ink: &mut Ink<'_>) {
    let theme = scene.theme;
    let rect = scene.place(scene.layout.router);
    let Some(inner) = frame(scene, ink, rect, "Router") else { return };
    let router = &scene.frame.router;
    let size = scene.lettering(13.0);
    let mode = router.mode.replace('_', " ");
    ink.text_within(inner.min, Align2::LEFT_TOP, size, theme.text, &mode, inner.width());
    let top = inner.min.y + size + 5.0;
    let n = router.waiting.len();
    let (text, color) = if n == 0 {
        ("queue empty".to_owned(), theme.dim)
    } else {
        (format!("{} queued", words::count(n as u64)), theme.text)
    };
    ink.text_within(pos2(inner.min.x, top), Align2::LEFT_TOP, size - 1.0, color, &text, inner.width());
    let queue = Rect::from_min_max(pos2(inner.min.x, top + size + 5.0), inner.max);
    if queue.height() > 6.0 {
        batch::dots(scene, ink, &router.waiting, queue);
    }
}

/// A box with a name; the room inside, if it is large enough to be used.
fn frame(scene: &Scene<'_>, ink: &mut Ink<'_>, rect: Rect, name: &str) -> Option<Rect> {
    let theme = scene.theme;
    ink.round(rect, 6.0, theme.card);
    ink.outline(rect, 6.0, 1.0, theme.line);
    let size = scene.lettering(13.0);
    let pad = (10.0 * scene.camera.zoom).clamp(5.0, 14.0);
    let inner = rect.shrink(pad);
    if rect.height() < READABLE || rect.width() < READABLE {
        if rect.height() > 14.0 {
            let at = pos2(rect.center().x, rect.min.y - 2.0);
            ink.text(at, Align2::CENTER_BOTTOM, 12.0, theme.dim, name);
        }
        return None;
    }
    ink.text_within(inner.min, Align2::LEFT_TOP, size - 1.0, theme.dim, name, inner.width());
    Some(Rect::from_min_max(pos2(inner.min.x, inner.min.y + size + 6.0), inner.max))
}
