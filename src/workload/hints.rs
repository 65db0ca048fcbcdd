//! What requests ask of a router that queues: priorities and policy classes.

use std::collections::HashMap;

/// What one request asks of the router's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hint {
    /// Seconds of waiting it is worth in a first-come queue; values below zero count as zero.
    pub priority: i32,
    /// Tier: a higher one always goes first.
    pub strict_priority: u32,
    /// Policy class or family it names, an index into [`RouterHints::classes`].
    pub class: Option<u32>,
}

/// The hints of all requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterHints {
    /// By request; nothing at all when no request has any.
    by_request: Vec<Hint>,
    /// Names of the policy classes and families that requests ask for.
    pub classes: Vec<Box<str>>,
}

impl RouterHints {
    /// The hint of a request.
    pub fn get(&self, request: u32) -> Hint {
        self.by_request.get(request as usize).copied().unwrap_or_default()
    }
}

/// Collects hints while a trace is read.
#[derive(Debug, Default)]
pub(super) struct HintBuilder {
    hints: RouterHints,
    numbers: HashMap<Box<str>, u32>,
}

impl HintBuilder {
    /// Notes what the request with this index asks; indices ascend.
    pub fn add(&mut self, request: usize, priority: i32, strict_priority: u32, class: Option<&str>) {
        if priority == 0 && strict_priority == 0 && class.is_none() {
            return;
        }
        let class = class.map(|name| match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                // Each name takes a row of a trace with fewer than 2^32 rows.
                let number = self.hints.classes.len() as u32;
                self.hints.classes.push(name.into());
                self.numbers.insert(name.into(), number);
                number
            }
        });
        // Requests before that ask nothing.
        self.hints.by_request.resize(request, Hint::default());
        self.hints.by_request.push(Hint { priority, strict_priority, class });
    }

    /// All hints, in the order of the indices given.
    pub fn finish(self) -> RouterHints {
        self.hints
    }

    /// The hints of requests in this order: the request at a place is the one noted with the index given there.
    pub fn reordered(self, order: &[u32]) -> RouterHints {
        let hints = self.hints;
        if hints.by_request.is_empty() {
            return hints;
        }
        RouterHints { by_request: order.iter().map(|index| hints.get(*index)).collect(), classes: hints.classes }
    }
}
