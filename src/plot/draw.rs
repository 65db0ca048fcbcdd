//! A panel's SVG elements.

use std::fmt::Write;

use svg::node::Node;
use svg::node::element::{Circle, Element, Group, Line, Path, Rectangle, SVG};

use super::axis::{Scale, Span};
use super::names;
use super::palette::{AXIS, Color, GRID, INK, MUTED, PAPER};
use super::panel::{Bar, Mark, Note, Panel, Rule, Shape};
use super::place::{Area, Place, Room, Spot};
use super::text::{Anchor, Face, px};

const TITLE: Face = Face::bold(16.0, INK);
const CAPTION: Face = Face::new(13.0, MUTED);
const TICK: Face = Face::new(12.5, MUTED);
const NOTE: Face = Face::new(12.0, MUTED);

/// Marks may reach this far beyond the frame: half a line width and a dot.
const BLEED: f64 = 4.0;

/// The chart's frame on the page, and what its edges mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    x: Span,
    y: Span,
}

impl Frame {
    /// Place of a point on the page.
    pub(super) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.left + self.x.place(x) * self.width(), self.bottom - self.y.place(y) * self.height())
    }

    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// Whether a point on the page is within the frame, its edge included.
    pub(super) fn holds(&self, (x, y): (f64, f64)) -> bool {
        let slack = 0.5;
        x >= self.left - slack && x <= self.right + slack && y >= self.top - slack && y <= self.bottom + slack
    }
}

impl Panel {
    /// Height of the legend in a box of this width; 0 without one.
    pub(super) fn legend_height(&self, width: f64) -> f64 {
        names::Legend::of(self, width).height()
    }

    /// The panel in a box of the page; the chart begins below a legend of at most `legend_height`.
    pub(super) fn draw(&self, (x, y): Spot, (width, height): (f64, f64), legend_height: f64) -> Group {
        let mut group = Group::new()
            .add(TITLE.draw(&TITLE.fit(&self.title, width), x, y + 14.0, Anchor::Start))
            .add(CAPTION.draw(&CAPTION.fit(&self.y.label, width), x, y + 35.0, Anchor::Start));
        let legend = names::Legend::of(self, width);
        let top = y + 50.0 + legend_height;
        let bottom = y + height - 42.0;
        let [data_x, data_y] = self.extent();
        let round_x = !matches!(self.x.scale, Scale::Linear) && self.x.from.is_none();
        let (span_x, span_y) = (self.x.span(data_x, round_x), self.y.span(data_y, true));
        let ticks_y = self.y.ticks(span_y, ((bottom - top) / 48.0) as usize);
        let left = x + ticks_y.iter().map(|(_, text)| TICK.width(text)).fold(0.0, f64::max) + 10.0;
        let right = x + width - names::end_width(self).max(14.0);
        let frame = Frame { left, top, right, bottom, x: span_x, y: span_y };

        group = group.add(legend.draw(x, y + 50.0));
        for (value, text) in &ticks_y {
            let (_, at) = frame.at((span_x.low, *value));
            group = group.add(rule_line(left, at, right, at, GRID, 1.0));
            group = group.add(TICK.draw(text, left - 8.0, at + 4.5, Anchor::End));
        }
        group = self.draw_x_axis(group, &frame);
        if data_x.is_none() {
            let (cx, cy) = ((left + right) / 2.0, (top + bottom) / 2.0);
            return group.add(CAPTION.draw("no data", cx, cy, Anchor::Middle));
        }
        group = group.add(self.draw_marks(&frame));
        let bounds = Area { left, top: y, right: x + width, bottom };
        let mut room = Room::new(bounds, self.lines_on_page(&frame));
        group = names::draw_ends(group, self, &frame, &mut room);
        for rule in &self.rules {
            group = draw_rule(group, rule, &frame, &mut room);
        }
        for note in &self.notes {
            group = draw_note(group, note, &frame, &mut room);
        }
        group
    }

    /// The lines as they run over the page.
    fn lines_on_page(&self, frame: &Frame) -> Vec<Vec<Spot>> {
        let line = |mark: &Mark| match &mark.shape {
            Shape::Line(points) => Some(self.places(points, frame).flatten().collect()),
            Shape::Step(points) => {
                let corners: Vec<Spot> = self.places(points, frame).flatten().collect();
                let steps = corners.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
                Some(steps.chain(corners.last().copied()).collect())
            }
            Shape::Dots(_) | Shape::Bars(_) => None,
        };
        self.marks.iter().filter_map(line).collect()
    }

