//! What part of its clients a PoP keeps when its load passes its marks: a controller of one PoP, for whoever hears loads.
//!
//! A PoP above its target loses clients in steps, and regains them in half steps when its load has stayed below the
//! target by the hysteresis. What a step does is seen only when resolvers have let go of the answers from before, so
//! that steps are [`settle_ms`] apart, and twice that on the way back. No step goes further than to the middle between
//! the marks, by the load that it leaves: the load of a PoP is in proportion to what it keeps of the clients that come
//! to it, wherever they come from. So a step never calls for its opposite, however heavy one step of clients is.
//!
//! Deliberately absent: clocks, and any knowledge of other PoPs. Where the clients go is the ranking's to say.

use perigee_protocol::model::PopLoad;

use crate::health::Kept;

/// A PoP always keeps this part of its clients, so that there is a load to go by.
const KEPT_MIN: f64 = 0.01;
/// Less is no change.
const CHANGE_MIN: f64 = 0.001;
/// Between a load and its being heard, in milliseconds: the nodes smooth it, and probes have their interval.
const LAG_MS: u64 = 10_000;

#[cfg(test)]
mod tests;

/// How long the effect of a step takes to be seen, in milliseconds. `ttl_ms` is that of steered answers: as long as
/// resolvers keep them; half of it more for those that keep them longer.
pub fn settle_ms(ttl_ms: u64) -> u64 {
    ttl_ms.saturating_mul(3) / 2 + LAG_MS
}

/// The controller of one PoP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shedder {
    kept: f64,
    /// When it last changed.
    changed_ms: Option<u64>,
    /// Since when there was no load above the lower mark.
    low_since_ms: Option<u64>,
}

impl Default for Shedder {
    /// Keeps all.
    fn default() -> Self {
        Self { kept: 1.0, changed_ms: None, low_since_ms: None }
    }
}

impl Shedder {
    /// What part of its clients the PoP keeps.
    pub fn kept(&self) -> Kept {
        Kept::of(self.kept)
    }

    /// Takes the PoP's load at a moment: 1.0 is all that it can bear. None: it says nothing, which in time counts as low.
    /// Says whether [`Shedder::kept`] is another now.
    ///
    /// `now_ms`: of any clock that does not go back; if it does, the next step comes later.
    pub fn hear(&mut self, now_ms: u64, load: Option<f64>, marks: &PopLoad, settle_ms: u64) -> bool {
        let before = self.kept();
        let load = load.filter(|load| load.is_finite() && *load >= 0.0);
        let is_low = load.is_none_or(|load| load < marks.target - marks.hysteresis);
        self.low_since_ms = is_low.then(|| self.low_since_ms.unwrap_or(now_ms));
        // What the PoP keeps when its load is in the middle between the marks.
        let middle = marks.target - marks.hysteresis / 2.0;
        let balanced = load.filter(|load| *load > 0.0).map(|load| self.kept * middle / load);
        if load.is_some_and(|load| load > marks.target) && self.has_rested(now_ms, settle_ms) {
            let is_beyond = load.is_some_and(|load| load > marks.max);
            let step = if is_beyond { 2.0 * marks.step } else { marks.step };
            self.set((self.kept - step).max(balanced.unwrap_or(0.0)).max(KEPT_MIN), now_ms);
        } else if self.low_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= 2 * settle_ms)
            && self.has_rested(now_ms, 2 * settle_ms)
        {
            self.set((self.kept + marks.step / 2.0).min(balanced.unwrap_or(1.0)).min(1.0), now_ms);
        }
        self.kept() != before
    }

    fn has_rested(&self, now_ms: u64, for_ms: u64) -> bool {
        self.changed_ms.is_none_or(|changed_ms| now_ms.saturating_sub(changed_ms) >= for_ms)
    }

    fn set(&mut self, kept: f64, now_ms: u64) {
        if (kept - self.kept).abs() >= CHANGE_MIN {
            self.kept = kept;
            self.changed_ms = Some(now_ms);
        }
    }
}
