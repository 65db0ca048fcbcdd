//! The whole run as tracks, with the playhead to drag.

use bevy_egui::egui::{
    Align2, Color32, CornerRadius, FontId, Painter, Pos2, Rect, Sense, Shape, Stroke, Ui, pos2, vec2,
};

use super::{Desk, Wishes};
use crate::scenario::Role;
use crate::time::SimTime;
use crate::view::command::Command;
use crate::view::track::Bucket;
use crate::view::window::ink::Ink;
use crate::view::window::scene::role_color;
use crate::view::window::theme::{fade, mix};
use crate::view::window::words;

const LABELS: f32 = 136.0;
const AXIS: f32 = 18.0;
const FONT: f32 = 12.0;

struct Track<'a> {
    desk: &'a Desk<'a>,
    plot: Rect,
    span: f64,
}

impl Track<'_> {
    fn x(&self, at: SimTime) -> f32 {
        self.plot.min.x + (at.as_nanos() as f64 / self.span) as f32 * self.plot.width()
    }

    fn at(&self, x: f32) -> SimTime {
        let share = f64::from(((x - self.plot.min.x) / self.plot.width()).clamp(0.0, 1.0));
        SimTime::from_nanos((share * self.span) as u64)
    }

    /// From where to where on the screen a bucket goes.
    fn range(&self, index: usize) -> (f32, f32) {
        let width = self.desk.track.width.as_nanos();
        let at = |n: usize| self.x(SimTime::from_nanos(width.saturating_mul(n as u64))).min(self.plot.max.x);
        (at(index), at(index + 1))
    }
}

/// Draws the time line.
pub fn show(ui: &mut Ui, desk: &Desk<'_>, wishes: &mut Wishes) {
    let theme = desk.theme;
    let (all, response) = ui.allocate_exact_size(ui.available_size(), Sense::click_and_drag());
    let plot =
        Rect::from_min_max(pos2(all.min.x + LABELS, all.min.y + 8.0), pos2(all.max.x - 16.0, all.max.y - AXIS - 4.0));
    let track = Track { desk, plot, span: desk.span().as_nanos() as f64 };
    let painter = ui.painter().with_clip_rect(all);
    painter.hline(all.x_range(), all.min.y + 0.5, (1.0, theme.line));

    let rows = 4.0;
    let height = plot.height() / rows;
    let row = |n: usize| {
        let top = plot.min.y + n as f32 * height;
        Rect::from_min_max(pos2(plot.min.x, top), pos2(plot.max.x, top + height - 5.0))
    };
    arrivals(&painter, &track, row(0));
    latency(&painter, &track, row(1));
    kv(&painter, &track, row(2));
    replicas(&painter, &track, row(3));
    axis(&painter, &track, all);
    markers(&painter, &track);
    unknown(&painter, &track);

    let x = track.x(desk.playhead).round();
    painter.vline(x, plot.min.y - 4.0..=plot.max.y + 4.0, (1.5, theme.accent));
    let grip = Rect::from_center_size(pos2(x, plot.min.y - 2.0), vec2(9.0, 9.0));
    painter.rect_filled(grip, CornerRadius { nw: 2, ne: 2, sw: 4, se: 4 }, theme.accent);

    if let Some(at) = response.interact_pointer_pos()
        && (response.dragged() || response.clicked() || response.is_pointer_button_down_on())
    {
        let to = track.at(at.x);
        if to != desk.playhead {
            wishes.commands.push(Command::Seek(to));
        }
    } else if let Some(at) = response.hover_pos().filter(|at| plot.expand(4.0).contains(*at)) {
        painter.vline(at.x, plot.y_range(), (1.0, fade(theme.dim, 0.6)));
        if let Some(text) = under(&track, at) {
            response.on_hover_text_at_pointer(text);
        }
    }
}

fn label(painter: &Painter, track: &Track<'_>, row: Rect, name: &str, color: Color32) {
    let at = pos2(track.plot.min.x - LABELS + 14.0, row.center().y);
    painter.text(at, Align2::LEFT_CENTER, name, FontId::proportional(FONT), color);
    painter.hline(row.x_range(), row.max.y + 0.5, (1.0, mix(track.desk.theme.panel, track.desk.theme.line, 0.6)));
}

