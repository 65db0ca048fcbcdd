//! The KV pages of one SGLang scheduler: a pool, and a radix tree over those that later requests may find.
//!
//! A page is free, owned by one request, or in the tree. A node of the tree is a stretch of consecutive pages, named by
//! the content they hold (see [`PageKey`]); it is cut where prompts part. Requests *lock* the path they use. Unlocked
//! pages are evicted from the tail of the leaf that was used longest ago.
//!
//! Equal names mean equal content from the first page on, so a name occurs once in the tree, and a map from names to the
//! nodes that begin with them finds every child. Nothing here costs time per page.
//!
//! A run of pages becomes findable in `add_child` and `extend`, and is lost in [`RadixCache::evict`].

use std::collections::{BTreeSet, HashMap, HashSet};

use super::events::{BlockRun, KvEvents};
use super::prompts::Segment;

/// The node that every path starts from; it holds no pages.
pub const ROOT: u32 = 0;

/// Marks names of pages that only one request has.
const OWN: u64 = 1 << 32;

/// When a node was used last. All uses are ordered; no two nodes that could be evicted share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp {
    step: u64,
    order: u64,
}

impl Stamp {
    /// Uses with the tokens of a step come after all others before the next step.
    const WITH_TOKENS: u64 = 1 << 63;

    /// A use between the tokens of step `step - 1` and those of `step`; `sequence` grows from use to use.
    pub fn between(step: u64, sequence: u64) -> Self {
        Self { step, order: sequence & !Self::WITH_TOKENS }
    }

    /// A use by the running request with number `joined` when its token of `step` completes a page.
    pub fn with_token(step: u64, joined: u64) -> Self {
        Self { step, order: joined | Self::WITH_TOKENS }
    }
}

/// The names of a request's pages: those it may share with others, from the first on, then its own.
#[derive(Debug, Clone, Copy)]
pub struct PageKey<'a> {
    path: &'a [Segment],
    request: u32,
}

impl<'a> PageKey<'a> {
    /// The key of `request`, whose pages others may have too are `path`.
    pub fn new(path: &'a [Segment], request: u32) -> Self {
        Self { path, request }
    }

    /// Pages others may have too.
    pub fn shared(self) -> u32 {
        self.path.last().map_or(0, |segment| segment.hi)
    }

    /// Name of page `page`, and one past the last page with that name.
    fn name(self, page: u32) -> (u64, u32) {
        let index = self.path.partition_point(|segment| segment.hi <= page);
        match self.path.get(index) {
            Some(segment) => (u64::from(segment.node), segment.hi),
            None => (u64::from(self.request) | OWN, u32::MAX),
        }
    }

    /// What tells page `page`, with everything before it, from other content.
    pub fn identity(self, page: u32) -> (u64, u32) {
        (self.name(page).0, page)
    }

    /// Appends the names of pages `lo..hi`.
    fn runs(self, lo: u32, hi: u32, runs: &mut Vec<Run>) {
        let mut at = lo;
        while at < hi {
            let (name, end) = self.name(at);
            let end = end.min(hi);
            match runs.last_mut() {
                Some(last) if last.name == name && last.hi == at => last.hi = end,
                _ => runs.push(Run { name, hi: end }),
            }
            at = end;
        }
    }
}

/// Consecutive pages with one name, up to `hi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    name: u64,
    hi: u32,
}

#[derive(Debug, Clone)]
struct Node {
    parent: u32,
    /// First page.
    lo: u32,
    /// One past the last page.
    hi: u32,
    runs: Vec<Run>,
    children: u32,
    /// Requests whose path leads through it.
    locks: u32,
    used: Stamp,
}

impl Node {
    fn pages(&self) -> u32 {
        self.hi - self.lo
    }

    fn is_evictable_leaf(&self) -> bool {
        self.locks == 0 && self.children == 0
    }

    /// The parts of pages `lo..hi`, all of this node, that others may have too.
    fn shared_runs(&self, lo: u32, hi: u32) -> impl Iterator<Item = BlockRun> + '_ {
        let begins = std::iter::once(self.lo).chain(self.runs.iter().map(|run| run.hi));
        begins.zip(&self.runs).filter_map(move |(begin, run)| {
            let node = u32::try_from(run.name).ok()?;
            let (lo, hi) = (begin.max(lo), run.hi.min(hi));
            (lo < hi).then_some(BlockRun { node, lo, hi })
        })
    }
}

