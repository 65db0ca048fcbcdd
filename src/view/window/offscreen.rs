//! One picture without a window.

use std::path::Path;
use std::time::Duration;

use bevy::app::PluginsState;
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::pipelined_rendering::PipelinedRenderingPlugin;
use bevy::render::render_resource::{TextureFormat, TextureUsages};
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured};
use bevy::time::TimeUpdateStrategy;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;

use super::app::{OnStage, Session, View, ViewError, ViewerPlugin};
use super::gpu;
use super::history::{History, SPAN};
use super::screen::Stage;
use super::state::ViewState;
use crate::time::SimTime;
use crate::view::player::Player;

/// Frames drawn before a picture is taken: egui settles sizes, the font atlas is uploaded.
const SETTLE: usize = 4;
/// Frames after which a picture that did not come is given up.
const PATIENCE: usize = 200;
/// Samples of the last minute taken before a picture.
const SAMPLES: u64 = 40;

/// The image that is drawn into.
#[derive(Resource)]
struct Canvas(Handle<Image>);

/// The picture, once it is there.
#[derive(Resource, Default)]
struct Taken(Option<Image>);

/// A viewer that draws into an image of `size` pixels; call [`picture`] or `App::update` to draw.
///
/// # Errors
/// Where no driver is found.
pub fn app(player: Player, view: ViewState, size: (u32, u32)) -> Result<App, ViewError> {
    gpu::probe()?;
    let mut app = App::new();
    let windowless = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
    app.add_plugins(
        DefaultPlugins
            .set(windowless)
            .set(RenderPlugin { synchronous_pipeline_compilation: true, ..default() })
            .disable::<WinitPlugin>()
            .disable::<PipelinedRenderingPlugin>(),
    )
    .add_plugins(ViewerPlugin)
    .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_nanos(1_000_000_000 / 30)))
    .insert_resource(Session::new(player))
    .insert_resource(View(view))
    .init_resource::<Taken>();
    while app.plugins_state() == PluginsState::Adding {
        bevy::tasks::tick_global_task_pools_on_main_thread();
    }
    app.finish();
    app.cleanup();
    let mut image = Image::new_target_texture(size.0, size.1, TextureFormat::Rgba8UnormSrgb, None);
    image.texture_descriptor.usage |= TextureUsages::COPY_SRC;
    let canvas = app.world_mut().resource_mut::<Assets<Image>>().add(image);
    app.world_mut().spawn((Camera2d, Msaa::Off, RenderTarget::Image(canvas.clone().into())));
    app.insert_resource(Canvas(canvas));
    Ok(app)
}

/// Goes to an instant by way of the minute before it, so that sparklines show it.
pub fn approach(player: &mut Player, at: SimTime) -> History {
    let mut history = History::default();
    for sample in 0..=SAMPLES {
        let back = SPAN.as_nanos() / SAMPLES * (SAMPLES - sample);
        history.update(player.frame_at(SimTime::from_nanos(at.as_nanos().saturating_sub(back))));
    }
    history
}

/// Lets the stage start with a known history.
pub fn remember(app: &mut App, history: History) {
    app.insert_resource(OnStage(Stage { history, ..Stage::default() }));
}

/// Draws until a picture of the next frame is there.
///
/// # Errors
/// Where none comes.
pub fn picture(app: &mut App) -> Result<Image, String> {
    for _ in 0..SETTLE {
        app.update();
    }
    let canvas = app.world().resource::<Canvas>().0.clone();
    app.world_mut().spawn(Screenshot::image(canvas)).observe(
        |shot: On<ScreenshotCaptured>, mut taken: ResMut<Taken>| {
            taken.0 = Some(shot.image.clone());
        },
    );
    for _ in 0..PATIENCE {
        app.update();
        if let Some(image) = app.world_mut().resource_mut::<Taken>().0.take() {
            return Ok(image);
        }
    }
    Err("the renderer delivered none".to_owned())
}

/// Draws one picture of a run at an instant and writes it as PNG.
///
/// # Errors
/// Where no driver is found, or the file cannot be written.
pub fn screenshot(
    mut player: Player,
    view: ViewState,
    at: SimTime,
    size: (u32, u32),
    path: &Path,
) -> Result<(), ViewError> {
    let failed = |reason: String| ViewError::Picture { path: path.display().to_string(), reason };
    player.wait_for_run();
    let history = approach(&mut player, at);
    let mut app = app(player, view, size)?;
    remember(&mut app, history);
    let image = picture(&mut app).map_err(failed)?;
    let image = image.try_into_dynamic().map_err(|error| failed(error.to_string()))?;
    image.to_rgb8().save(path).map_err(|error| failed(error.to_string()))
}
