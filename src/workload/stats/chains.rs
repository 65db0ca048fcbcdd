//! Paths through the block tree in few pieces.
//!
//! Every stretch of the tree continues in its largest child; such a sequence is a *chain*. A path from the root to any
//! stretch is then a beginning of one chain, a beginning of the next, and so on, with at most log2(stretches) chains: to
//! leave a chain means to enter a part of the tree that is at most half as large. So a prompt is a handful of
//! (chain, depth) pairs however many turns its session has.

use crate::workload::content::{NO_NODE, NodeIndex};

use super::tree::BlockTree;

/// A sequence of stretches, one continuing the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Last stretch before the chain, or [`NO_NODE`].
    parent: NodeIndex,
    /// Blocks of a prompt before the chain.
    pub start: u32,
}

/// The chains of a tree.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    tree: &'a BlockTree,
    chain_of: Vec<u32>,
    all: Vec<Chain>,
}

/// A prompt covers a chain from its start to this depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the chain.
    pub chain: u32,
    /// First block of the chain, counted from the beginning of the prompt.
    pub start: u32,
    /// One past the last block.
    pub end: u32,
}

impl<'a> Chains<'a> {
    pub fn of(tree: &'a BlockTree) -> Self {
        let n = tree.nodes.len();
        let mut size = vec![1_u32; n];
        // The child in which the chain continues.
        let mut largest = vec![NO_NODE; n];
        for index in (0..n).rev() {
            let own = size.get(index).copied().unwrap_or(1);
            let Some(parent) = tree.nodes.get(index).map(|node| node.parent as usize) else { continue };
            let rival = largest.get(parent).and_then(|at| size.get(*at as usize)).copied().unwrap_or(0);
            if let (Some(sum), Some(choice)) = (size.get_mut(parent), largest.get_mut(parent)) {
                *sum += own;
                // Ties go to the earlier child, which is seen later.
                if own >= rival {
                    *choice = index as NodeIndex;
                }
            }
        }
        let (mut chain_of, mut all) = (Vec::with_capacity(n), Vec::<Chain>::new());
        for (index, node) in tree.nodes.iter().enumerate() {
            let continues = largest.get(node.parent as usize).is_some_and(|next| *next as usize == index);
            let chain = match chain_of.get(node.parent as usize) {
                Some(chain) if continues => *chain,
                _ => {
                    all.push(Chain { parent: node.parent, start: node.start });
                    all.len() as u32 - 1
                }
            };
            chain_of.push(chain);
        }
        Self { tree, chain_of, all }
    }

    /// Number of chains.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Blocks of a prompt before the chain.
    pub fn start(&self, chain: u32) -> u32 {
        self.all.get(chain as usize).map_or(0, |c| c.start)
    }

    /// The pieces of a request's shared path, the last one first.
    pub fn pieces(&self, request: u32) -> impl Iterator<Item = Piece> {
        let mut at = self.tree.leaf.get(request as usize).copied().unwrap_or(NO_NODE);
        std::iter::from_fn(move || {
            let end = self.tree.node(at)?.end;
            let chain = *self.chain_of.get(at as usize)?;
            let Chain { parent, start } = *self.all.get(chain as usize)?;
            at = parent;
            Some(Piece { chain, start, end })
        })
    }
}
