//! Which addresses are up, as data: whoever probes makes a view and swaps it in; steering only reads.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// Which addresses are down at one moment. Cheap to clone. Everything that it does not name is up, so that a nameserver
/// that has not probed yet answers as if all were well.
#[derive(Clone, Debug, Default)]
pub struct HealthView {
    generation: u64,
    down: Arc<HashSet<IpAddr>>,
}

impl HealthView {
    /// The view in which these addresses are down. `generation` grows with every change; answers that depend on health
    /// may be kept as long as it stays.
    pub fn new(generation: u64, down: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { generation, down: Arc::new(down.into_iter().collect()) }
    }

    /// Counts the changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether an address may be answered.
    pub fn is_up(&self, address: IpAddr) -> bool {
        self.down.is_empty() || !self.down.contains(&address)
    }

    /// The addresses that are down, in no order.
    pub fn down(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.down.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_unless_named() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(HealthView::default().is_up(a));
        let view = HealthView::new(3, [a]);
        assert!(!view.is_up(a) && view.is_up(b));
        assert_eq!((view.generation(), view.down().collect::<Vec<_>>()), (3, vec![a]));
    }
}
