//! Keeps the lines of a decision log.

use std::sync::{Arc, Mutex};

use dynosim::report::write_decision;
use dynosim::sim::router::{Decision, DecisionSink};

/// The lines so far; clones share them.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl DecisionSink for Lines {
    fn take(&mut self, decision: &Decision<'_>) {
        write_decision(&mut *self.0.lock().unwrap(), decision).unwrap();
    }
}

impl Lines {
    /// The text so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
