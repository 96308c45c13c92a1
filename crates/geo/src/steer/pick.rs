//! From candidates to addresses: rank, replace the dead, take the first n.

use std::net::IpAddr;

use super::{Addresses, AllDown, Choice, ClientPrefix, Family, Few, Located, SteerReason, Steering, rank};
use crate::health::{Bar, HealthView, Kept};

/// What is left of a question when its candidates are known.
pub(super) struct Question<'a> {
    /// At least one; each has an address of the family.
    pub(super) candidates: &'a [usize],
    pub(super) located: &'a Located,
    pub(super) client: &'a ClientPrefix,
    pub(super) family: Family,
    /// What is answered when none of them is up.
    pub(super) all_down: AllDown,
}

/// What is answered.
pub(super) struct Picked {
    pub(super) addresses: Addresses,
    /// The PoP of the first address.
    pub(super) first: Option<usize>,
    pub(super) reason: SteerReason,
    /// Whether the client's share decided anything, so that it holds for its /24 or /48 only.
    pub(super) by_share: bool,
    /// Whose addresses these are, in their order.
    pub(super) taken: Few<usize>,
    /// The order of preference that was walked down; reserves are not in it while they were not needed.
    pub(super) ranking: Few<Choice>,
    /// Whether a PoP of the ranking sheds this client.
    pub(super) is_shed: bool,
}

impl Picked {
    pub(super) fn nothing(reason: SteerReason) -> Self {
        let (addresses, taken, ranking) = (Addresses::new(), Few::new(), Few::new());
        Self { addresses, first: None, reason, by_share: false, taken, ranking, is_shed: false }
    }
}

impl Steering {
    pub(super) fn pick(&self, question: &Question<'_>, health: &HealthView) -> Picked {
        let forced = question.located.forced;
        // An override that names a reserve means it.
        let is_regular = |pop: usize| forced == Some(pop) || self.ranked.get(pop).is_some_and(|pop| pop.weight > 0);
        let (regular, reserve): (Few<usize>, Few<usize>) =
            question.candidates.iter().copied().partition(|pop| is_regular(*pop));
        let mut ranking = self.ranking(&regular, question);
        let picked = self.collect(&ranking, question, health, Bar::Wanted, true);
        let is_shed = picked.is_shed;
        if !picked.addresses.is_empty() {
            return Picked { ranking, ..picked };
        }
        if is_shed {
            // All that are up shed the client: it goes where it would have gone.
            let picked = self.collect(&ranking, question, health, Bar::Wanted, false);
            return Picked { ranking, by_share: true, ..picked };
        }
        let reserve = self.ranking(&reserve, question);
        let picked = self.collect(&reserve, question, health, Bar::Wanted, false);
        if !picked.addresses.is_empty() {
            ranking.extend(reserve);
            return Picked { reason: SteerReason::Reserve, ranking, ..picked };
        }
        if health.spares() {
            let all: Few<Choice> = ranking.iter().chain(&reserve).copied().collect();
            let picked = self.collect(&all, question, health, Bar::Alive, false);
            if !picked.addresses.is_empty() {
                return Picked { reason: SteerReason::Drained, ranking: all, ..picked };
            }
        }
        self.none_up(ranking, reserve, question, health)
    }

    /// None of the candidates is up: what the site's policy says.
    fn none_up(
        &self,
        mut ranking: Few<Choice>,
        reserve: Few<Choice>,
        question: &Question<'_>,
        health: &HealthView,
    ) -> Picked {
        let (reason, bar) = match question.all_down {
            AllDown::Nearest => (SteerReason::AllDown, Bar::Any),
            AllDown::LastKnown => {
                let candidates = question.candidates.iter().filter_map(|pop| self.pops.get(*pop));
                let addresses = candidates.flat_map(|pop| pop.addresses(question.family)).copied();
                (SteerReason::AllDownLastKnown, health.last_known(addresses))
            }
            AllDown::NoData | AllDown::Cname => {
                return Picked { ranking, ..Picked::nothing(SteerReason::AllDownNoData) };
            }
        };
        if ranking.is_empty() || question.all_down == AllDown::LastKnown {
            ranking.extend(reserve);
        }
        let picked = self.collect(&ranking, question, health, bar, false);
        Picked { reason, ranking, ..picked }
    }

