//! What the keys do. By their meaning, not by their place, so that they work on any keyboard.

use bevy::input::keyboard::{Key, KeyboardInput};
use bevy::prelude::*;

use super::app::{Inbox, Session, View};
use super::panels::SPEEDS;
use crate::time::SimTime;
use crate::view::command::{Command, Direction, StepUnit};
use crate::view::player::Speed;

/// Turns keys into commands and changes of the view.
pub fn obey(
    mut typed: MessageReader<KeyboardInput>,
    session: Res<Session>,
    mut view: ResMut<View>,
    mut inbox: ResMut<Inbox>,
) {
    for input in typed.read().filter(|input| input.state.is_pressed()) {
        if let Some(command) = command(&input.logical_key, session.player.speed()) {
            inbox.commands.push(command);
        } else if !input.repeat {
            change(&input.logical_key, &mut view);
        }
        if input.logical_key == Key::Escape {
            inbox.commands.push(Command::Select(crate::view::command::Selection::Nothing));
        }
    }
}

fn command(key: &Key, speed: Speed) -> Option<Command> {
    let step = |unit, direction| Some(Command::Step { unit, direction });
    match key {
        Key::Space => Some(Command::TogglePlay),
        Key::ArrowRight => step(StepUnit::Second, Direction::Forward),
        Key::ArrowLeft => step(StepUnit::Second, Direction::Backward),
        Key::Home => Some(Command::Seek(SimTime::ZERO)),
        Key::End => Some(Command::Seek(SimTime::MAX)),
        Key::Character(text) => match text.as_str() {
            " " => Some(Command::TogglePlay),
            "." => step(StepUnit::Pass, Direction::Forward),
            "," => step(StepUnit::Pass, Direction::Backward),
            ">" => step(StepUnit::RequestEvent, Direction::Forward),
            "<" => step(StepUnit::RequestEvent, Direction::Backward),
            "]" => step(StepUnit::Decision, Direction::Forward),
            "[" => step(StepUnit::Decision, Direction::Backward),
            "}" => step(StepUnit::PlannerTick, Direction::Forward),
            "{" => step(StepUnit::PlannerTick, Direction::Backward),
            "b" | "B" => Some(Command::SeekBusiest),
            "m" | "M" => Some(Command::FullSpeed),
            "+" | "=" => Some(faster(speed, 2.0)),
            "-" | "_" => Some(faster(speed, 0.5)),
            _ => None,
        },
        _ => None,
    }
}

fn faster(speed: Speed, factor: f64) -> Command {
    match speed {
        Speed::Times(times) => Command::SetSpeed((times * factor).clamp(SPEEDS.0, SPEEDS.1)),
        Speed::Full => Command::SetSpeed(SPEEDS.1),
    }
}

fn change(key: &Key, view: &mut View) {
    let view = &mut view.0;
    match key {
        Key::Tab => view.panels = !view.panels,
        Key::F1 => view.help = !view.help,
        Key::Escape => view.help = false,
        Key::Character(text) => match text.as_str() {
            "?" => view.help = !view.help,
            "t" | "T" => view.mode = view.mode.other(),
            "f" | "F" => (view.camera, view.zoom) = (None, 1.0),
            "/" => view.focus_search = true,
            _ => {}
        },
        _ => {}
    }
}
