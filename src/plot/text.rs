//! Text: how wide it probably is, how it is wrapped, and the SVG element for it.

use svg::node::element::Element;
use svg::node::{Node, Text};

use super::palette::Color;

/// Fonts in order of preference; all are common sans-serif faces of similar width.
pub(super) const FONTS: &str =
    "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Size, colour and weight of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Face {
    pub(super) size: f64,
    pub(super) color: Color,
    pub(super) bold: bool,
}

impl Face {
    pub(super) const fn new(size: f64, color: Color) -> Self {
        Self { size, color, bold: false }
    }

    pub(super) const fn bold(size: f64, color: Color) -> Self {
        Self { size, color, bold: true }
    }

    /// Width of `text`, an estimate on the large side: the reader's font is not known.
    pub(super) fn width(&self, text: &str) -> f64 {
        let em: f64 = text.chars().map(advance).sum();
        em * self.size * if self.bold { 1.08 } else { 1.0 }
    }

    /// `text` on a line whose base is at `y`.
    pub(super) fn draw(&self, text: &str, x: f64, y: f64, anchor: Anchor) -> Element {
        // The library's own text element puts line breaks around its content, which readers may show as spaces.
        let mut element = Element::new("text");
        element.assign("x", px(x));
        element.assign("y", px(y));
        element.assign("font-size", self.size);
        element.assign("fill", self.color.to_string());
        if self.bold {
            element.assign("font-weight", 600);
        }
        match anchor {
            Anchor::Start => {}
            Anchor::Middle => element.assign("text-anchor", "middle"),
            Anchor::End => element.assign("text-anchor", "end"),
        }
        element.append(Text::new(clean(text)));
        element
    }

    /// `text` in lines of at most `width`, broken at spaces.
    pub(super) fn wrap(&self, text: &str, width: f64) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if self.width(line) + self.width(" ") + self.width(word) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }

    /// `text`, cut to `width` with an ellipsis where it is longer.
    pub(super) fn fit(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let room = width - self.width("…");
        let mut used = 0.0;
        let kept: String = text
            .chars()
            .take_while(|c| {
                used += self.width(c.encode_utf8(&mut [0; 4]));
                used <= room
            })
            .collect();
        kept.trim_end().to_owned() + "…"
    }
}

/// Advance of a character in em, between Helvetica's and DejaVu Sans's.
fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '|' | '!' | '.' | ',' | ':' | ';' | '\'' | 'I' => 0.30,
        ' ' | 'f' | 't' | 'r' | '/' | '(' | ')' | '[' | ']' | '-' | '·' => 0.36,
        'm' | 'M' | 'W' | '%' | '@' | '—' | '…' => 0.92,
        'w' | 'A'..='Z' | '&' | '+' | '<' | '>' | '=' | '~' => 0.72,
        c if c.is_ascii() => 0.58,
        // Unknown scripts may be full width.
        c if u32::from(c) >= 0x1100 => 1.0,
        _ => 0.62,
    }
}

/// `text` without the control characters that XML does not allow.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}')).collect()
}

/// A coordinate, rounded to a hundredth of a pixel so that files stay small and equal everywhere.
pub(super) fn px(value: f64) -> f64 {
    // Adding zero turns a negative zero into a positive one.
    (value * 100.0).round() / 100.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::palette::INK;

    const FACE: Face = Face::new(10.0, INK);

    #[test]
    fn long_text_wraps_at_spaces_and_loses_nothing() {
        let text = "one two three four five";
        let lines = FACE.wrap(text, FACE.width("three four"));
        assert_eq!(lines, ["one two", "three four", "five"]);
        assert_eq!(FACE.wrap("unbreakable", 1.0), ["unbreakable"]);
        assert!(FACE.wrap("", 10.0).is_empty());
    }

    #[test]
    fn text_that_does_not_fit_ends_in_an_ellipsis() {
        let cut = FACE.fit("a very long label", 50.0);
        assert!(cut.ends_with('…') && FACE.width(&cut) <= 50.0, "{cut}");
        assert_eq!(FACE.fit("short", 50.0), "short");
    }

    #[test]
    fn markup_is_text_and_control_characters_vanish() {
        let drawn = FACE.draw("a<b>&\u{0}\u{7}'c'", 1.0, 2.0, Anchor::Start).to_string();
        assert!(drawn.contains("a&lt;b&gt;&amp;'c'"), "{drawn}");
    }
}
