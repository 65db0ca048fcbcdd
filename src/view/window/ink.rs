//! Draws many small flat shapes cheaply: they are gathered in one mesh, in the order in which they are drawn, and what the
//! pointer is over is found on the way.

use bevy_egui::egui::{Align2, Color32, FontId, Mesh, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, pos2, vec2};

use super::state::Target;

/// A pen over a part of the screen.
pub struct Ink<'a> {
    painter: &'a Painter,
    mesh: Mesh,
    pointer: Option<Pos2>,
    under: Option<Target>,
    opacity: f32,
}

/// Shapes that tell phases apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyph {
    /// Filled from below.
    Square,
    /// Filled from below.
    Disc,
    /// Standing on a corner.
    Diamond,
    /// Pointing up.
    Triangle,
}

impl<'a> Ink<'a> {
    /// A pen for `painter`; `pointer` is where the mouse is, if it is over this part of the screen.
    pub fn new(painter: &'a Painter, pointer: Option<Pos2>) -> Self {
        Self { painter, mesh: Mesh::default(), pointer, under: None, opacity: 1.0 }
    }

    /// Everything after this is drawn at `opacity`, 0 to 1.
    pub fn set_opacity(&mut self, opacity: f32) {
        self.opacity = opacity;
    }

    /// Ends drawing; what the pointer is over.
    pub fn finish(mut self) -> Option<Target> {
        self.flush();
        self.under
    }

    /// What egui offers beyond this pen. What was drawn so far lies below.
    pub fn painter(&mut self) -> &Painter {
        self.flush();
        self.painter
    }

    /// The part of the screen.
    pub fn clip(&self) -> Rect {
        self.painter.clip_rect()
    }

    /// Whether any of `rect` can be seen.
    pub fn sees(&self, rect: Rect) -> bool {
        self.clip().intersects(rect)
    }

    fn flush(&mut self) {
        if !self.mesh.is_empty() {
            self.painter.add(Shape::mesh(std::mem::take(&mut self.mesh)));
        }
    }

    fn shade(&self, color: Color32) -> Color32 {
        if self.opacity < 1.0 { color.gamma_multiply(self.opacity) } else { color }
    }

    /// Says that `rect` shows `target`.
    pub fn touch(&mut self, rect: Rect, target: Target) {
        if self.pointer.is_some_and(|at| rect.contains(at)) {
            self.under = Some(target);
        }
    }

    /// `rect` with its edges on whole pixels.
    pub fn snap(&self, rect: Rect) -> Rect {
        let scale = self.painter.pixels_per_point();
        let on = |x: f32| (x * scale).round() / scale;
        Rect::from_min_max(pos2(on(rect.min.x), on(rect.min.y)), pos2(on(rect.max.x), on(rect.max.y)))
    }

    /// A flat rectangle with sharp edges on whole pixels.
    pub fn rect(&mut self, rect: Rect, color: Color32) {
        let (rect, color) = (self.snap(rect), self.shade(color));
        if rect.width() > 0.0 && rect.height() > 0.0 {
            self.mesh.add_colored_rect(rect, color);
        }
    }

    /// A rectangle with round corners.
    pub fn round(&mut self, rect: Rect, radius: f32, color: Color32) {
        let color = self.shade(color);
        self.painter().rect_filled(rect, radius, color);
    }

    /// The outline of a rectangle with round corners, inside of it.
    pub fn outline(&mut self, rect: Rect, radius: f32, width: f32, color: Color32) {
        let stroke = Stroke::new(width, self.shade(color));
        self.painter().rect_stroke(rect, radius, stroke, StrokeKind::Inside);
    }

    /// A line through points.
    pub fn line(&mut self, points: Vec<Pos2>, width: f32, color: Color32) {
        let stroke = Stroke::new(width, self.shade(color));
        self.painter().line(points, stroke);
    }

    /// A disc.
    pub fn disc(&mut self, center: Pos2, radius: f32, color: Color32) {
        let color = self.shade(color);
        self.painter().circle_filled(center, radius, color);
    }

