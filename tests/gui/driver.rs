//! A viewer without a window, and a hand on its keys and mouse: input goes in where the window system would put it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bevy::input::ButtonState;
use bevy::input::keyboard::{Key, KeyCode, KeyboardInput};
use bevy::input::mouse::{MouseButton, MouseButtonInput};
use bevy::prelude::*;
use bevy::window::{CursorMoved, WindowEvent};
use bevy_egui::EguiContext;
use bevy_egui::input::WindowToEguiContextMap;
use dynosim::scenario::Scenario;
use dynosim::view::frame::FrameModel;
use dynosim::view::player::Player;
use dynosim::view::window::app::{OnStage, Session, View, ViewError};
use dynosim::view::window::offscreen;
use dynosim::view::window::state::ViewState;

/// Size of the picture.
pub const SIZE: (u32, u32) = (1280, 720);

/// One graphics app at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A viewer under control.
pub struct Driver {
    app: App,
    window: Entity,
    _alone: MutexGuard<'static, ()>,
}

/// RGB bytes, row by row.
pub struct Picture {
    bytes: Vec<u8>,
    width: u32,
}

impl Picture {
    /// The colour of a pixel.
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let start = ((y * self.width + x) * 3) as usize;
        [self.bytes[start], self.bytes[start + 1], self.bytes[start + 2]]
    }

    /// Mean brightness, 0 to 255.
    pub fn brightness(&self) -> f64 {
        self.bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / self.bytes.len() as f64
    }

    /// How many different colours there are.
    pub fn colours(&self) -> usize {
        let mut all: Vec<&[u8]> = self.bytes.chunks_exact(3).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// Pixels that differ from those of another picture.
    pub fn differences(&self, other: &Self) -> usize {
        self.bytes.chunks_exact(3).zip(other.bytes.chunks_exact(3)).filter(|(a, b)| a != b).count()
    }
}

impl Driver {
    /// Opens a scenario; `None` where nothing can draw.
    pub fn open(scenario: &str) -> Option<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let scenario: Scenario = serde_json::from_str(scenario).expect("a scenario");
        let mut player = Player::open(scenario, Path::new(".")).expect("a run");
        player.wait_for_run();
        let mut app = match offscreen::app(player, ViewState::default(), SIZE) {
            Ok(app) => app,
            Err(ViewError::NoDriver) if std::env::var_os("DYNOSIM_REQUIRE_GRAPHICS").is_none() => {
                eprintln!("skipped: there is no graphics driver");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        // Messages of this window that is none reach the only context there is.
        let window = app.world_mut().spawn_empty().id();
        app.update();
        let mut contexts = app.world_mut().query_filtered::<Entity, With<EguiContext>>();
        let context = contexts.single(app.world()).expect("one context");
        let mut map = app.world_mut().resource_mut::<WindowToEguiContextMap>();
        map.window_to_contexts.entry(window).or_default().insert(context);
        map.context_to_window.insert(context, window);
        let mut driver = Self { app, window, _alone: alone };
        driver.frames(2);
        Some(driver)
    }

    /// Lets frames pass.
    pub fn frames(&mut self, n: usize) {
        for _ in 0..n {
            self.app.update();
        }
    }

    /// Lets frames pass until the run at the playhead is on the screen.
    pub fn settle(&mut self) {
        self.app.world_mut().resource_mut::<Session>().player.settle();
        self.frames(2);
    }

    /// Moves the mouse.
    pub fn hover(&mut self, x: f32, y: f32) {
        let moved = CursorMoved { window: self.window, position: Vec2::new(x, y), delta: None };
        self.app.world_mut().write_message(WindowEvent::CursorMoved(moved));
        self.frames(1);
    }

    fn button(&mut self, state: ButtonState) {
        let input = MouseButtonInput { button: MouseButton::Left, state, window: self.window };
        self.app.world_mut().write_message(WindowEvent::MouseButtonInput(input));
        self.frames(1);
    }

    /// Clicks.
    pub fn click(&mut self, x: f32, y: f32) {
        self.hover(x, y);
        self.button(ButtonState::Pressed);
        self.button(ButtonState::Released);
        self.frames(2);
    }

    /// Drags from one point to another.
    pub fn drag(&mut self, from: (f32, f32), to: (f32, f32)) {
        self.hover(from.0, from.1);
        self.button(ButtonState::Pressed);
        for step in 1..=4 {
            let share = step as f32 / 4.0;
            self.hover(from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
        }
        self.button(ButtonState::Released);
        self.frames(2);
    }

    /// Presses and releases a key.
    pub fn key(&mut self, key: Key, key_code: KeyCode) {
        for state in [ButtonState::Pressed, ButtonState::Released] {
            let input = KeyboardInput {
                key_code,
                logical_key: key.clone(),
                state,
                text: None,
                repeat: false,
                window: self.window,
            };
            self.app.world_mut().write_message(input.clone());
            self.app.world_mut().write_message(WindowEvent::KeyboardInput(input));
            self.frames(1);
        }
        self.frames(1);
    }

    /// Types a character.
    pub fn type_char(&mut self, c: char, key_code: KeyCode) {
        self.key(Key::Character(c.to_string().into()), key_code);
    }

    /// What the user looks at.
    pub fn view(&self) -> &ViewState {
        &self.app.world().resource::<View>().0
    }

    /// The player.
    pub fn player(&self) -> &Player {
        &self.app.world().resource::<Session>().player
    }

    /// The run on the screen.
    pub fn frame(&self) -> &FrameModel {
        self.player().frame()
    }

    /// Where a worker is on the screen: its name, for a click.
    pub fn worker(&self, pool: usize, index: usize) -> (f32, f32) {
        let stage = &self.app.world().resource::<OnStage>().0;
        let (layout, screen) = (stage.layout.as_ref().expect("a layout"), stage.scene.expect("a scene"));
        let (_, rect) = layout.pools[pool].workers[index];
        let camera = self.view().camera_over(layout.bounds, screen);
        let at = camera.to_screen(rect.left_top(), screen);
        (at.x + 12.0, at.y + 8.0)
    }

    /// What is on the screen.
    pub fn picture(&mut self) -> Picture {
        let image = offscreen::picture(&mut self.app).expect("a picture");
        let image = image.try_into_dynamic().expect("an image").to_rgb8();
        Picture { width: image.width(), bytes: image.into_raw() }
    }
}