/// The scale of a row, at its right end.
fn scale(painter: &Painter, track: &Track<'_>, row: Rect, text: &str) {
    let theme = track.desk.theme;
    let at = pos2(track.plot.min.x - 8.0, row.min.y + 5.0);
    painter.text(at, Align2::RIGHT_CENTER, text, FontId::proportional(FONT), fade(theme.dim, 0.8));
}

fn arrivals(painter: &Painter, track: &Track<'_>, row: Rect) {
    let theme = track.desk.theme;
    label(painter, track, row, "Arrivals", theme.dim);
    let buckets = &track.desk.track.buckets;
    let most = buckets.iter().map(|b| b.arrivals).max().unwrap_or(0).max(1) as f32;
    let mut ink = Ink::new(painter, None);
    for (i, bucket) in buckets.iter().enumerate() {
        let (from, to) = track.range(i);
        let bar =
            |n: u32| Rect::from_min_max(pos2(from, row.max.y - row.height() * n as f32 / most), pos2(to, row.max.y));
        ink.rect(bar(bucket.arrivals), mix(theme.panel, theme.waiting, 0.75));
    }
    ink.finish();
}

fn latency(painter: &Painter, track: &Track<'_>, row: Rect) {
    let theme = track.desk.theme;
    label(painter, track, row, "TTFT", theme.dim);
    let buckets = &track.desk.track.buckets;
    let most = buckets.iter().filter_map(|b| b.ttft_p99_ms).fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    scale(painter, track, row, &words::span(most));
    // Logarithmic over three decades: a wait of a minute hides no change from 0.2 to 2 s.
    let y = |ms: f64| row.max.y - row.height() * (1.0 + (ms / most).max(1e-3).log10() / 3.0) as f32;
    // Where completed requests missed the SLA, the ground says so.
    let mut ink = Ink::new(painter, None);
    for (i, bucket) in buckets.iter().enumerate().filter(|(_, b)| b.missed > 0) {
        let (from, to) = track.range(i);
        let share = bucket.missed as f32 / bucket.completed.max(1) as f32;
        let place = Rect::from_min_max(pos2(from, row.min.y), pos2(to, row.max.y));
        ink.rect(place, mix(theme.panel, theme.missed, 0.08 + 0.24 * share));
    }
    ink.finish();
    if let Some(bound) = track.desk.sla_ttft_ms.filter(|bound| *bound < most) {
        let dashes = Shape::dashed_line(
            &[pos2(row.min.x, y(bound)), pos2(row.max.x, y(bound))],
            Stroke::new(1.0, theme.missed),
            4.0,
            4.0,
        );
        painter.extend(dashes);
    }
    curve(painter, track, theme.dim, |b| b.ttft_p99_ms.map(y));
    curve(painter, track, theme.text, |b| b.ttft_p50_ms.map(y));
}

fn kv(painter: &Painter, track: &Track<'_>, row: Rect) {
    let theme = track.desk.theme;
    label(painter, track, row, "KV in use", theme.dim);
    scale(painter, track, row, "100 %");
    let pools = track.desk.frame.pools.len();
    for pool in 0..pools {
        let color = role_color(theme, track.desk.frame.pools[pool].role);
        curve(painter, track, color, |b| b.pools.get(pool).map(|p| row.max.y - row.height() * p.kv_used));
    }
}

fn replicas(painter: &Painter, track: &Track<'_>, row: Rect) {
    let theme = track.desk.theme;
    label(painter, track, row, "Workers", theme.dim);
    let buckets = &track.desk.track.buckets;
    let of = |b: &Bucket, pool: usize| b.pools.get(pool).map(|p| p.replicas[1] + p.replicas[2]);
    let pools = track.desk.frame.pools.len();
    let most = buckets.iter().flat_map(|b| b.pools.iter().map(|p| p.replicas.iter().sum::<u32>())).max().unwrap_or(1);
    scale(painter, track, row, &most.to_string());
    for pool in 0..pools {
        let color = role_color(theme, track.desk.frame.pools[pool].role);
        // Pools of equal size stay apart by a pixel and a half.
        let lift = pool as f32 * 1.5;
        let y = |n: u32| row.max.y - 1.0 - lift - (row.height() - 4.0) * n as f32 / most.max(1) as f32;
        let mut points: Vec<Pos2> = Vec::new();
        for (i, bucket) in buckets.iter().enumerate() {
            let Some(n) = of(bucket, pool) else { continue };
            let (from, to) = track.range(i);
            if points.last().is_none_or(|p| p.y != y(n)) {
                points.push(pos2(from, y(n)));
                points.push(pos2(to, y(n)));
            } else if let Some(last) = points.last_mut() {
                last.x = to;
            }
        }
        painter.add(Shape::line(points, Stroke::new(1.5, color)));
    }
}