    /// One line of lettering; where it landed.
    pub fn text(&mut self, at: Pos2, align: Align2, size: f32, color: Color32, text: &str) -> Rect {
        let color = self.shade(color);
        // Few sizes, so that zooming does not fill the font atlas.
        self.painter().text(at, align, text, FontId::proportional((size * 2.0).round() / 2.0), color)
    }

    /// One line of lettering, cut with an ellipsis where it is wider than `width`; how wide it is.
    pub fn text_within(&mut self, at: Pos2, align: Align2, size: f32, color: Color32, text: &str, width: f32) -> f32 {
        let font = FontId::proportional((size * 2.0).round() / 2.0);
        let measure = |text: String| self.painter.layout_no_wrap(text, font.clone(), color);
        let mut galley = measure(text.to_owned());
        if galley.size().x > width {
            let mut chars: Vec<char> = text.chars().collect();
            // Proportional first guess, then one by one.
            let keep = (chars.len() as f32 * width / galley.size().x).ceil() as usize;
            chars.truncate(keep);
            while galley.size().x > width && !chars.is_empty() {
                chars.pop();
                galley = measure(chars.iter().collect::<String>().trim_end().to_owned() + "…");
            }
            if chars.is_empty() {
                return 0.0;
            }
        }
        let (color, rect) = (self.shade(color), align.anchor_size(at, galley.size()));
        self.painter().galley_with_override_text_color(rect.min, galley, color);
        rect.width()
    }

    /// A glyph in a square of `size`: the part up to `fill` (0 to 1, from below) in `color`, the rest in `rest`.
    pub fn glyph(&mut self, glyph: Glyph, min: Pos2, size: f32, fill: f32, color: Color32, rest: Color32) {
        let rect = self.snap(Rect::from_min_size(min, vec2(size, size)));
        let level = rect.max.y - rect.height() * fill.clamp(0.0, 1.0);
        if glyph == Glyph::Square {
            self.rect(Rect::from_min_max(rect.min, pos2(rect.max.x, level)), rest);
            self.rect(Rect::from_min_max(pos2(rect.min.x, level), rect.max), color);
            return;
        }
        let corners = corners(glyph, rect);
        if fill < 1.0 {
            self.polygon(&corners, rest);
        }
        if fill > 0.0 {
            self.polygon(&below(&corners, level), color);
        }
    }

    /// A convex polygon without smoothed edges.
    pub fn polygon(&mut self, points: &[Pos2], color: Color32) {
        let color = self.shade(color);
        let first = self.mesh.vertices.len() as u32;
        for &point in points {
            self.mesh.colored_vertex(point, color);
        }
        for i in 2..points.len() as u32 {
            self.mesh.add_triangle(first, first + i - 1, first + i);
        }
    }
}

fn corners(glyph: Glyph, rect: Rect) -> Vec<Pos2> {
    let (c, r) = (rect.center(), rect.width() / 2.0);
    let around = |n: usize, turn: f32| {
        (0..n).map(move |i| {
            let angle = (i as f32 + turn) * std::f32::consts::TAU / n as f32;
            c + vec2(angle.cos(), angle.sin()) * r
        })
    };
    match glyph {
        Glyph::Square => vec![rect.left_top(), rect.right_top(), rect.right_bottom(), rect.left_bottom()],
        Glyph::Disc => around(12, 0.5).collect(),
        Glyph::Diamond => around(4, 0.0).collect(),
        Glyph::Triangle => vec![rect.center_top(), rect.right_bottom(), rect.left_bottom()],
    }
}

/// The part of a convex polygon below a level (larger y).
fn below(points: &[Pos2], level: f32) -> Vec<Pos2> {
    let mut kept = Vec::with_capacity(points.len() + 2);
    for (i, &a) in points.iter().enumerate() {
        let b = points[(i + 1) % points.len()];
        if a.y >= level {
            kept.push(a);
        }
        if (a.y >= level) != (b.y >= level) {
            let share = (level - a.y) / (b.y - a.y);
            kept.push(a + (b - a) * share);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_square_lies_below_its_middle() {
        let square = corners(Glyph::Square, Rect::from_min_max(pos2(0.0, 0.0), pos2(2.0, 2.0)));
        let half = below(&square, 1.0);
        assert_eq!(half.len(), 4);
        assert!(half.iter().all(|p| p.y >= 1.0));
    }
}
