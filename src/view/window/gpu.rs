//! Whether anything here can draw, before a renderer finds out in its own words.

use std::panic;

use bevy::render::renderer::initialize_renderer;
use bevy::render::settings::WgpuSettings;
use bevy::tasks::block_on;

use super::app::ViewError;

/// Fails where no driver is found.
///
/// # Errors
/// [`ViewError::NoDriver`].
pub fn probe() -> Result<(), ViewError> {
    let settings = WgpuSettings::default();
    let Some(backends) = settings.backends else { return Err(ViewError::NoDriver) };
    // The renderer panics without a driver; its message would only frighten.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = panic::catch_unwind(|| block_on(initialize_renderer(backends, None, &settings)));
    panic::set_hook(hook);
    found.map(drop).map_err(|_| ViewError::NoDriver)
}
