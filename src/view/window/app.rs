//! The viewer as a Bevy app: a player, what the user looks at, and the systems between them.

use bevy::prelude::*;
use bevy_egui::input::egui_wants_any_keyboard_input;
use bevy_egui::{EguiContexts, EguiPlugin, EguiPrimaryContextPass, egui};

use super::panels::{Desk, Facts};
use super::screen::{self, Stage};
use super::state::{Target, ViewState};
use super::theme::{Mode, Theme};
use super::{gpu, keys};
use crate::scenario::Scenario;
use crate::view::command::Command;
use crate::view::life::Life;
use crate::view::player::Player;

/// The run that is watched.
#[derive(Resource)]
pub struct Session {
    /// Moves through it.
    pub player: Player,
    /// Its scenario in words.
    pub facts: Facts,
    /// The life of the selected request.
    life: Option<Life>,
    /// What went wrong last.
    problem: Option<String>,
}

impl Session {
    /// Watches a run.
    pub fn new(player: Player) -> Self {
        let facts = facts(player.scenario());
        Self { player, facts, life: None, problem: None }
    }
}

fn facts(scenario: &Scenario) -> Facts {
    // What is not set is left out; a scenario that does not say is not worth a failure.
    let json = serde_json::from_str(&scenario.to_json()).unwrap_or_default();
    Facts::of(&json)
}

/// What the user looks at.
#[derive(Resource, Default)]
pub struct View(pub ViewState);

/// What the user asked for since the last frame.
#[derive(Resource, Default)]
pub struct Inbox {
    /// In the order in which it was asked for.
    pub commands: Vec<Command>,
}

/// Places, history and layout of the scene.
#[derive(Resource, Default)]
pub struct OnStage(pub Stage);

/// The order of a frame before it is drawn.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewerSet {
    /// Keys become commands.
    Input,
    /// Commands are carried out.
    Apply,
    /// Time passes.
    Advance,
}

/// Shows a [`Session`], which has to be inserted beside it.
pub struct ViewerPlugin;

impl Plugin for ViewerPlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(EguiPlugin::default())
            .init_resource::<View>()
            .init_resource::<Inbox>()
            .init_resource::<OnStage>()
            .configure_sets(Update, (ViewerSet::Input, ViewerSet::Apply, ViewerSet::Advance).chain())
            .add_systems(
                Update,
                (
                    keys::obey.in_set(ViewerSet::Input).run_if(not(egui_wants_any_keyboard_input)),
                    apply.in_set(ViewerSet::Apply),
                    advance.in_set(ViewerSet::Advance),
                ),
            )
            .add_systems(EguiPrimaryContextPass, draw);
    }
}

fn apply(mut session: ResMut<Session>, mut view: ResMut<View>, mut inbox: ResMut<Inbox>) {
    if inbox.commands.is_empty() {
        return;
    }
    session.problem = None;
    for command in inbox.commands.drain(..) {
        if let Err(error) = session.player.apply(command) {
            session.problem = Some(error.to_string());
        }
    }
    view.0.selected = Target::of(session.player.selection());
    session.life = None;
}

fn advance(mut session: ResMut<Session>, view: Res<View>, time: Res<Time<Real>>) {
    session.player.update(time.delta());
    if let Some(Target::Request(request)) = view.0.selected
        && session.life.is_none()
    {
        session.life = session.player.life(request);
    }
}

fn draw(
    mut contexts: EguiContexts,
    session: Res<Session>,
    mut view: ResMut<View>,
    mut stage: ResMut<OnStage>,
    mut inbox: ResMut<Inbox>,
    mut styled: Local<Option<Mode>>,
) -> Result {
    let ctx = contexts.ctx_mut()?.clone();
    let theme = Theme::of(view.0.mode);
    if *styled != Some(theme.mode) {
        theme.apply(&ctx);
        *styled = Some(theme.mode);
    }
    let player = &session.player;
    let track = player.track();
    let problem = session.problem.clone().or_else(|| player.problem());
    let desk = Desk {
        frame: player.frame(),
        track: &track,
        playhead: player.playhead(),
        playing: player.is_playing(),
        speed: player.speed(),
        progress: player.progress(),
        life: session.life.as_ref(),
        facts: &session.facts,
        sla_ttft_ms: player.run().sla.ttft_ms,
        theme: &theme,
        problem: problem.as_deref(),
    };
    let builder = egui::UiBuilder::new().layer_id(egui::LayerId::background()).max_rect(ctx.viewport_rect());
    let mut ui = egui::Ui::new(ctx.clone(), "viewer".into(), builder);
    let wishes = screen::show(&mut ui, &desk, &mut view.0, &mut stage.0);
    inbox.commands.extend(wishes.commands);
    if let Some(target) = wishes.select {
        inbox.commands.push(Command::Select(Target::selection(target)));
    }
    // Tab belongs to the panels: only the search field takes the keyboard.
    let search = egui::Id::new("search");
    ctx.memory_mut(|memory| {
        if let Some(id) = memory.focused().filter(|id| *id != search) {
            memory.surrender_focus(id);
        }
    });
    Ok(())
}

/// Why there is no window or no picture.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No driver that can draw.
    #[error(
        "nothing here can draw: no Vulkan driver was found; install one, without a GPU a software driver \
         (Debian and Ubuntu: apt-get install mesa-vulkan-drivers libvulkan1)"
    )]
    NoDriver,
    /// No screen.
    #[error("there is no display to open a window on; draw a picture instead: --offscreen --screenshot FILE.png")]
    NoDisplay,
    /// The picture cannot be written.
    #[error("cannot write the picture to {path}: {reason}")]
    Picture {
        /// Where to.
        path: String,
        /// Why not.
        reason: String,
    },
}

/// Opens a window on a run, and returns when it is closed.
///
/// # Errors
/// Where there is no display or no driver.
pub fn open(player: Player, view: ViewState, title: String) -> Result<(), ViewError> {
    if cfg!(target_os = "linux") && std::env::var_os("DISPLAY").is_none_or(|display| display.is_empty()) {
        return Err(ViewError::NoDisplay);
    }
    gpu::probe()?;
    let window = Window {
        title,
        resolution: bevy::window::WindowResolution::new(1280, 720),
        present_mode: bevy::window::PresentMode::AutoVsync,
        ..default()
    };
    App::new()
        .add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }))
        .add_plugins(ViewerPlugin)
        .insert_resource(Session::new(player))
        .insert_resource(View(view))
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn((Camera2d, Msaa::Off));
        })
        .run();
    Ok(())
}