/// A stretch of pages in the tree, as somebody sees it who looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RadixNode {
    /// Number of the node.
    pub id: u32,
    /// Number of the node before it, [`ROOT`] for none.
    pub parent: u32,
    /// Its pages.
    pub pages: u32,
    /// Requests whose path leads through it.
    pub locks: u32,
    /// Name of the first page, where others may have it too.
    pub name: Option<u32>,
}

/// All KV pages of one scheduler.
#[derive(Debug)]
pub struct RadixCache {
    capacity: u32,
    free: u32,
    /// Pages of unlocked nodes.
    evictable: u32,
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    /// Nodes by the identity of their first page.
    first: HashMap<(u64, u32), u32>,
    /// Unlocked nodes without children; the longest unused first.
    leaves: BTreeSet<(Stamp, u32)>,
    changes: u64,
    evicted: u64,
    /// What a router should know.
    pub events: KvEvents,
}

impl RadixCache {
    /// An empty pool of `capacity` pages.
    pub fn new(capacity: u32) -> Self {
        let root = Node { parent: ROOT, lo: 0, hi: 0, runs: Vec::new(), children: 0, locks: 0, used: Stamp::default() };
        Self {
            capacity,
            free: capacity,
            evictable: 0,
            nodes: vec![root],
            vacant: Vec::new(),
            first: HashMap::new(),
            leaves: BTreeSet::new(),
            changes: 0,
            evicted: 0,
            events: KvEvents::default(),
        }
    }

    /// Pages in all.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Pages that hold nothing.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// Pages kept only for reuse.
    pub fn evictable(&self) -> u32 {
        self.evictable
    }

    /// Pages evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Pages owned by requests, those they share included.
    pub fn active(&self) -> u32 {
        self.capacity - self.free - self.evictable
    }

    /// Pages that could be had: free ones and, by eviction, those kept for reuse.
    pub fn obtainable(&self) -> u32 {
        self.free + self.evictable
    }

    /// Pages in the tree by the stretch they belong to: those that requests use in a stable order, then the others, the
    /// last used first.
    pub fn nodes(&self) -> Vec<RadixNode> {
        let vacant: HashSet<u32> = self.vacant.iter().copied().collect();
        let mut nodes: Vec<(bool, Stamp, RadixNode)> = (1..)
            .zip(&self.nodes[1..])
            .filter(|(id, _)| !vacant.contains(id))
            .map(|(id, node)| {
                let name = node.runs.first().and_then(|run| u32::try_from(run.name).ok());
                let shown = RadixNode { id, parent: node.parent, pages: node.pages(), locks: node.locks, name };
                (node.locks == 0, node.used, shown)
            })
            .collect();
        nodes.sort_by(|(unlocked, used, node), (other_unlocked, other_used, other)| {
            let by_use = if *unlocked { other_used.cmp(used) } else { std::cmp::Ordering::Equal };
            unlocked.cmp(other_unlocked).then(by_use).then(node.id.cmp(&other.id))
        });
        nodes.into_iter().map(|(_, _, node)| node).collect()
    }

    /// Grows whenever content becomes findable or is evicted.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes free pages for a request, all or none; returns whether there were enough.
    pub fn take(&mut self, pages: u32) -> bool {
        let enough = pages <= self.free;
        if enough {
            self.free -= pages;
        }
        enough
    }

    /// Gives back pages of a request that are not in the tree.
    pub fn give(&mut self, pages: u32) {
        self.free += pages;
    }

    /// Longest resident prefix of the first `pages` pages: their number and the node that ends with them. A node that
    /// holds more is cut there. Marks what was found as used.
    pub fn find(&mut self, key: PageKey<'_>, pages: u32, stamp: Stamp) -> (u32, u32) {
        let (mut at, mut node) = (0, ROOT);
        while at < pages {
            let Some(&child) = self.first.get(&key.identity(at)) else { break };
            at = self.common(child, key, pages);
            if at < self.nodes[child as usize].hi {
                return (at, self.split(child, at));
            }
            self.touch(child, stamp);
            node = child;
        }
        (at, node)
    }

    /// Number of resident pages at the beginning of the first `pages` pages; changes nothing.
    pub fn count(&self, key: PageKey<'_>, pages: u32) -> u32 {
        let mut at = 0;
        while at < pages {
            let Some(&child) = self.first.get(&key.identity(at)) else { break };
            at = self.common(child, key, pages);
            if at < self.nodes[child as usize].hi {
                break;
            }
        }
        at
    }