    fn draw_x_axis(&self, mut group: Group, frame: &Frame) -> Group {
        let names = matches!(self.x.scale, Scale::Names(_));
        let ticks = self.x_ticks(frame);
        let room = frame.width() / ticks.len().max(1) as f64 - 6.0;
        for (value, text) in &ticks {
            let (at, _) = frame.at((*value, frame.y.low));
            if !names {
                group = group.add(rule_line(at, frame.top, at, frame.bottom, GRID, 1.0));
                group = group.add(rule_line(at, frame.bottom, at, frame.bottom + 5.0, AXIS, 1.0));
            }
            let text = if names { TICK.fit(text, room) } else { text.clone() };
            group = group.add(TICK.draw(&text, at, frame.bottom + 19.0, Anchor::Middle));
        }
        group = group.add(rule_line(frame.left, frame.bottom, frame.right, frame.bottom, AXIS, 1.25));
        let middle = (frame.left + frame.right) / 2.0;
        group.add(CAPTION.draw(&self.x.label, middle, frame.bottom + 39.0, Anchor::Middle))
    }

    /// As many ticks as stand side by side without touching.
    fn x_ticks(&self, frame: &Frame) -> Vec<(f64, String)> {
        let edges = |(value, text): &(f64, String)| {
            let (at, half) = (frame.x.place(*value) * frame.width(), TICK.width(text) / 2.0);
            (at - half, at + half)
        };
        let apart = |ticks: &[(f64, String)]| ticks.windows(2).all(|pair| edges(&pair[0]).1 + 8.0 < edges(&pair[1]).0);
        let most = (frame.width() / 40.0).max(2.0) as usize;
        let few = self.x.ticks(frame.x, 2);
        (3..=most).rev().map(|count| self.x.ticks(frame.x, count)).find(|ticks| apart(ticks)).unwrap_or(few)
    }

    /// The data, clipped to the frame by an inner picture of its size.
    fn draw_marks(&self, frame: &Frame) -> SVG {
        let (x, y) = (frame.left - BLEED, frame.top - BLEED);
        let mut inner = SVG::new()
            .set("x", px(x))
            .set("y", px(y))
            .set("width", px(frame.width() + 2.0 * BLEED))
            .set("height", px(frame.height() + 2.0 * BLEED));
        // Relative to the inner picture.
        let local =
            Frame { left: BLEED, top: BLEED, right: BLEED + frame.width(), bottom: BLEED + frame.height(), ..*frame };
        let series: Vec<&Mark> = self.marks.iter().filter(|mark| matches!(mark.shape, Shape::Bars(_))).collect();
        let grouped = matches!(self.x.scale, Scale::Names(_));
        for (index, mark) in series.iter().enumerate() {
            let Shape::Bars(bars) = &mark.shape else {
                continue;
            };
            let slot = if grouped { (index, series.len()) } else { (0, 1) };
            let opacity = if !grouped && series.len() > 1 { 0.55 } else { 1.0 };
            inner = inner.add(draw_bars(bars, mark.color, opacity, slot, self, &local));
        }
        for mark in &self.marks {
            match &mark.shape {
                Shape::Line(points) => inner = inner.add(draw_line(points, mark.color, false, self, &local)),
                Shape::Step(points) => inner = inner.add(draw_line(points, mark.color, true, self, &local)),
                Shape::Dots(points) => inner = inner.add(draw_dots(points, mark.color, self, &local)),
                Shape::Bars(_) => {}
            }
        }
        inner
    }

    /// The points the axes can show, on the page; `None` is a gap.
    fn places<'a>(&'a self, points: &'a [(f64, f64)], frame: &'a Frame) -> impl Iterator<Item = Option<(f64, f64)>> {
        points.iter().map(|(x, y)| (self.x.shows(*x) && self.y.shows(*y)).then(|| frame.at((*x, *y))))
    }
}

fn rule_line(x1: f64, y1: f64, x2: f64, y2: f64, color: Color, width: f64) -> Line {
    Line::new()
        .set("x1", px(x1))
        .set("y1", px(y1))
        .set("x2", px(x2))
        .set("y2", px(y2))
        .set("stroke", color.to_string())
        .set("stroke-width", width)
}

fn draw_line(points: &[(f64, f64)], color: Color, steps: bool, panel: &Panel, frame: &Frame) -> Path {
    let mut data = String::new();
    let mut drawn = false;
    // Writing to a string cannot fail.
    for (point, place) in points.iter().zip(panel.places(points, frame)) {
        let _ = match place.map(|(x, y)| (px(x), px(y))) {
            Some((x, y)) if !drawn => write!(data, "M{x} {y}"),
            Some((x, y)) if steps => write!(data, "H{x}V{y}"),
            Some((x, y)) => write!(data, "L{x} {y}"),
            // The value before a gap holds until it.
            None if drawn && steps && panel.x.shows(point.0) => {
                write!(data, "H{}", px(frame.at((point.0, frame.y.low)).0))
            }
            None => Ok(()),
        };
        drawn = place.is_some();
    }
    Path::new()
        .set("d", data)
        .set("fill", "none")
        .set("stroke", color.to_string())
        .set("stroke-width", 2.25)
        .set("stroke-linejoin", "round")
        .set("stroke-linecap", "round")
}

