//! Colours of charts on paper: the hues and meanings of the viewer, tuned to be read on a light ground.
//!
//! The base is Okabe and Ito's palette, which stays apart under the common colour-vision deficiencies. Sky blue, orange
//! and yellow are too pale for a line on paper; here they are darkened at the same hue, so that every line has a
//! contrast of at least 3 to 1 against [`PAPER`], and every text at least 4.5 to 1 (WCAG 2.2).

use std::fmt;

/// An opaque sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Color {
    r: u8,
    g: u8,
    b: u8,
}

/// Ground of every figure.
pub const PAPER: Color = Color::hex(0xFA_FAF7);
/// Titles and other main text.
pub const INK: Color = Color::hex(0x1D_2026);
/// Text that explains.
pub const MUTED: Color = Color::hex(0x5C_616B);
/// Grid lines.
pub const GRID: Color = Color::hex(0xE4_E2DA);
/// Axis lines and tick marks.
pub const AXIS: Color = Color::hex(0xA9_A79E);
/// Prefill.
pub const PREFILL: Color = Color::hex(0x2B_8CC9);
/// Decode.
pub const DECODE: Color = Color::hex(0xC4_7F00);
/// KV transfer.
pub const TRANSFER: Color = Color::hex(0x00_9469);
/// Waiting.
pub const WAITING: Color = Color::hex(0x86_8686);
/// A missed SLA; also the limit itself.
pub const MISSED: Color = Color::hex(0xD5_5E00);
/// What the planner did.
pub const PLANNER: Color = Color::hex(0xB8_5C93);
/// Cached KV.
pub const CACHED: Color = Color::hex(0x00_72B2);

/// Order in which things without a meaning of their own (runs, models, files) get colours.
const CATEGORIES: [Color; 7] = [CACHED, DECODE, TRANSFER, MISSED, PLANNER, PREFILL, WAITING];

impl Color {
    /// A colour from `0xRRGGBB`.
    pub const fn hex(rgb: u32) -> Self {
        let [_, r, g, b] = rgb.to_be_bytes();
        Self { r, g, b }
    }

    /// Colour of the `index`-th of several equal things; after seven the colours repeat.
    pub const fn category(index: usize) -> Self {
        CATEGORIES[index % CATEGORIES.len()]
    }

    /// `count` shades, from this colour to a dark one, for lines ordered by a quantity (context, prefix, batch).
    ///
    /// ```
    /// use dynosim::plot::palette::DECODE;
    /// assert_eq!(DECODE.ramp(4)[0], DECODE);
    /// ```
    pub fn ramp(self, count: usize) -> Vec<Self> {
        let dark = self.mix(INK, 0.75);
        let last = count.saturating_sub(1).max(1);
        (0..count).map(|i| self.mix(dark, i as f64 / last as f64)).collect()
    }

    /// This colour with the share `t` of `other` in it.
    pub fn mix(self, other: Self, t: f64) -> Self {
        let channel = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
        Self { r: channel(self.r, other.r), g: channel(self.g, other.g), b: channel(self.b, other.b) }
    }

    /// The same hue, as dark as text on paper needs.
    pub fn for_text(self) -> Self {
        (0..10).map(|step| self.mix(INK, f64::from(step) / 10.0)).find(|c| c.contrast(PAPER) >= 4.5).unwrap_or(INK)
    }

    /// Contrast ratio of two colours, 1 to 21, as WCAG 2.2 defines it.
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let v = f64::from(channel) / 255.0;
            if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.r) + 0.7152 * linear(self.g) + 0.0722 * linear(self.b)
    }
}

impl fmt::Display for Color {
    /// `#rrggbb`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.r, self.g, self.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_texts_are_readable_on_paper() {
        for color in CATEGORIES {
            assert!(color.contrast(PAPER) >= 3.0, "{color}: {}", color.contrast(PAPER));
            assert!(color.for_text().contrast(PAPER) >= 4.5, "{color}");
        }
        assert!(MUTED.contrast(PAPER) >= 4.5 && INK.contrast(PAPER) >= 7.0);
        let white = Color::hex(0xFF_FFFF);
        assert!((white.contrast(Color::hex(0)) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn a_ramp_darkens_in_steps_that_can_be_told_apart() {
        for base in [PREFILL, DECODE] {
            let ramp = base.ramp(5);
            assert!(ramp.windows(2).all(|w| w[0].luminance() > 1.15 * w[1].luminance()), "{ramp:?}");
        }
        assert!(PREFILL.ramp(0).is_empty());
    }
}
