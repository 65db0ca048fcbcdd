//! The window: scene and panels drawn from a [`FrameModel`](super::frame::FrameModel).
//!
//! | file | idea |
//! |---|---|
//! | [`theme`] | colours by meaning, dark and light |
//! | [`ink`] | many small flat shapes in one mesh, and what the pointer is over |
//! | [`layout`] | where traffic, router, pools and workers stand |
//! | [`state`] | camera, selection, panels: what the user looks at |
//! | [`history`] | the last minute of every worker, for sparklines |
//! | [`scene`] | the fleet |
//! | [`panels`] | transport bar, time line, inspector, scenario, help |
//! | [`screen`] | panels around the scene, mouse and wheel |
//! | [`app`] | the Bevy app: a player, the view, the systems between them |
//! | [`keys`] | what the keys do |
//! | [`offscreen`] | one picture without a window |
//! | `gpu` | whether anything here can draw |
//! | [`words`] | numbers as people read them |
//!
//! Scene and panels are functions of the frame and of the view state, drawn with egui's painter: sharp at any zoom, and the
//! same in a window, in a picture and in a test.

pub mod app;
mod gpu;
pub mod history;
pub mod ink;
pub mod keys;
pub mod layout;
pub mod offscreen;
pub mod panels;
pub mod scene;
pub mod screen;
pub mod state;
pub mod theme;
pub mod words;
