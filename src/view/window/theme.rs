//! Colours, in a dark and a light set, told apart by colour-blind people too (after Okabe and Ito).

use bevy_egui::egui::epaint::FontColorTransferFunction;
use bevy_egui::egui::{self, Color32};

/// Which set of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Light on dark.
    #[default]
    Dark,
    /// Dark on light.
    Light,
}

impl Mode {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Dark => Self::Light,
            Self::Light => Self::Dark,
        }
    }
}

/// Colours by meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Theme {
    /// Which set this is.
    pub mode: Mode,
    /// Behind everything.
    pub background: Color32,
    /// Panels at the edges.
    pub panel: Color32,
    /// Frames of pools.
    pub pool: Color32,
    /// Worker cards.
    pub card: Color32,
    /// Outlines and empty tracks.
    pub line: Color32,
    /// Main lettering.
    pub text: Color32,
    /// Units and less important lettering.
    pub dim: Color32,
    /// Buttons and the playhead.
    pub accent: Color32,
    /// Prompt being computed.
    pub prefill: Color32,
    /// Tokens being emitted.
    pub decode: Color32,
    /// KV on its way, and what is held or reserved for it.
    pub transfer: Color32,
    /// Waiting requests.
    pub waiting: Color32,
    /// Over the SLA.
    pub missed: Color32,
    /// What the user picked.
    pub selected: Color32,
    /// Decisions of the planner.
    pub planner: Color32,
    /// KV kept for reuse.
    pub cached: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

impl Theme {
    /// The set of a mode.
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Dark => Self {
                mode,
                background: rgb(0x14161b),
                panel: rgb(0x1a1d23),
                pool: rgb(0x191c22),
                card: rgb(0x22262e),
                line: rgb(0x363c47),
                text: rgb(0xe8eaee),
                dim: rgb(0x9ba3af),
                accent: rgb(0xe8eaee),
                prefill: rgb(0x56b4e9),
                decode: rgb(0xe69f00),
                transfer: rgb(0x1fb58a),
                waiting: rgb(0x999999),
                missed: rgb(0xe8641b),
                selected: rgb(0xf0e442),
                planner: rgb(0xd98bb4),
                cached: rgb(0x24587f),
            },
            Mode::Light => Self {
                mode,
                background: rgb(0xf4f4f0),
                panel: rgb(0xfafaf7),
                pool: rgb(0xecece7),
                card: rgb(0xffffff),
                line: rgb(0xd3d4cf),
                text: rgb(0x1c1f25),
                dim: rgb(0x62676f),
                accent: rgb(0x1c1f25),
                prefill: rgb(0x2f94d0),
                decode: rgb(0xdb9200),
                transfer: rgb(0x00875f),
                waiting: rgb(0x85878a),
                missed: rgb(0xcb4f00),
                selected: rgb(0xb89b00),
                planner: rgb(0xb04f87),
                cached: rgb(0x8fbbd9),
            },
        }
    }

    /// Makes egui's own widgets fit in.
    pub fn apply(&self, ctx: &egui::Context) {
        let mut visuals = match self.mode {
            Mode::Dark => egui::Visuals::dark(),
            Mode::Light => egui::Visuals::light(),
        };
        visuals.panel_fill = self.panel;
        visuals.window_fill = self.panel;
        visuals.extreme_bg_color = self.background;
        visuals.override_text_color = Some(self.text);
        visuals.selection.bg_fill = mix(self.panel, self.prefill, 0.5);
        visuals.window_stroke = egui::Stroke::new(1.0, self.line);
        visuals.widgets.noninteractive.bg_stroke = egui::Stroke::new(1.0, self.line);
        visuals.interact_cursor = Some(egui::CursorIcon::PointingHand);
        // The renderer blends in linear light, in which dark letters on a light ground turn out too thin.
        if self.mode == Mode::Light {
            visuals.text_options.color_transfer_function = FontColorTransferFunction::Gamma(0.55);
        }
        ctx.set_visuals(visuals);
        ctx.all_styles_mut(|style| style.spacing.scroll.fade.strength = 0.0);
    }
}

/// `share` of the way from `a` to `b`, 0 to 1.
pub fn mix(a: Color32, b: Color32, share: f32) -> Color32 {
    let part = |x: u8, y: u8| (f32::from(x) + (f32::from(y) - f32::from(x)) * share.clamp(0.0, 1.0)).round() as u8;
    Color32::from_rgb(part(a.r(), b.r()), part(a.g(), b.g()), part(a.b(), b.b()))
}

/// `color` at `share` of its strength.
pub fn fade(color: Color32, share: f32) -> Color32 {
    color.gamma_multiply(share.clamp(0.0, 1.0))
}
