//! Static charts as SVG, all of one family.
//!
//! A [`Figure`] is a title, a grid of [`Panel`]s and a line that names the source. It carries its own light ground, so it
//! can stand on a light or a dark page. Equal figures give equal bytes; texts are escaped; no script, no external font.
//!
//! ```
//! use dynosim::plot::{Axis, Figure, Panel, Unit, palette};
//!
//! let decode = Panel::new("Decode", Axis::log2("batch", Unit::Count), Axis::linear("time per token", Unit::Milliseconds))
//!     .names_at_ends("context")
//!     .line("1k", palette::DECODE, vec![(1.0, 3.5), (64.0, 9.5), (256.0, 12.7)]);
//! let svg = Figure::new("Llama 3.1 8B on one H200").source("AIConfigurator 0.12.0").panel(decode).to_svg();
//! assert!(svg.starts_with("<svg"));
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `figure` | the page: title, grid, source |
//! | `panel` | one chart: axes, lines, steps, distributions, bars, dots, limits |
//! | `draw` | a panel's SVG elements |
//! | `names` | legends, and names at the ends of lines |
//! | `place` | where a text finds room |
//! | `axis`, `unit` | where values lie, ticks, numbers as people read them |
//! | `palette`, `text` | colours; fonts, widths, wrapping |

mod axis;
mod draw;
mod figure;
mod names;
pub mod palette;
mod panel;
mod place;
mod text;
mod unit;

pub use axis::Axis;
pub use figure::Figure;
pub use palette::Color;
pub use panel::{Bar, Panel, bins};
pub use unit::Unit;
