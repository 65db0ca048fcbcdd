//! What moves between traffic, router and workers.
//!
//! Placement takes no time in the model: a hop that lasts a moment of screen time tells of it, and above a certain speed
//! only the thickness of the line does. KV transfers do take time, and are drawn at their simulated progress.

use bevy_egui::egui::{Align2, Color32, Pos2, Rect, pos2, vec2};

use super::Scene;
use crate::view::frame::TransferFrame;
use crate::view::window::ink::{Glyph, Ink};
use crate::view::window::layout::{CARD, GUTTER};
use crate::view::window::state::Target;
use crate::view::window::theme::{fade, mix};
use crate::view::window::words;

/// Screen time a hop takes, seconds.
const HOP: f64 = 0.35;
/// Speed above which hops are not drawn one by one.
const FLOW_ABOVE: f64 = 100.0;
/// Transfers with their size beside them, at most.
const LABELLED: usize = 6;

/// Lines from traffic to router to pools, as thick as the load.
pub fn trunks(scene: &Scene<'_>, ink: &mut Ink<'_>) {
    let theme = scene.theme;
    let layout = scene.layout;
    let rate = scene.frame.traffic.rate;
    let width = (1.0 + (1.0 + rate).log2() as f32).clamp(1.0, 9.0);
    let busy = if scene.speed > FLOW_ABOVE && rate > 0.0 { 0.55 } else { 0.0 };
    let color = mix(theme.line, theme.waiting, busy);
    down(scene, ink, width, color);
    if let Some(first) = layout.pools.first() {
        arrow(scene, ink, scene.place(layout.router), scene.place(first.rect), width, color);
    }
    if let [prefill, decode] = layout.pools.as_slice() {
        let (from, to) = (scene.place(prefill.rect), scene.place(decode.rect));
        let n = scene.frame.transfers.len();
        let color = if n > 0 { theme.transfer } else { theme.dim };
        let room = to.min.x - from.max.x;
        let at = pos2((from.max.x + to.min.x) / 2.0, scene.place(prefill.heading).center().y + 2.0);
        if room > 24.0 {
            let label = ink.text(at, Align2::CENTER_CENTER, 13.0, color, "KV");
            let (x, y) = (label.max.x + 3.0, at.y);
            ink.polygon(&[pos2(x, y - 4.0), pos2(x + 6.0, y), pos2(x, y + 4.0)], color);
        }
        // Where transfers are not drawn one by one, or there are none, the way is.
        if n == 0 {
            arrow(scene, ink, from, to, 1.0, theme.line);
        }
    }
}

/// From traffic down to the router.
fn down(scene: &Scene<'_>, ink: &mut Ink<'_>, width: f32, color: Color32) {
    let (from, to) = (scene.place(scene.layout.traffic), scene.place(scene.layout.router));
    let width = width * scene.camera.zoom.clamp(0.5, 1.5);
    let (x, head) = (from.center().x, 4.0 + width);
    let (a, b) = (from.max.y + 4.0, to.min.y - 4.0);
    if b - a < head + 2.0 {
        return;
    }
    ink.rect(Rect::from_min_max(pos2(x - width / 2.0, a), pos2(x + width / 2.0, b - head)), color);
    ink.polygon(&[pos2(x - head * 0.8, b - head), pos2(x + head * 0.8, b - head), pos2(x, b)], color);
}

fn arrow(scene: &Scene<'_>, ink: &mut Ink<'_>, from: Rect, to: Rect, width: f32, color: Color32) {
    let width = width * scene.camera.zoom.clamp(0.5, 1.5);
    let y = from.center().y.clamp(to.min.y, to.max.y);
    let head = 4.0 + width;
    let (a, b) = (pos2(from.max.x + 4.0, y), pos2(to.min.x - 4.0, y));
    if b.x - a.x < head + 2.0 {
        return;
    }
    ink.rect(Rect::from_min_max(pos2(a.x, y - width / 2.0), pos2(b.x - head, y + width / 2.0)), color);
    ink.polygon(&[pos2(b.x - head, y - head * 0.8), b, pos2(b.x - head, y + head * 0.8)], color);
}

