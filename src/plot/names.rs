//! The names of series: a legend above the chart, or at the ends of the lines.

use svg::node::element::{Group, Line, Rectangle};

use super::draw::{Frame, halo};
use super::palette::{AXIS, INK, MUTED};
use super::panel::{Mark, Names, Panel, Shape};
use super::place::{Place, Room};
use super::text::{Anchor, Face, px};

const ENTRY: Face = Face::new(12.5, INK);
const END: Face = Face::bold(12.5, INK);
const HEADING: Face = Face::new(12.0, MUTED);
/// Height of a row of the legend, and least distance of names at line ends.
const ROW: f64 = 20.0;
const LINE_GAP: f64 = 16.0;
const SWATCH: f64 = 16.0;

/// A legend laid out for a width.
pub(super) struct Legend<'a> {
    /// Entry, horizontal offset, row.
    entries: Vec<(&'a Mark, f64, usize)>,
    rows: usize,
}

impl<'a> Legend<'a> {
    /// The legend of a panel: empty when the names stand at the lines or there are none.
    pub(super) fn of(panel: &'a Panel, width: f64) -> Self {
        let mut legend = Self { entries: vec![], rows: 0 };
        if panel.names != Names::Legend {
            return legend;
        }
        let mut x = 0.0;
        for mark in panel.marks.iter().filter(|mark| !mark.name.is_empty()) {
            let needs = SWATCH + 6.0 + ENTRY.width(&mark.name);
            if legend.rows == 0 || (x > 0.0 && x + needs > width) {
                legend.rows += 1;
                x = 0.0;
            }
            legend.entries.push((mark, x, legend.rows - 1));
            x += needs + 18.0;
        }
        legend
    }

    pub(super) fn height(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.rows as f64 * ROW + 6.0 }
    }

    pub(super) fn draw(&self, x: f64, y: f64) -> Group {
        let mut group = Group::new();
        for (mark, offset, row) in &self.entries {
            let (left, middle) = (x + offset, y + ROW * *row as f64 + 4.0);
            let filled = matches!(mark.shape, Shape::Bars(_) | Shape::Dots(_));
            let (height, width) = if filled { (10.0, 10.0) } else { (3.0, SWATCH) };
            let swatch = Rectangle::new()
                .set("x", px(left + (SWATCH - width) / 2.0))
                .set("y", px(middle - height / 2.0))
                .set("width", width)
                .set("height", height)
                .set("rx", if matches!(mark.shape, Shape::Dots(_)) { 5.0 } else { 1.5 })
                .set("fill", mark.color.to_string());
            group = group.add(swatch).add(ENTRY.draw(&mark.name, left + SWATCH + 6.0, middle + 4.5, Anchor::Start));
        }
        group
    }
}

/// Room right of the frame for names at line ends; 0 for a legend.
pub(super) fn end_width(panel: &Panel) -> f64 {
    let Names::AtEnds { heading } = &panel.names else {
        return 0.0;
    };
    let widest = panel.marks.iter().map(|mark| END.width(&mark.name)).fold(HEADING.width(heading), f64::max);
    widest + 10.0
}

/// A name waiting for its place.
struct End<'a> {
    mark: &'a Mark,
    x: f64,
    /// Height of the line's end.
    y: f64,
    /// Height of the name, after others have made room.
    placed: f64,
}

/// Draws the names at line ends, moved apart where they would overlap.
pub(super) fn draw_ends(mut group: Group, panel: &Panel, frame: &Frame, room: &mut Room) -> Group {
    let Names::AtEnds { heading } = &panel.names else {
        return group;
    };
    let mut ends: Vec<End<'_>> = panel.marks.iter().filter_map(|mark| end_of(mark, panel, frame)).collect();
    spread(&mut ends, frame);
    for (index, end) in ends.iter().enumerate() {
        let right = Place { x: end.x + 9.0, base: end.placed + 4.5, anchor: Anchor::Start };
        let mut places = vec![right];
        if (end.placed - end.y).abs() > 3.0 {
            // A thin lead from the line to its name.
            let lead = Line::new()
                .set("x1", px(end.x + 2.0))
                .set("y1", px(end.y))
                .set("x2", px(end.x + 7.0))
                .set("y2", px(end.placed))
                .set("stroke", AXIS.to_string());
            group = group.add(lead);
        } else if index > 0 {
            // The first stays beside its line, under the heading.
            places.push(Place { x: end.x, base: end.y - 9.0, anchor: Anchor::Middle });
            places.push(Place { x: end.x - 9.0, base: end.y + 4.5, anchor: Anchor::End });
        }
        let face = Face::bold(END.size, end.mark.color.for_text());
        if let Some(place) = room.take(&face, &end.mark.name, &places) {
            group = group.add(halo(face.draw(&end.mark.name, place.x, place.base, place.anchor)));
        }
    }
    if let Some(top) = ends.first().filter(|_| !heading.is_empty()) {
        let place = Place { x: top.x + 9.0, base: top.placed - 12.0, anchor: Anchor::Start };
        if let Some(place) = room.take(&HEADING, heading, &[place]) {
            group = group.add(halo(HEADING.draw(heading, place.x, place.base, place.anchor)));
        }
    }
    group
}

/// Where a line ends within the frame.
fn end_of<'a>(mark: &'a Mark, panel: &Panel, frame: &Frame) -> Option<End<'a>> {
    let points = match &mark.shape {
        Shape::Line(points) | Shape::Step(points) => points,
        Shape::Dots(_) | Shape::Bars(_) => return None,
    };
    let shown = |(x, y): &&(f64, f64)| panel.x.shows(*x) && panel.y.shows(*y) && frame.holds(frame.at((*x, *y)));
    let (x, y) = frame.at(*points.iter().rev().find(shown)?);
    (!mark.name.is_empty()).then_some(End { mark, x, y, placed: y })
}

/// Moves names apart: first down from the top, then up again from the bottom edge.
fn spread(ends: &mut [End<'_>], frame: &Frame) {
    ends.sort_by(|a, b| a.y.total_cmp(&b.y));
    let overlap = |a: &End<'_>, b: &End<'_>| {
        let (left, right) = if a.x <= b.x { (a, b) } else { (b, a) };
        right.x < left.x + END.width(&left.mark.name) + 12.0
    };
    for i in 1..ends.len() {
        let above = ends[..i].iter().filter(|other| overlap(other, &ends[i])).map(|other| other.placed + LINE_GAP);
        ends[i].placed = above.fold(ends[i].placed, f64::max);
    }
    let mut floor = frame.bottom - 4.0;
    for i in (0..ends.len()).rev() {
        if ends[i].placed > floor {
            ends[i].placed = floor;
            floor -= LINE_GAP;
        }
    }
}
