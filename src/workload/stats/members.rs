//! Which requests make up which session.

use crate::workload::{Release, Workload};

/// The requests of every session in the order of its turns; an independent request is a session of its own.
#[derive(Debug)]
pub(super) struct Members {
    requests: Vec<u32>,
    /// Where each session ends in `requests`; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Members {
    pub fn of(workload: &Workload) -> Self {
        let requests: Vec<u32> = (0..).take(workload.requests.len()).collect();
        match &workload.release {
            Release::Flat => Self { ends: requests.iter().map(|r| r + 1).collect(), requests },
            Release::Sessions { sessions, .. } => {
                Self { requests, ends: sessions.iter().map(|s| s.first + s.turns).collect() }
            }
            Release::Graph(graph) => {
                let place = |request: &u32| graph.turns.get(*request as usize).copied();
                let mut requests = requests;
                requests.sort_by_key(place);
                let session = |request: &u32| place(request).map(|(session, _)| session);
                let ends = requests.chunk_by(|a, b| session(a) == session(b)).scan(0, |end, chunk| {
                    *end += chunk.len() as u32;
                    Some(*end)
                });
                Self { ends: ends.collect(), requests }
            }
        }
    }

    /// The sessions, one after another.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let session = self.requests.get(start as usize..*end as usize).unwrap_or_default();
            start = *end;
            session
        })
    }
}