    /// Where `key` and the pages of `node`, the first of which they have in common, part; at most `end`.
    fn common(&self, node: u32, key: PageKey<'_>, end: u32) -> u32 {
        let node = &self.nodes[node as usize];
        let mut at = node.lo;
        for run in &node.runs {
            let (name, hi) = key.name(at);
            if name != run.name {
                break;
            }
            let stop = hi.min(run.hi).min(end);
            at = stop;
            if stop < run.hi {
                break;
            }
        }
        at
    }

    /// Cuts `node` at page `at`; returns the new node that holds the front part.
    fn split(&mut self, node: u32, at: u32) -> u32 {
        let back = &mut self.nodes[node as usize];
        let cut = back.runs.partition_point(|run| run.hi <= at);
        let rest = back.runs.split_off(cut);
        let mut runs = std::mem::replace(&mut back.runs, rest);
        let begins = if cut == 0 { back.lo } else { runs[cut - 1].hi };
        if begins < at
            && let Some(run) = back.runs.first()
        {
            runs.push(Run { name: run.name, hi: at });
        }
        let identity = |node: &Node| (node.runs[0].name, node.lo);
        let front =
            Node { parent: back.parent, lo: back.lo, hi: at, runs, children: 1, locks: back.locks, used: back.used };
        back.lo = at;
        let (front_first, back_first) = (identity(&front), identity(back));
        let id = self.new_node(front);
        self.nodes[node as usize].parent = id;
        self.first.insert(front_first, id);
        self.first.insert(back_first, node);
        id
    }

    fn new_node(&mut self, node: Node) -> u32 {
        if let Some(id) = self.vacant.pop() {
            self.nodes[id as usize] = node;
            id
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        }
    }

    /// Marks a node as used; a stamp earlier than the last use changes nothing.
    fn touch(&mut self, node: u32, stamp: Stamp) {
        let n = &mut self.nodes[node as usize];
        let before = n.used;
        if stamp <= before {
            return;
        }
        n.used = stamp;
        if n.is_evictable_leaf() && self.leaves.remove(&(before, node)) {
            self.leaves.insert((stamp, node));
        }
    }

    /// Marks the path that ends with `node` as used; its request has locked it.
    pub fn mark_used(&mut self, node: u32, stamp: Stamp) {
        let mut at = node;
        while at != ROOT {
            let n = &mut self.nodes[at as usize];
            n.used = n.used.max(stamp);
            at = n.parent;
        }
    }

    /// Protects the path that ends with `node`.
    pub fn lock(&mut self, node: u32) {
        self.move_lock(ROOT, node);
    }

    /// Extends a lock on the path that ends with `from` to `to`, which lies below.
    pub fn move_lock(&mut self, from: u32, to: u32) {
        let mut at = to;
        while at != from && at != ROOT {
            let n = &mut self.nodes[at as usize];
            n.locks += 1;
            if n.locks == 1 {
                self.evictable -= n.pages();
                if n.children == 0 {
                    self.leaves.remove(&(n.used, at));
                }
            }
            at = n.parent;
        }
    }

    /// Gives up the lock on the path that ends with `node`; its request used all of it at `stamp`.
    pub fn unlock(&mut self, node: u32, stamp: Stamp) {
        let mut at = node;
        while at != ROOT {
            let n = &mut self.nodes[at as usize];
            n.used = n.used.max(stamp);
            n.locks -= 1;
            if n.locks == 0 {
                self.evictable += n.pages();
                if n.children == 0 {
                    self.leaves.insert((n.used, at));
                }
            }
            at = n.parent;
        }
    }

    /// Puts pages `lo..hi` of a request, which has locked the path up to `from` and owns these pages, into the tree.
    /// Where the tree has the content already, the request's pages are given back. Returns the node that ends with them.
    ///
    /// The path up to `from` counts as used too. That is left to the caller, who may tell so once for many insertions:
    /// with [`Self::mark_used`], or when it unlocks the path.
    pub fn insert(&mut self, from: u32, key: PageKey<'_>, lo: u32, hi: u32, stamp: Stamp) -> u32 {
        let (mut node, mut at) = (from, lo);
        while at < hi {
            let n = &self.nodes[node as usize];
            let alone = n.locks == 0 || (node == from && n.locks == 1);
            if node != ROOT && n.children == 0 && alone {
                self.extend(node, key, hi, stamp);
                return node;
            }
            let Some(&child) = self.first.get(&key.identity(at)) else {
                return self.add_child(node, key, at, hi, stamp);
            };
            let end = self.common(child, key, hi);
            self.free += end - at;
            at = end;
            if end < self.nodes[child as usize].hi {
                node = self.split(child, end);
                if at < hi {
                    return self.add_child(node, key, at, hi, stamp);
                }
            } else {
                self.touch(child, stamp);
                node = child;
            }
        }
        node
    }