/// A line through the middles of buckets; one after the other where one has no value.
fn curve(painter: &Painter, track: &Track<'_>, color: Color32, y: impl Fn(&Bucket) -> Option<f32>) {
    let mut points: Vec<Pos2> = Vec::new();
    for (i, bucket) in track.desk.track.buckets.iter().enumerate() {
        if let Some(y) = y(bucket) {
            let (from, to) = track.range(i);
            points.push(pos2((from + to) / 2.0, y));
        }
    }
    if points.len() > 1 {
        painter.add(Shape::line(points, Stroke::new(1.3, color)));
    }
}

fn axis(painter: &Painter, track: &Track<'_>, all: Rect) {
    let theme = track.desk.theme;
    let secs = track.span / 1e9;
    let rough = secs / f64::from((track.plot.width() / 110.0).max(2.0));
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|s| *s >= rough).unwrap_or(rough);
    let y = all.max.y - AXIS / 2.0 - 2.0;
    let mut at = 0.0;
    while at <= secs {
        let x = track.plot.min.x + (at / secs) as f32 * track.plot.width();
        painter.vline(x, track.plot.max.y..=track.plot.max.y + 4.0, (1.0, theme.line));
        let text = if step < 1.0 { format!("{at:.2} s") } else { format!("{} s", words::count(at as u64)) };
        let align = if at == 0.0 { Align2::LEFT_CENTER } else { Align2::CENTER_CENTER };
        if x < track.plot.max.x - 18.0 {
            painter.text(pos2(x, y), align, text, FontId::proportional(FONT), theme.dim);
        }
        at += step;
    }
}

fn markers(painter: &Painter, track: &Track<'_>) {
    let theme = track.desk.theme;
    let mut last = f32::NEG_INFINITY;
    for marker in &track.desk.track.markers {
        let x = track.x(marker.at).round();
        // One of several at the same place is enough.
        if x - last < 3.0 {
            continue;
        }
        last = x;
        let y = track.plot.max.y - 1.0;
        let points = vec![pos2(x, y - 7.0), pos2(x + 4.0, y), pos2(x - 4.0, y)];
        painter.add(Shape::convex_polygon(points, theme.planner, Stroke::NONE));
    }
}

/// What is not computed yet.
fn unknown(painter: &Painter, track: &Track<'_>) {
    if track.desk.track.end.is_some() {
        return;
    }
    let from = track.x(track.desk.track.reached);
    let text = format!("computing the run: {}", words::percent(f64::from(track.desk.progress.run)));
    let at = pos2(from.min(track.plot.max.x - 150.0).max(track.plot.min.x + 8.0), track.plot.center().y);
    painter.text(at, Align2::LEFT_CENTER, text, FontId::proportional(13.0), track.desk.theme.dim);
}

/// The run at a point, in words.
fn under(track: &Track<'_>, at: Pos2) -> Option<String> {
    let instant = track.at(at.x);
    let near = |marker: &&crate::view::track::Marker| (track.x(marker.at) - at.x).abs() < 5.0;
    let markers: Vec<_> = track.desk.track.markers.iter().filter(near).take(3).collect();
    let known = &track.desk.track;
    let bucket = known.bucket_at(instant).and_then(|i| known.buckets.get(i))?;
    let ms = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), words::span);
    let width = words::span(known.width.as_ms());
    let mut text = format!("{} ({width} wide)\n", words::instant(instant.as_secs()));
    text += &format!("{} arrived, {} completed, {} over the SLA\n", bucket.arrivals, bucket.completed, bucket.missed);
    text += &format!("TTFT p50 {}, p99 {}\n", ms(bucket.ttft_p50_ms), ms(bucket.ttft_p99_ms));
    text += &format!("{} in flight, {} at the router", bucket.in_flight, bucket.at_router);
    for pool in &bucket.pools {
        let name = match pool.role {
            Role::Aggregated => "workers",
            Role::Prefill => "prefill",
            Role::Decode => "decode",
        };
        text += &format!("\n{name}: {} ready, KV {}", pool.replicas[1], words::percent(f64::from(pool.kv_used)));
    }
    for marker in markers {
        text += &format!("\n\n{}", marker.text);
    }
    Some(text)
}
