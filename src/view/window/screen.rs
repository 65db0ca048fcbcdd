//! The whole screen: panels around the scene, and what mouse and wheel do in it.

use bevy_egui::egui::{self, Rect, Sense, Ui};

use super::history::History;
use super::layout::{CARD, Layout, Slots};
use super::panels::{self, Desk, Wishes};
use super::scene::{self, Detail, Scene};
use super::state::{Camera, Target, ViewState};
use crate::view::player::Speed;

/// What the screen remembers from frame to frame.
#[derive(Debug, Default)]
pub struct Stage {
    /// Places of workers.
    pub slots: Slots,
    /// Their last minute.
    pub history: History,
    /// The layout that was drawn last.
    pub layout: Option<Layout>,
    /// Where the scene was drawn last.
    pub scene: Option<Rect>,
}

/// How much nearer a double click goes, as width of a card on the screen.
const NEAR: f32 = 420.0;

/// Time in which one level of detail fades into the next, seconds.
const FADE: f32 = 0.15;

/// Levels of detail for cards of that width on the screen; at rest it is one.
fn details(ctx: &egui::Context, width: f32) -> [(Detail, f32); 2] {
    let detail = Detail::at(width);
    let fade = |name: &str, on| ctx.animate_bool_with_time(egui::Id::new(name), on, FADE);
    let card = fade("detail-card", detail == Detail::Card);
    let strip = fade("detail-strip", detail != Detail::Tile);
    if strip < 1.0 {
        [(Detail::Strip, strip), (Detail::Tile, 1.0 - strip)]
    } else {
        [(Detail::Card, card), (Detail::Strip, 1.0 - card)]
    }
}

/// Draws everything; gives what the user asks for.
pub fn show(ui: &mut Ui, desk: &Desk<'_>, view: &mut ViewState, stage: &mut Stage) -> Wishes {
    let mut wishes = Wishes::default();
    let rect = panels::show(ui, desk, view, &mut wishes);
    stage.slots.update(desk.frame);
    stage.history.update(desk.frame);
    let decides = !desk.track.markers.is_empty() || !desk.frame.notes.is_empty();
    let layout = Layout::of(desk.frame, &stage.slots, rect.size(), decides);

    let response = ui.interact(rect, egui::Id::new("scene"), Sense::click_and_drag());
    let mut camera = view.camera_over(layout.bounds, rect);
    let before = camera;
    if response.dragged() {
        camera.pan(response.drag_delta());
    }
    if let Some(at) = response.hover_pos() {
        let (wheel, pinch) = ui.input(|i| (i.smooth_scroll_delta().y, i.zoom_delta()));
        let factor = (wheel * 0.004).exp() * pinch;
        if (factor - 1.0).abs() > 1e-4 {
            camera.zoom_at(at, factor, rect);
        }
    }
    if camera != before {
        view.camera = Some(camera);
    }
    let pointer = response.hover_pos();
    let speed = match desk.speed {
        // Time that stands still shows hops as if it went on slowly.
        _ if !desk.playing => 1.0,
        Speed::Times(times) => times,
        Speed::Full => f64::INFINITY,
    };
    let scene = Scene {
        frame: desk.frame,
        layout: &layout,
        history: &stage.history,
        view,
        speed,
        theme: desk.theme,
        screen: rect,
        camera,
        details: details(ui.ctx(), CARD.x * camera.zoom),
    };
    let hovered = scene::draw(&scene, ui.painter(), pointer);
    view.hovered = hovered;
    if response.clicked() {
        wishes.select = Some(hovered);
    }
    if response.double_clicked()
        && let Some(Target::Worker(name)) = hovered
        && let Some(place) = layout.worker(name)
    {
        view.camera = Some(Camera { center: place.center(), zoom: NEAR / place.width() });
    }
    panels::overlays(ui.ctx(), desk, view, pointer);
    (stage.layout, stage.scene) = (Some(layout), Some(rect));
    wishes
}