    fn add_child(&mut self, parent: u32, key: PageKey<'_>, lo: u32, hi: u32, stamp: Stamp) -> u32 {
        let mut runs = Vec::new();
        key.runs(lo, hi, &mut runs);
        let node = Node { parent, lo, hi, runs, children: 0, locks: 0, used: stamp };
        node.shared_runs(lo, hi).for_each(|run| self.events.stored(run));
        let id = self.new_node(node);
        self.nodes[parent as usize].children += 1;
        self.first.insert(key.identity(lo), id);
        self.leaves.insert((stamp, id));
        self.evictable += hi - lo;
        self.changes += 1;
        id
    }

    /// Appends the pages up to `hi` to a leaf.
    fn extend(&mut self, leaf: u32, key: PageKey<'_>, hi: u32, stamp: Stamp) {
        let n = &mut self.nodes[leaf as usize];
        key.runs(n.hi, hi, &mut n.runs);
        n.shared_runs(n.hi, hi).for_each(|run| self.events.stored(run));
        if n.locks == 0 {
            self.evictable += hi - n.hi;
        }
        n.hi = hi;
        self.touch(leaf, stamp);
        self.changes += 1;
    }

    /// Evicts up to `pages` pages: from the tail of the leaf unused longest, then of the next one.
    pub fn evict(&mut self, pages: u32) {
        let mut left = pages;
        while left > 0
            && let Some(&(used, leaf)) = self.leaves.first()
        {
            self.changes += 1;
            let n = &mut self.nodes[leaf as usize];
            let gone = n.pages().min(left);
            left -= gone;
            self.free += gone;
            self.evictable -= gone;
            self.evicted += u64::from(gone);
            n.shared_runs(n.hi - gone, n.hi).for_each(|run| self.events.removed(run));
            if gone < n.pages() {
                n.hi -= gone;
                let keep = n.runs.partition_point(|run| run.hi < n.hi);
                n.runs.truncate(keep + 1);
                if let Some(last) = n.runs.last_mut() {
                    last.hi = n.hi;
                }
                continue;
            }
            self.leaves.remove(&(used, leaf));
            self.first.remove(&(n.runs[0].name, n.lo));
            let parent = n.parent;
            self.vacant.push(leaf);
            let above = &mut self.nodes[parent as usize];
            above.children -= 1;
            if parent != ROOT && above.is_evictable_leaf() {
                self.leaves.insert((above.used, parent));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A path of shared pages: node `n` covers the next `pages` pages.
    fn path(parts: &[(u32, u32)]) -> Vec<Segment> {
        let mut lo = 0;
        let segment = |&(node, pages): &(u32, u32)| {
            let segment = Segment { node, lo, hi: lo + pages };
            lo += pages;
            segment
        };
        parts.iter().map(segment).collect()
    }

    /// A request that computes `pages` pages, caches all of them and leaves, at times from `at` on.
    fn visit(cache: &mut RadixCache, key: PageKey<'_>, pages: u32, at: u64) -> u32 {
        let (found, node) = cache.find(key, pages, Stamp::between(at, 0));
        cache.lock(node);
        cache.evict((pages - found).saturating_sub(cache.free()));
        assert!(cache.take(pages - found));
        let end = cache.insert(node, key, found, pages, Stamp::between(at, 1));
        cache.mark_used(node, Stamp::between(at, 1));
        cache.move_lock(node, end);
        cache.unlock(end, Stamp::default());
        found
    }

    #[test]
    fn the_tail_of_the_leaf_unused_longest_goes_first_and_a_stem_after_its_branches() {
        let mut cache = RadixCache::new(12);
        let (a, b) = (path(&[(0, 4), (1, 4)]), path(&[(0, 4), (2, 4)]));
        let (a, b) = (PageKey::new(&a, 0), PageKey::new(&b, 1));
        assert_eq!(visit(&mut cache, a, 8, 0), 0);
        assert_eq!(visit(&mut cache, b, 8, 1), 4);
        assert_eq!((cache.free(), cache.evictable()), (0, 12));
        cache.evict(3);
        assert_eq!((cache.count(a, 8), cache.count(b, 8)), (5, 8));
        cache.evict(3);
        // The branch of `a` is gone; its stem is still that of `b`, which was used later.
        assert_eq!((cache.count(a, 8), cache.count(b, 8)), (4, 6));
        cache.evict(20);
        assert_eq!((cache.count(b, 8), cache.free()), (0, 12));
    }

    #[test]
    fn a_locked_path_is_not_evicted_and_pages_computed_twice_are_given_back() {
        let mut cache = RadixCache::new(10);
        let own = PageKey::new(&[], 7);
        let shared = path(&[(3, 4)]);
        let (one, two) = (PageKey::new(&shared, 0), PageKey::new(&shared, 1));
        // Both compute the same four pages at the same time.
        assert!(cache.take(8));
        let first = cache.insert(ROOT, one, 0, 4, Stamp::between(0, 1));
        cache.lock(first);
        let second = cache.insert(ROOT, two, 0, 4, Stamp::between(0, 2));
        assert_eq!((first, cache.free()), (second, 6));
        cache.evict(10);
        assert_eq!((cache.count(one, 4), cache.free()), (4, 6));
        assert_eq!(cache.count(own, 4), 0);
        cache.unlock(first, Stamp::between(0, 3));
        cache.evict(10);
        assert_eq!(cache.free(), 10);
    }

    /// The books of the cache against its nodes.
    fn check_books(cache: &RadixCache, private: u32) -> Result<(), TestCaseError> {
        let live = |id: &u32| *id != ROOT && !cache.vacant.contains(id);
        let ids: Vec<u32> = (0..cache.nodes.len() as u32).filter(live).collect();
        let pages = |filter: &dyn Fn(&Node) -> bool| -> u32 {
            ids.iter().map(|id| &cache.nodes[*id as usize]).filter(|n| filter(n)).map(Node::pages).sum()
        };
        prop_assert_eq!(pages(&|_| true) + cache.free + private, cache.capacity);
        prop_assert_eq!(pages(&|n| n.locks == 0), cache.evictable);
        let mut leaves = BTreeSet::new();
        for &id in &ids {
            let n = &cache.nodes[id as usize];
            prop_assert!(n.lo < n.hi && n.runs.last().is_some_and(|run| run.hi == n.hi), "{n:?}");
            prop_assert_eq!(cache.first.get(&(n.runs[0].name, n.lo)), Some(&id));
            prop_assert_eq!(ids.iter().filter(|c| cache.nodes[**c as usize].parent == id).count() as u32, n.children);
            if n.parent != ROOT {
                let above = &cache.nodes[n.parent as usize];
                prop_assert!(above.hi == n.lo && above.locks >= n.locks, "{n:?} below {above:?}");
            }
            if n.is_evictable_leaf() {
                leaves.insert((n.used, id));
            }
        }
        prop_assert_eq!(&leaves, &cache.leaves);
        prop_assert_eq!(cache.first.len(), ids.len());
        Ok(())
    }

    proptest! {
        #[test]
        fn the_books_agree_with_the_tree_whatever_happens(
            // Which of four paths, how many pages, how many of them the request holds on to, pages to evict.
            steps in prop::collection::vec((0..4_usize, 1..14_u32, any::<bool>(), 0..6_u32), 1..60),
        ) {
            let paths = [
                path(&[(0, 3), (1, 4)]),
                path(&[(0, 3), (1, 4), (2, 2)]),
                path(&[(0, 3), (3, 5)]),
                path(&[(4, 2)]),
            ];
            let mut cache = RadixCache::new(40);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (at, (which, pages, holds, evict)) in (0..).zip(steps) {
                let key = PageKey::new(&paths[which], at as u32);
                let before = cache.count(key, pages);
                let (found, node) = cache.find(key, pages, Stamp::between(at, 0));
                prop_assert_eq!(found, before);
                cache.lock(node);
                let fresh = pages - found;
                if fresh > cache.obtainable() {
                    cache.unlock(node, Stamp::default());
                    if let Some((node, _)) = held.pop() {
                        cache.unlock(node, Stamp::between(at, 1));
                    }
                } else {
                    cache.evict(fresh.saturating_sub(cache.free()));
                    prop_assert!(cache.take(fresh));
                    check_books(&cache, fresh)?;
                    let end = cache.insert(node, key, found, pages, Stamp::between(at, 1));
                    cache.mark_used(node, Stamp::between(at, 1));
                    cache.move_lock(node, end);
                    prop_assert_eq!(cache.count(key, pages), pages);
                    if holds {
                        held.push((end, pages));
                    } else {
                        cache.unlock(end, Stamp::default());
                    }
                }
                cache.evict(evict);
                check_books(&cache, 0)?;
            }
            for (node, _) in held {
                cache.unlock(node, Stamp::default());
            }
            cache.evict(40);
            prop_assert_eq!((cache.free(), cache.first.len()), (40, 0));
        }
    }
}
