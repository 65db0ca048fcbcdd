//! The whole screen, drawn by egui alone: no driver, no window, no run.

use bevy_egui::egui::{self, Pos2, RawInput, Rect, vec2};
use dynosim::scenario::Role;
use dynosim::time::{SimDuration, SimTime};
use dynosim::view::frame::FrameModel;
use dynosim::view::player::{Progress, Speed};
use dynosim::view::track::Track;
use dynosim::view::window::panels::{Desk, Facts};
use dynosim::view::window::screen::{self, Stage};
use dynosim::view::window::state::{Target, ViewState};
use dynosim::view::window::theme::Theme;

use crate::frames;

/// Draws a frame; how many vertices that took.
fn paint(frame: &FrameModel, view: &mut ViewState, pointer: Option<Pos2>) -> usize {
    let ctx = egui::Context::default();
    let theme = Theme::of(view.mode);
    let track = Track {
        width: SimDuration::from_nanos(1_000_000_000),
        reached: frame.at,
        end: Some(frame.at),
        ..Track::default()
    };
    let facts = Facts::of(&serde_json::json!({"seed": 7, "num-workers": 8, "extra-engine-args": {"block_size": 64}}));
    let mut stage = Stage::default();
    let mut vertices = 0;
    for _ in 0..2 {
        let mut input =
            RawInput { screen_rect: Some(Rect::from_min_size(Pos2::ZERO, vec2(1280.0, 720.0))), ..RawInput::default() };
        input.events.extend(pointer.map(egui::Event::PointerMoved));
        let mut output = ctx.run_ui(input, |ui| {
            let desk = Desk {
                frame,
                track: &track,
                playhead: SimTime::ZERO,
                playing: false,
                speed: Speed::Times(1.0),
                progress: Progress { seeking: false, reached: frame.at, run: 1.0 },
                life: None,
                facts: &facts,
                sla_ttft_ms: Some(300.0),
                theme: &theme,
                problem: None,
            };
            screen::show(ui, &desk, view, &mut stage);
        });
        output.textures_delta.clear();
        let shapes = ctx.tessellate(output.shapes, 1.0);
        vertices = shapes
            .iter()
            .map(|shape| match &shape.primitive {
                egui::epaint::Primitive::Mesh(mesh) => mesh.vertices.len(),
                egui::epaint::Primitive::Callback(_) => 0,
            })
            .sum();
    }
    vertices
}

#[test]
fn every_fleet_is_drawn() {
    let thousand = vec![frames::pool(Role::Prefill, 300, 4), frames::pool(Role::Decode, 700, 12)];
    let fleets = [
        FrameModel::default(),
        frames::aggregated(),
        frames::disaggregated(),
        frames::around(vec![frames::pool(Role::Aggregated, 64, 60)]),
        frames::around(thousand),
    ];
    for frame in &fleets {
        let mut view = ViewState::default();
        assert!(paint(frame, &mut view, None) > 1_000);
        view.mode = view.mode.other();
        view.help = true;
        assert!(paint(frame, &mut view, None) > 1_000);
        view.panels = false;
        view.selected = Some(Target::Request(1_003));
        assert!(paint(frame, &mut view, None) > 500);
    }
}

#[test]
fn the_pointer_finds_workers_and_requests() {
    let frame = frames::aggregated();
    let mut found = Vec::new();
    for x in (220..1010).step_by(9) {
        let mut view = ViewState::default();
        paint(&frame, &mut view, Some(Pos2::new(x as f32, 140.0)));
        found.extend(view.hovered);
    }
    assert!(found.iter().any(|target| matches!(target, Target::Worker(_))));
    assert!(found.iter().any(|target| matches!(target, Target::Request(_))));
}
