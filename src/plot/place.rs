//! Where a text finds room among lines and other texts.

use super::text::{Anchor, Face};

/// A point on the page.
pub(super) type Spot = (f64, f64);

/// A rectangle on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// A place a text may take: `x` and the base of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) x: f64,
    pub(super) base: f64,
    pub(super) anchor: Anchor,
}

/// What texts must keep clear of.
#[derive(Debug)]
pub(super) struct Room {
    /// Texts stay within.
    bounds: Area,
    lines: Vec<Vec<Spot>>,
    taken: Vec<Area>,
}

impl Area {
    /// The box of a text.
    fn of_text(face: &Face, text: &str, place: Place) -> Self {
        let width = face.width(text);
        let left = match place.anchor {
            Anchor::Start => place.x,
            Anchor::Middle => place.x - width / 2.0,
            Anchor::End => place.x - width,
        };
        // Capitals and digits; descenders are rare in names.
        Self { left, right: left + width, top: place.base - 0.8 * face.size, bottom: place.base + 1.0 }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn within(&self, outer: &Self) -> bool {
        self.left >= outer.left && self.right <= outer.right && self.top >= outer.top && self.bottom <= outer.bottom
    }

    /// Whether a line from `a` to `b` passes through (Liang and Barsky's clipping).
    fn is_crossed(&self, a: Spot, b: Spot) -> bool {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let sides = [(-dx, a.0 - self.left), (dx, self.right - a.0), (-dy, a.1 - self.top), (dy, self.bottom - a.1)];
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        for (direction, distance) in sides {
            if direction == 0.0 {
                if distance < 0.0 {
                    return false;
                }
            } else if direction < 0.0 {
                enter = enter.max(distance / direction);
            } else {
                leave = leave.min(distance / direction);
            }
        }
        enter <= leave
    }
}

impl Room {
    /// Room within `bounds` among `lines`.
    pub(super) fn new(bounds: Area, lines: Vec<Vec<Spot>>) -> Self {
        Self { bounds, lines, taken: vec![] }
    }

    /// Takes the first of `places` where `text` meets nothing, else the one where it meets least. Without places, none.
    pub(super) fn take(&mut self, face: &Face, text: &str, places: &[Place]) -> Option<Place> {
        let area = |place: &Place| Area::of_text(face, text, *place);
        let place = *places.iter().min_by_key(|place| self.conflicts(&area(place)))?;
        self.taken.push(area(&place));
        Some(place)
    }

    fn conflicts(&self, area: &Area) -> usize {
        let crossings = self.lines.iter().filter(|line| line.windows(2).any(|pair| area.is_crossed(pair[0], pair[1])));
        let texts = self.taken.iter().filter(|other| area.overlaps(other));
        // Another text is worse than a line, the outside worse than both.
        crossings.count() + 10 * texts.count() + if area.within(&self.bounds) { 0 } else { 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::palette::INK;

    const FACE: Face = Face::new(10.0, INK);
    const PAGE: Area = Area { left: 0.0, top: 0.0, right: 200.0, bottom: 100.0 };

    #[test]
    fn a_line_through_a_box_is_seen_even_with_both_ends_outside() {
        let area = Area { left: 10.0, top: 10.0, right: 20.0, bottom: 20.0 };
        for (a, b, crosses) in [
            ((0.0, 15.0), (30.0, 15.0), true),
            ((0.0, 0.0), (30.0, 30.0), true),
            ((15.0, 12.0), (16.0, 13.0), true),
            ((0.0, 15.0), (9.0, 15.0), false),
            ((0.0, 12.0), (12.0, 0.0), false),
            ((25.0, 0.0), (25.0, 30.0), false),
        ] {
            assert_eq!(area.is_crossed(a, b), crosses, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_text_moves_away_from_lines_texts_and_the_edge() {
        let at = |x: f64, base: f64| Place { x, base, anchor: Anchor::Start };
        let mut room = Room::new(PAGE, vec![vec![(0.0, 50.0), (200.0, 50.0)]]);
        let free = room.take(&FACE, "ab", &[at(195.0, 20.0), at(50.0, 53.0), at(50.0, 30.0)]);
        assert_eq!(free, Some(at(50.0, 30.0)));
        // The same place is taken now; a line is the lesser evil.
        assert_eq!(room.take(&FACE, "ab", &[at(50.0, 30.0), at(50.0, 53.0)]), Some(at(50.0, 53.0)));
        assert_eq!(room.take(&FACE, "ab", &[]), None);
    }
}
