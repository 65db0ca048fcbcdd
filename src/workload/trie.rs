//! Builds the tree of equal prompt beginnings.
//!
//! First every id of every prompt gets a node, then stretches that the same prompts pass through become one node and
//! what a single prompt has for itself is dropped. An id nearly always follows the same id, so a table by id finds the
//! next node at once; a map takes the exceptions.

use std::collections::HashMap;

use super::content::{NO_NODE, NodeIndex, PromptTrie, TrieNode};

/// One id at one place.
#[derive(Debug, Clone, Copy)]
struct Step {
    parent: u32,
    depth: u32,
    /// How many prompts pass through.
    passes: u32,
}

/// All places, as they are found.
#[derive(Debug)]
struct Steps {
    all: Vec<Step>,
    /// By id: the first place where it was met.
    usual: Vec<u32>,
    others: HashMap<(u32, u32), u32>,
}

impl Steps {
    fn next(&mut self, parent: u32, depth: u32, id: u32) -> u32 {
        let fresh = self.all.len() as u32;
        let found = match self.usual.get_mut(id as usize) {
            Some(slot) if *slot == NO_NODE => {
                *slot = fresh;
                fresh
            }
            Some(slot) if self.all.get(*slot as usize).is_some_and(|s| s.parent == parent) => *slot,
            _ => *self.others.entry((parent, id)).or_insert(fresh),
        };
        if found == fresh {
            self.all.push(Step { parent, depth, passes: 1 });
        } else if let Some(step) = self.all.get_mut(found as usize) {
            step.passes += 1;
        }
        found
    }
}

impl PromptTrie {
    /// The tree of `prompts`, each a list of ids below `ids`; there must be fewer than 2^32 ids in all.
    pub fn build<'a>(block_tokens: u32, ids: u32, prompts: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut steps = Steps { all: Vec::new(), usual: vec![NO_NODE; ids as usize], others: HashMap::new() };
        let mut last = Vec::new();
        for prompt in prompts {
            let mut at = NO_NODE;
            for (depth, id) in (0..).zip(prompt) {
                at = steps.next(at, depth, *id);
            }
            last.push(at);
        }

        let mut nodes: Vec<TrieNode> = Vec::new();
        let mut node_of = vec![NO_NODE; steps.all.len()];
        for (index, step) in steps.all.iter().enumerate().filter(|(_, s)| s.passes > 1) {
            let parent = node_of.get(step.parent as usize).copied().unwrap_or(NO_NODE);
            // As many prompts as through the parent are the same prompts: no branch, no end between the two.
            let same = steps.all.get(step.parent as usize).is_some_and(|p| p.passes == step.passes);
            let node = match nodes.get_mut(parent as usize) {
                Some(stretch) if same => {
                    stretch.end = step.depth + 1;
                    parent
                }
                _ => {
                    nodes.push(TrieNode { parent, start: step.depth, end: step.depth + 1 });
                    nodes.len() as u32 - 1
                }
            };
            if let Some(slot) = node_of.get_mut(index) {
                *slot = node;
            }
        }

        // From the end of a prompt back over what it has for itself.
        let shared = |mut at: u32| loop {
            match steps.all.get(at as usize) {
                Some(step) if step.passes == 1 => at = step.parent,
                Some(_) => break node_of.get(at as usize).copied().unwrap_or(NO_NODE),
                None => break NO_NODE,
            }
        };
        let leaf = last.into_iter().map(shared).collect();
        Self { block_tokens, nodes, leaf }
    }

    /// Trace blocks that the prompts of two different requests have in common at their beginning. A prompt that ends
    /// within its last block counts that block.
    pub fn shared_blocks(&self, one: u32, other: u32) -> u32 {
        let leaf = |request: u32| self.leaf.get(request as usize).copied().unwrap_or(NO_NODE);
        let (mut a, mut b) = (leaf(one), leaf(other));
        loop {
            match (self.node(a), self.node(b)) {
                (Some(node), Some(_)) if a == b => return node.end,
                // Parents come before children, so the later of two nodes cannot be above the earlier.
                (Some(node), Some(_)) if a > b => a = node.parent,
                (Some(_), Some(node)) => b = node.parent,
                _ => return 0,
            }
        }
    }

    fn node(&self, index: NodeIndex) -> Option<&TrieNode> {
        self.nodes.get(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(prompts: &[Vec<u32>]) -> PromptTrie {
        let ids = prompts.iter().flatten().max().map_or(0, |m| m + 1);
        PromptTrie::build(512, ids, prompts.iter().map(Vec::as_slice))
    }

    #[test]
    fn stretches_end_where_prompts_part_or_end() {
        let trie = build(&[vec![0, 1, 2, 3, 4], vec![0, 1, 2, 5], vec![0, 1, 2], vec![0, 6], vec![7]]);
        assert_eq!(
            trie.nodes,
            [TrieNode { parent: NO_NODE, start: 0, end: 1 }, TrieNode { parent: 0, start: 1, end: 3 }]
        );
        assert_eq!(trie.leaf, [1, 1, 1, 0, NO_NODE]);
    }

    #[test]
    fn a_shorter_prompt_splits_the_stretch_of_longer_ones() {
        let trie = build(&[vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![0, 1]]);
        assert_eq!(
            trie.nodes,
            [TrieNode { parent: NO_NODE, start: 0, end: 2 }, TrieNode { parent: 0, start: 2, end: 4 }]
        );
        assert_eq!(trie.leaf, [1, 1, 0]);
    }

    #[test]
    fn the_same_id_after_another_one_is_another_place() {
        let trie = build(&[vec![0, 0, 1], vec![0, 1], vec![1, 0], vec![1]]);
        assert_eq!((trie.shared_blocks(0, 1), trie.shared_blocks(2, 3), trie.shared_blocks(0, 2)), (1, 1, 0));
    }

    proptest! {
        #[test]
        fn shared_blocks_equal_the_longest_common_beginning(
            prompts in prop::collection::vec(prop::collection::vec(0_u32..4, 1..9), 1..12),
        ) {
            let trie = build(&prompts);
            for (i, a) in prompts.iter().enumerate() {
                for (j, b) in prompts.iter().enumerate().filter(|(j, _)| *j != i) {
                    let naive = a.iter().zip(b).take_while(|(x, y)| x == y).count();
                    prop_assert_eq!(trie.shared_blocks(i as u32, j as u32) as usize, naive);
                }
            }
            for (index, node) in trie.nodes.iter().enumerate() {
                prop_assert!(node.start < node.end);
                match trie.nodes.get(node.parent as usize) {
                    Some(parent) => prop_assert!((node.parent as usize) < index && parent.end == node.start),
                    None => prop_assert!(node.parent == NO_NODE && node.start == 0),
                }
            }
        }
    }
}
