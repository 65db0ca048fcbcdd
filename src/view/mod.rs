//! What a viewer shows of a run, and how it moves through its time.
//!
//! | file | idea |
//! |---|---|
//! | [`frame`] | everything there is to draw at one instant, as plain data |
//!
//! Nothing here draws. Scene and panels are functions of a [`FrameModel`](frame::FrameModel) and of what the user looks at.

pub mod frame;