fn draw_dots(points: &[(f64, f64)], color: Color, panel: &Panel, frame: &Frame) -> Group {
    let opacity = match points.len() {
        0..=20 => 1.0,
        21..=200 => 0.8,
        _ => 0.45,
    };
    let mut group = Group::new().set("fill", color.to_string()).set("fill-opacity", opacity);
    let radius = if points.len() > 1_000 { 1.75 } else { 3.0 };
    for (x, y) in panel.places(points, frame).flatten() {
        group = group.add(Circle::new().set("cx", px(x)).set("cy", px(y)).set("r", radius));
    }
    group
}

/// Bars; `slot` is the place of this series among those that share each place of the axis.
fn draw_bars(bars: &[Bar], color: Color, opacity: f64, slot: (usize, usize), panel: &Panel, frame: &Frame) -> Group {
    let mut group = Group::new().set("fill", color.to_string()).set("fill-opacity", opacity);
    let share = |bar: &Bar, i: usize| bar.from + (bar.to - bar.from) * i as f64 / slot.1 as f64;
    for bar in bars {
        let (from, to) = (share(bar, slot.0), share(bar, slot.0 + 1));
        if !(panel.x.shows(from) && panel.x.shows(to) && panel.y.shows(bar.value)) || bar.value == 0.0 {
            continue;
        }
        let (left, base) = frame.at((from, frame.y.base()));
        let (right, end) = frame.at((to, bar.value));
        // A hair of ground between neighbours.
        let gap = if right - left > 4.0 { 0.5 } else { 0.0 };
        group = group.add(
            Rectangle::new()
                .set("x", px(left + gap))
                .set("y", px(base.min(end)))
                .set("width", px((right - left - 2.0 * gap).max(0.25)))
                .set("height", px((base - end).abs())),
        );
    }
    group
}

fn draw_rule(group: Group, rule: &Rule, frame: &Frame, room: &mut Room) -> Group {
    let face = Face::new(NOTE.size, rule.color.for_text());
    let at = if rule.vertical { frame.at((rule.at, frame.y.low)) } else { frame.at((frame.x.low, rule.at)) };
    if !frame.holds(at) {
        return group;
    }
    let place = |x: f64, base: f64, anchor| Place { x, base, anchor };
    let (line, places) = if rule.vertical {
        let top = frame.top + 12.0;
        let places = [place(at.0 + 6.0, top, Anchor::Start), place(at.0 - 6.0, top, Anchor::End)];
        (rule_line(at.0, frame.top, at.0, frame.bottom, rule.color, 1.5), places.to_vec())
    } else {
        // Above the line, unless that is above the frame.
        let heights = [at.1 - 6.0, at.1 + 15.0].into_iter().filter(|base| base - face.size > frame.top);
        let sides = [(frame.left + 6.0, Anchor::Start), (frame.right - 6.0, Anchor::End)];
        let places = heights.flat_map(|base| sides.map(|(x, anchor)| place(x, base, anchor)));
        (rule_line(frame.left, at.1, frame.right, at.1, rule.color, 1.5), places.collect())
    };
    let text = room.take(&face, &rule.label, &places).map(|at| halo(face.draw(&rule.label, at.x, at.base, at.anchor)));
    text.into_iter().fold(group.add(line.set("stroke-dasharray", "6 4")), Group::add)
}

fn draw_note(group: Group, note: &Note, frame: &Frame, room: &mut Room) -> Group {
    let (x, y) = frame.at(note.at);
    if !frame.holds((x, y)) {
        return group;
    }
    let dot = Circle::new()
        .set("cx", px(x))
        .set("cy", px(y))
        .set("r", 3.5)
        .set("fill", PAPER.to_string())
        .set("stroke", note.color.to_string())
        .set("stroke-width", 2);
    let face = Face::new(NOTE.size, note.color.for_text());
    let place = |dx: f64, dy: f64, anchor| Place { x: x + dx, base: y + dy, anchor };
    let places = [
        place(-7.0, -7.0, Anchor::End),
        place(0.0, -9.0, Anchor::Middle),
        place(7.0, -7.0, Anchor::Start),
        place(8.0, 4.0, Anchor::Start),
        place(7.0, 16.0, Anchor::Start),
    ];
    let text = room.take(&face, &note.text, &places).map(|at| halo(face.draw(&note.text, at.x, at.base, at.anchor)));
    text.into_iter().fold(group.add(dot), Group::add)
}

/// A text readable across lines: outlined with the ground.
pub(super) fn halo(mut text: Element) -> Element {
    text.assign("stroke", PAPER.to_string());
    text.assign("stroke-width", 4);
    text.assign("stroke-linejoin", "round");
    text.assign("paint-order", "stroke");
    text
}
