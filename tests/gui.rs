//! The viewer: layout, everything drawn without a window, and driven by keys and mouse as a user would.
//!
//! Tests that need a graphics driver say so and pass where there is none; with `DYNOSIM_REQUIRE_GRAPHICS` set they fail.

#[path = "gui/driven.rs"]
mod driven;
#[path = "gui/driver.rs"]
mod driver;
#[path = "gui/frames.rs"]
mod frames;
#[path = "gui/layout.rs"]
mod layout;
#[path = "gui/painted.rs"]
mod painted;