/// Requests that just arrived, on their way to where they were sent.
pub fn arrivals(scene: &Scene<'_>, ink: &mut Ink<'_>) {
    let theme = scene.theme;
    if scene.speed > FLOW_ABOVE {
        return;
    }
    let window = HOP * scene.speed;
    let start = scene.place(scene.layout.traffic).center_bottom();
    let via = scene.place(scene.layout.router);
    for arrival in &scene.frame.traffic.recent {
        let age = scene.frame.at.since(arrival.at).as_secs();
        if age > window {
            continue;
        }
        let end = match arrival.placed.and_then(|name| scene.layout.worker(name)) {
            Some(rect) => scene.place(rect).left_top() + vec2(8.0, 12.0),
            None => via.center_top() + vec2(0.0, 6.0),
        };
        let t = ease((age / window) as f32);
        let path = [start, via.center_top(), pos2(via.max.x, via.min.y + 6.0), end];
        let at = along(&path, t);
        let color = if scene.is_selected(Target::Request(arrival.request)) { theme.selected } else { theme.text };
        ink.disc(at, 3.5, fade(color, 0.9));
        ink.line(vec![along(&path, (t - 0.06).max(0.0)), at], 2.0, fade(color, 0.35));
    }
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// KV on its way: the whole path faintly, the part that is there strongly.
pub fn transfers(scene: &Scene<'_>, ink: &mut Ink<'_>) {
    let theme = scene.theme;
    for (i, transfer) in scene.frame.transfers.iter().enumerate() {
        let Some(path) = path(scene, transfer) else { continue };
        let chosen = scene.is_selected(Target::Request(transfer.request));
        let color = if chosen { theme.selected } else { theme.transfer };
        ink.line(path.clone(), 3.0, fade(color, 0.30));
        let done = part(&path, transfer.progress);
        let head = done.last().copied().unwrap_or(path[0]);
        if done.len() > 1 {
            ink.line(done, 3.0, color);
        }
        let side = 9.0;
        ink.glyph(Glyph::Diamond, head - vec2(side, side) / 2.0, side, 1.0, color, color);
        ink.touch(Rect::from_center_size(head, vec2(14.0, 14.0)), Target::Request(transfer.request));
        if i < LABELLED && scene.camera.zoom > 0.45 {
            let text = words::bytes(transfer.bytes);
            let label = Rect::from_center_size(
                head + vec2(0.0, if i % 2 == 0 { -14.0 } else { 14.0 }),
                vec2(text.len() as f32 * 6.4 + 6.0, 15.0),
            );
            ink.round(label, 3.0, fade(theme.background, 0.85));
            ink.text(label.center(), Align2::CENTER_CENTER, 12.0, color, &text);
        }
    }
}

/// From card to card through the free space between them.
fn path(scene: &Scene<'_>, transfer: &TransferFrame) -> Option<Vec<Pos2>> {
    let (from, to) = (scene.layout.worker(transfer.from)?, scene.layout.worker(transfer.to)?);
    let [prefill, decode] = scene.layout.pools.as_slice() else { return None };
    // Neighbouring transfers keep a little apart.
    let lane = (transfer.request % 5) as f32 * 3.0 - 6.0;
    let half = GUTTER / 2.0;
    let middle = (prefill.rect.max.x + decode.rect.min.x) / 2.0 + lane * 2.0;
    let leave = from.center().y + lane;
    let enter = to.center().y + lane;
    // In the outermost column the way is free; elsewhere it goes around the neighbours, below the card.
    let last_column = prefill.rect.max.x - from.max.x < CARD.x;
    let first_column = to.min.x - decode.rect.min.x < CARD.x;
    let mut points = vec![pos2(from.max.x, leave)];
    if !last_column {
        let below = from.max.y + half + lane * 0.8;
        points.extend([pos2(from.max.x + half + lane * 0.8, leave), pos2(from.max.x + half + lane * 0.8, below)]);
        points.push(pos2(middle, below));
    } else {
        points.push(pos2(middle, leave));
    }
    if !first_column {
        let below = to.max.y + half + lane * 0.8;
        points.extend([pos2(middle, below), pos2(to.min.x - half + lane * 0.8, below)]);
        points.push(pos2(to.min.x - half + lane * 0.8, enter));
    } else {
        points.push(pos2(middle, enter));
    }
    points.push(pos2(to.min.x, enter));
    let points: Vec<Pos2> = points.into_iter().map(|p| scene.camera.to_screen(p, scene.screen)).collect();
    Some(rounded(&points, 8.0 * scene.camera.zoom.clamp(0.3, 2.0)))
}

/// A polyline with its corners rounded off.
fn rounded(points: &[Pos2], radius: f32) -> Vec<Pos2> {
    let mut smooth = vec![points[0]];
    for corner in points.windows(3) {
        let (a, b, c) = (corner[0], corner[1], corner[2]);
        let (back, on) = (a - b, c - b);
        let r = radius.min(back.length() / 2.0).min(on.length() / 2.0);
        let (p, q) = (b + back.normalized() * r, b + on.normalized() * r);
        for step in 0..=4 {
            let t = step as f32 / 4.0;
            let (u, v) = (p + (b - p) * t, b + (q - b) * t);
            smooth.push(u + (v - u) * t);
        }
    }
    smooth.extend(points.last());
    smooth
}

fn length(points: &[Pos2]) -> f32 {
    points.windows(2).map(|p| p[0].distance(p[1])).sum()
}

/// The first `share` of a polyline.
fn part(points: &[Pos2], share: f32) -> Vec<Pos2> {
    let mut left = length(points) * share.clamp(0.0, 1.0);
    let mut kept = vec![points[0]];
    for pair in points.windows(2) {
        let piece = pair[0].distance(pair[1]);
        if piece >= left {
            if piece > 0.0 {
                kept.push(pair[0] + (pair[1] - pair[0]) * (left / piece));
            }
            break;
        }
        left -= piece;
        kept.push(pair[1]);
    }
    kept
}

/// The point at `share` of a polyline.
fn along(points: &[Pos2], share: f32) -> Pos2 {
    part(points, share).last().copied().unwrap_or(points[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_path_ends_in_its_middle() {
        let path = [pos2(0.0, 0.0), pos2(4.0, 0.0), pos2(4.0, 4.0)];
        assert_eq!(along(&path, 0.5), pos2(4.0, 0.0));
        assert_eq!(along(&path, 0.75), pos2(4.0, 2.0));
        assert_eq!(along(&path, 1.0), pos2(4.0, 4.0));
    }
}