    /// Whether a PoP sends this client on to the next, since its load is above its mark. What an operator sends to a PoP
    /// by an override stays there.
    pub(super) fn sheds(&self, pop: usize, question: &Question<'_>, health: &HealthView) -> Option<bool> {
        let kept = self.pops.get(pop).map_or(Kept::ALL, |pop| health.kept(&pop.id));
        if kept == Kept::ALL || question.located.forced == Some(pop) {
            return None;
        }
        let tag = self.ranked.get(pop).map_or(0, |ranked| ranked.shed_tag());
        // As evenly as 64 bits are; a PoP that keeps less sheds all that it shed before and more.
        Some(question.client.share(tag) % 1_000 >= u64::from(kept.thousandths()))
    }

    pub(super) fn ranking(&self, pops: &[usize], question: &Question<'_>) -> Few<Choice> {
        let mut ranking = rank::rank(&self.ranked, pops, question.located.point, question.client);
        let forced = ranking.iter().position(|choice| Some(choice.pop) == question.located.forced);
        if let Some(first) = forced.and_then(|at| ranking.get_mut(..=at)) {
            first.rotate_right(1);
        }
        ranking
    }

    /// Walks down a ranking until the answer is full.
    fn collect(
        &self,
        ranking: &[Choice],
        question: &Question<'_>,
        health: &HealthView,
        bar: Bar,
        sheds: bool,
    ) -> Picked {
        let mut picked = Picked::nothing(SteerReason::Nearest);
        for choice in ranking {
            if picked.addresses.len() >= self.answers {
                break;
            }
            // Also of the dead: their place in the ranking is that of their fallbacks.
            picked.by_share |= choice.by_share;
            for pop in self.replacements(choice.pop, question, health, bar) {
                if !picked.taken.contains(pop)
                    && question.candidates.contains(pop)
                    && self.passes(*pop, question.family, health, bar)
                {
                    if let Some(is_shed) = self.sheds(*pop, question, health).filter(|_| sheds) {
                        picked.by_share = true;
                        if is_shed {
                            picked.is_shed = true;
                            continue;
                        }
                    }
                    if picked.first.is_none() {
                        picked.first = Some(*pop);
                        picked.reason =
                            if picked.is_shed { SteerReason::Shed } else { self.reason(ranking, *pop, question) };
                    }
                    let before = picked.addresses.len();
                    self.take(*pop, question, health, bar, &mut picked);
                    if picked.addresses.len() > before {
                        picked.taken.push(*pop);
                    }
                }
            }
        }
        picked
    }

    /// The PoP itself, or when it is down its fallbacks.
    fn replacements<'a>(&'a self, pop: usize, question: &Question<'_>, health: &HealthView, bar: Bar) -> &'a [usize] {
        let Some(known) = self.pops.get(pop) else { return &[] };
        let passes = self.passes(pop, question.family, health, bar);
        if passes { std::slice::from_ref(&known.index) } else { &known.fallback }
    }

    pub(super) fn passes(&self, pop: usize, family: Family, health: &HealthView, bar: Bar) -> bool {
        self.pops.get(pop).is_some_and(|pop| pop.addresses(family).iter().any(|address| health.passes(*address, bar)))
    }

    /// Adds a PoP's living addresses: those of several nodes in the order of the client's shares, so that each node gets
    /// its part of the clients and a client keeps its node.
    fn take(&self, pop: usize, question: &Question<'_>, health: &HealthView, bar: Bar, picked: &mut Picked) {
        let Some(pop) = self.pops.get(pop) else { return };
        let mut living = pop.addresses(question.family).iter().copied().filter(|address| health.passes(*address, bar));
        let (Some(first), second) = (living.next(), living.next()) else { return };
        let room = self.answers.saturating_sub(picked.addresses.len());
        let Some(second) = second else {
            if room > 0 {
                picked.addresses.push(first);
            }
            return;
        };
        picked.by_share |= room > 0;
        let mut shared: Few<(u64, IpAddr)> = [first, second]
            .into_iter()
            .chain(living)
            .map(|address| (question.client.share(tag(address)), address))
            .collect();
        shared.sort_unstable();
        for (_, address) in shared.into_iter().take(room) {
            picked.addresses.push(address);
        }
    }

    fn reason(&self, ranking: &[Choice], chosen: usize, question: &Question<'_>) -> SteerReason {
        let preferred = ranking.first().map(|choice| choice.pop);
        let fallback = preferred.and_then(|pop| self.pops.get(pop)).map_or(&[][..], |pop| &pop.fallback);
        if preferred != Some(chosen) {
            return if fallback.contains(&chosen) { SteerReason::Fallback } else { SteerReason::NextNearest };
        }
        if question.located.forced == preferred { SteerReason::Override } else { SteerReason::Nearest }
    }
}

fn tag(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() as u64 ^ ((v6.to_bits() >> 64) as u64).rotate_left(29),
    }
}
