//! Requests that wait for the end of others.

use std::collections::HashMap;

/// Dependencies between requests, without cycles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Whom each request waits for. A request that waits for nobody is released at its arrival, any other one its delay
    /// after the last of these has ended.
    pub waits_for: Links,
    /// Names of sessions; a session's requests need not be neighbours.
    pub sessions: Vec<Box<str>>,
    /// Session of each request and its turn in there.
    pub turns: Vec<(u32, u32)>,
    /// Cap on trees (agent sessions with all their sub-agents) in progress, if the loop is closed.
    pub closed: Option<ClosedGraph>,
    /// Whether the run goes on beyond a cap on simulated time, as the reference's does for its agentic formats.
    pub ignores_time_cap: bool,
}

/// A closed loop over the trees of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedGraph {
    /// Most trees in progress, at least 1.
    pub concurrency: u32,
    /// First request of each tree; its requests are neighbours.
    pub trees: Vec<u32>,
}

/// Lists of requests, one for each request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Where each list ends in `to`; it begins where the one before ends.
    ends: Vec<u32>,
    to: Vec<u32>,
}

impl Links {
    /// Adds the list of the next request; nothing when there are 2^32 links.
    pub fn push(&mut self, list: impl IntoIterator<Item = u32>) -> Option<()> {
        self.to.extend(list);
        self.ends.push(u32::try_from(self.to.len()).ok()?);
        Some(())
    }

    /// The list of a request.
    pub fn of(&self, request: u32) -> &[u32] {
        let end = |i: u32| self.ends.get(i as usize).map_or(0, |end| *end as usize);
        let start = request.checked_sub(1).map_or(0, end);
        self.to.get(start..end(request)).unwrap_or_default()
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The same links from the other end: for each request those whose lists hold it, in ascending order.
    pub fn reversed(&self) -> Self {
        let mut counts = vec![0_u32; self.len()];
        for to in &self.to {
            if let Some(count) = counts.get_mut(*to as usize) {
                *count += 1;
            }
        }
        let mut total = 0;
        let ends: Vec<u32> = counts
            .iter()
            .map(|count| {
                total += count;
                total
            })
            .collect();
        let mut next: Vec<u32> = ends.iter().zip(&counts).map(|(end, count)| end - count).collect();
        let mut to = vec![0; total as usize];
        for from in (0..).take(self.len()) {
            for request in self.of(from) {
                if let Some(slot) = next.get_mut(*request as usize)
                    && let Some(place) = to.get_mut(*slot as usize)
                {
                    *place = from;
                    *slot += 1;
                }
            }
        }
        Self { ends, to }
    }

    /// A request on a cycle of waiting, if there is a cycle.
    pub fn cycle(&self) -> Option<u32> {
        let followers = self.reversed();
        let mut missing: Vec<u32> = (0..).take(self.len()).map(|request| self.of(request).len() as u32).collect();
        let mut free: Vec<u32> = (0..).zip(&missing).filter(|(_, n)| **n == 0).map(|(request, _)| request).collect();
        while let Some(request) = free.pop() {
            for follower in followers.of(request) {
                if let Some(count) = missing.get_mut(*follower as usize) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(*follower);
                    }
                }
            }
        }
        // Whoever still waits is on a cycle or behind one; going back along open waits ends on the cycle.
        let stuck = |request: u32| missing.get(request as usize).is_some_and(|count| *count > 0);
        let mut at = (0..).take(self.len()).find(|request| stuck(*request))?;
        for _ in 0..self.len() {
            at = self.of(at).iter().copied().find(|request| stuck(*request))?;
        }
        Some(at)
    }
}

/// Numbers sessions by name and counts their turns.
#[derive(Debug, Default)]
pub(super) struct SessionTurns {
    by_name: HashMap<Box<str>, u32>,
    counts: Vec<u32>,
    /// Names in order of first appearance.
    pub names: Vec<Box<str>>,
}

impl SessionTurns {
    /// Session and turn of the next request of the session called `name`.
    pub fn next(&mut self, name: &str) -> (u32, u32) {
        let session = match self.by_name.get(name) {
            Some(session) => *session,
            None => {
                let session = self.names.len() as u32;
                self.by_name.insert(name.into(), session);
                self.names.push(name.into());
                self.counts.push(0);
                session
            }
        };
        let turn = self.counts.get_mut(session as usize).map_or(0, |count| {
            *count += 1;
            *count - 1
        });
        (session, turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(lists: &[&[u32]]) -> Links {
        let mut links = Links::default();
        for list in lists {
            links.push(list.iter().copied()).expect("few links");
        }
        links
    }

    #[test]
    fn links_read_from_the_other_end_are_the_same_links() {
        let there = links(&[&[], &[0], &[0, 1], &[2, 0, 0]]);
        let back = there.reversed();
        assert_eq!(back, links(&[&[1, 2, 3, 3], &[2], &[3], &[]]));
        assert_eq!(
            (back.of(0), there.of(3), there.of(9)),
            ([1, 2, 3, 3].as_slice(), [2, 0, 0].as_slice(), [].as_slice())
        );
    }

    #[test]
    fn a_cycle_is_found_wherever_it_is_and_only_if_it_is() {
        assert_eq!(links(&[&[], &[0], &[1, 0]]).cycle(), None);
        assert_eq!(links(&[&[0]]).cycle(), Some(0));
        // 4 waits behind the cycle of 1, 2 and 3.
        let behind = links(&[&[], &[3, 0], &[1], &[2], &[3]]);
        assert!(behind.cycle().is_some_and(|request| (1..=3).contains(&request)));
        let long = (0..200_000_u32).map(|i| vec![(i + 1) % 200_000]).collect::<Vec<_>>();
        assert!(links(&long.iter().map(Vec::as_slice).collect::<Vec<_>>()).cycle().is_some());
    }
}
