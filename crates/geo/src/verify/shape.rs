//! Whether the nodes of a search tree are a tree, so that a walk over all of it ends.
//!
//! Nodes that are reached in two ways double what is below them, a few dozen of them in a row make a walk of centuries out
//! of a file of a kilobyte, and a node that is below itself makes an endless one. Writers share one node only: the root of
//! IPv4, to which the prefixes that embed IPv4 addresses lead too. Files that share more are walked to be sure.

use super::{Offsets, split_node};

/// A walk may visit each node so many times: the root of IPv4 has four ways to it.
const VISITS_PER_NODE_MAX: usize = 8;
/// IPv4's root in a tree of IPv6 is below so many zeros.
const IPV4_DEPTH: u8 = 96;
/// Prefixes that embed IPv4 addresses: IPv4-mapped (RFC 4291), translated (RFC 6052), Teredo (RFC 4380), 6to4 (RFC 3056).
const ALIASES: [(u128, u8); 4] =
    [(0xFFFF << 32, 96), (0x0064_FF9B << 96, 96), (0x2001_0000 << 96, 32), (0x2002 << 112, 16)];

/// Looks at every reference of one node to another, in any order.
pub(super) struct Shape<'a> {
    tree: &'a [u8],
    node_bytes: usize,
    nodes: usize,
    /// 32 or 128.
    depth_max: u8,
    /// 0: there is none, since the root is nobody's child.
    ipv4_root: usize,
    seen: Offsets,
    to_ipv4_root_n: usize,
    is_odd: bool,
}

impl<'a> Shape<'a> {
    pub(super) fn new(tree: &'a [u8], node_bytes: usize, nodes: usize, is_ipv6: bool) -> Self {
        let (seen, depth_max) = (Offsets::new(nodes), if is_ipv6 { 128 } else { 32 });
        let mut shape =
            Self { tree, node_bytes, nodes, depth_max, ipv4_root: 0, seen, to_ipv4_root_n: 0, is_odd: false };
        if is_ipv6 {
            shape.ipv4_root = shape.below(0, IPV4_DEPTH).unwrap_or(0);
        }
        shape
    }

    /// Some node has `child`, which is another node's number.
    pub(super) fn meet(&mut self, child: usize) {
        if child == self.ipv4_root {
            self.to_ipv4_root_n += 1;
        } else if self.seen.contains(child) {
            self.is_odd = true;
        }
        self.is_odd |= child == 0;
        self.seen.insert(child);
    }

    /// After all references were met.
    pub(super) fn is_walkable(&self) -> bool {
        let aliases = ALIASES.iter().filter(|(bits, len)| self.below(*bits, *len) == Some(self.ipv4_root)).count();
        // One is the way along the zeros. All others come from outside of IPv4's own part when they are these.
        let is_tree = !self.is_odd && (self.ipv4_root == 0 || self.to_ipv4_root_n == 1 + aliases);
        is_tree || self.walk_ends()
    }

    /// The node below the first `len` of `bits`; None: they lead out of the tree before.
    fn below(&self, bits: u128, len: u8) -> Option<usize> {
        (0..len).try_fold(0, |node, depth| {
            let [left, right] = self.children(node)?;
            let child = if bits >> (127 - depth) & 1 == 0 { left } else { right };
            Some(child).filter(|child| *child < self.nodes)
        })
    }

    fn children(&self, node: usize) -> Option<[usize; 2]> {
        let start = node.checked_mul(self.node_bytes)?;
        let bytes = self.tree.get(start..start.checked_add(self.node_bytes)?)?;
        let [left, right] = split_node(bytes);
        Some([usize::try_from(left).ok()?, usize::try_from(right).ok()?])
    }

    fn walk_ends(&self) -> bool {
        let mut visits_left = self.nodes.saturating_mul(VISITS_PER_NODE_MAX);
        let mut todo = vec![(0, 0)];
        while let Some((node, depth)) = todo.pop() {
            if visits_left == 0 {
                return false;
            }
            visits_left -= 1;
            let children = self.children(node).filter(|_| depth < self.depth_max);
            let inner = children.into_iter().flatten().filter(|child| *child < self.nodes);
            todo.extend(inner.map(|child| (child, depth + 1)));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes as pairs of children; numbers not below the count are leaves.
    fn check(is_ipv6: bool, nodes: &[[u32; 2]], expected: bool) {
        let tree: Vec<u8> = nodes.iter().flatten().flat_map(|record| record.to_be_bytes()).collect();
        let mut shape = Shape::new(&tree, 8, nodes.len(), is_ipv6);
        for child in nodes.iter().flatten().map(|child| *child as usize).filter(|child| *child < nodes.len()) {
            shape.meet(child);
        }
        assert_eq!(shape.is_walkable(), expected, "{nodes:?}");
    }

    /// A line of nodes down `len` zeros, and then `rest`, whose nodes count from there.
    fn line(len: u32, rest: &[[u32; 2]]) -> Vec<[u32; 2]> {
        let line = (1..=len).map(|next| [next, u32::MAX]);
        line.chain(rest.iter().copied()).collect()
    }

    #[test]
    fn trees() {
        for is_ipv6 in [false, true] {
            check(is_ipv6, &[[9, 9]], true);
            check(is_ipv6, &[[1, 2], [9, 9], [9, 9]], true);
            // Parents after their children are no fault.
            check(is_ipv6, &[[2, 9], [9, 9], [1, 9]], true);
            // Shared once, which doubles little.
            check(is_ipv6, &[[1, 1], [9, 9]], true);
        }
        // 6to4: 0010 0000 0000 0010 leads to the root of IPv4.
        let mut embedded = line(96, &[[999, 999]]);
        embedded[0] = [1, 100];
        embedded[2] = [3, 97];
        embedded.extend([[999, 999]; 3]);
        let six_to_four = 0x2002_u16;
        let first = embedded.len() as u32;
        // Below the two zeros lies 1 in place of 97 above.
        embedded[2][1] = first;
        embedded[0] = [1, u32::MAX];
        for depth in 3..16 {
            let next = if depth == 15 { 96 } else { embedded.len() as u32 + 1 };
            let bit = usize::from(six_to_four >> (15 - depth) & 1);
            let mut node = [u32::MAX; 2];
            node[bit] = next;
            embedded.push(node);
        }
        check(true, &embedded, true);
    }

    #[test]
    fn tangles() {
        for is_ipv6 in [false, true] {
            check(is_ipv6, &[[0, 0]], false);
            check(is_ipv6, &[[1, 9], [1, 1]], false);
            check(is_ipv6, &[[1, 9], [0, 0]], false);
        }
        // Both children are the next node: 2^30 ways down.
        let doubled: Vec<[u32; 2]> = (1..=30).map(|next| [next, next]).collect();
        check(false, &doubled, false);
        // The root of IPv4 is below itself, twice.
        check(true, &line(96, &[[97, 97], [96, 96]]), false);
    }

    /// A node of one child that is itself is walked down to the last bit, and no further.
    #[test]
    fn a_loop_of_one_way_ends() {
        let padding = vec![[u32::MAX; 2]; 30];
        let nodes: Vec<[u32; 2]> = [[[1, u32::MAX], [u32::MAX, 1]].as_slice(), &padding].concat();
        check(false, &nodes, true);
        check(true, &nodes, true);
    }
}
