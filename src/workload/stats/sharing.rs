//! Who shares prompt blocks with whom.

use std::collections::HashMap;

use super::chains::Chains;
use super::members::Members;
use super::tree::BlockTree;

/// Blocks by who else uses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Blocks of all prompts.
    pub blocks: u64,
    /// Different blocks.
    pub distinct: u64,
    /// Blocks of prompts that an earlier request of the same session has in its prompt too.
    pub within_session: u64,
    /// Blocks of prompts that another session uses too, before or after.
    pub seen_elsewhere: u64,
    /// Different blocks that several sessions use.
    pub distinct_shared: u64,
}

/// Counts over all sessions.
pub(super) fn sharing(tree: &BlockTree, chains: &Chains<'_>, sessions: &Members) -> Sharing {
    let mut result = Sharing::default();
    // Per chain: the deepest end that any session reaches, and the deepest that two reach.
    let mut reach = vec![(0_u32, 0_u32); chains.len()];
    let mut own: HashMap<u32, u32> = HashMap::new();
    for requests in sessions.iter() {
        own.clear();
        for request in requests {
            let all = tree.blocks.get(*request as usize).copied().unwrap_or(0);
            result.blocks += u64::from(all);
            let mut shared = None;
            for piece in chains.pieces(*request) {
                shared.get_or_insert(piece.end);
                let known = own.entry(piece.chain).or_insert(piece.start);
                result.within_session += u64::from((*known).min(piece.end) - piece.start);
                *known = (*known).max(piece.end);
            }
            result.distinct += u64::from(all.saturating_sub(shared.unwrap_or(0)));
        }
        for (chain, end) in own.iter() {
            if let Some((first, second)) = reach.get_mut(*chain as usize) {
                *second = (*second).max((*end).min(*first));
                *first = (*first).max(*end);
            }
        }
    }
    for (chain, (first, second)) in (0..).zip(&reach) {
        let start = chains.start(chain);
        result.distinct += u64::from(first.saturating_sub(start));
        result.distinct_shared += u64::from(second.saturating_sub(start));
    }
    for request in sessions.iter().flatten() {
        for piece in chains.pieces(*request) {
            let second = reach.get(piece.chain as usize).map_or(0, |(_, second)| *second);
            result.seen_elsewhere += u64::from(second.min(piece.end).saturating_sub(piece.start));
        }
    }
    result
}
