//! What has been purged: bounded, and never forgetting.

use std::collections::{BTreeMap, HashMap};

use super::{
    By, Kind, Seq, Verdict,
    scope::{Length, Subject, Target},
};

/// URLs, prefixes and surrogate keys that a ledger tells apart. One more, and the oldest stands for its whole site.
pub const ENTRIES_MAX: usize = 65_536;
/// URLs that were invalidated by an unsafe method, beside the others. One more, and the oldest is forgotten: what it stood for
/// was removed from the store as well.
pub const LOCAL_MAX: usize = 16_384;
/// Sites that a ledger tells apart. One more, and the one that was not purged for longest stands for all.
pub const SITES_MAX: usize = 4096;
/// Lengths of prefixes of one site: each is one look-up. One more, and those not used for longest stand for the whole site.
pub const PREFIX_LENGTHS_MAX: usize = 64;

/// The highest purges of something. Zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) hard: Seq,
    pub(super) soft: Seq,
}

impl Marks {
    fn raise(&mut self, kind: Kind, seq: Seq) {
        match kind {
            Kind::Hard => self.hard = self.hard.max(seq),
            Kind::Soft => self.soft = self.soft.max(seq),
        }
    }

    fn join(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    pub(super) fn latest(self) -> Seq {
        self.hard.max(self.soft)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) marks: Marks,
    /// The last invalidation by an unsafe method.
    pub(super) local: Seq,
    /// Where it stands among all entries by age.
    place: (Seq, u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) purged: Marks,
    /// Of entries that were folded.
    pub(super) floor: Marks,
    /// Of anything in this site.
    pub(super) latest: Seq,
    /// Of any surrogate key, those that were folded included.
    pub(super) tags: Marks,
    /// The lengths that prefixes have, with how many there are and the latest purge of one.
    pub(super) lengths: BTreeMap<Length, (usize, Seq)>,
}

/// Everything that was purged, by the highest number of each URL, prefix, surrogate key and site.
///
/// Bounded: what is too much folds into a floor of its site (of all, for sites), which hides more and never less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    pub(super) applied: Seq,
    /// The highest number of anything that is kept.
    latest: Seq,
    pub(super) all: Marks,
    pub(super) floor: Marks,
    pub(super) sites: HashMap<u64, Site>,
    pub(super) slots: HashMap<Target, Slot>,
    /// Oldest first.
    pub(super) order: BTreeMap<(Seq, u64), Target>,
    /// Those that were only invalidated, oldest first.
    pub(super) locals: BTreeMap<(Seq, u64), Target>,
    places: u64,
    pub(super) folds: u64,
    entries_max: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::with_entries_max(ENTRIES_MAX)
    }
}

impl Ledger {
    /// An empty ledger that tells fewer entries apart than [`ENTRIES_MAX`].
    pub fn with_entries_max(entries_max: usize) -> Self {
        Self {
            applied: Seq::ZERO,
            latest: Seq::ZERO,
            all: Marks::default(),
            floor: Marks::default(),
            sites: HashMap::new(),
            slots: HashMap::new(),
            order: BTreeMap::new(),
            locals: BTreeMap::new(),
            places: 0,
            folds: 0,
            entries_max: entries_max.max(1),
        }
    }

    /// A ledger of which nothing is known but that it had reached at most `seq`: whatever was stored by then is hidden.
    pub fn unknown_until(seq: Seq) -> Self {
        let floor = Marks { hard: seq, soft: Seq::ZERO };
        Self { applied: seq, latest: seq, floor, ..Self::default() }
    }

    /// How far purges have been applied: the fence of a fill that begins now.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// The highest purge that matches anything: no fill with this fence or a higher one was purged.
    pub fn latest(&self) -> Seq {
        self.latest
    }

    /// Goes on counting behind `seq`: after a restart, behind whatever number a fence may have that nothing is known of.
    pub fn advance(&mut self, seq: Seq) {
        self.applied = self.applied.max(seq);
    }

    /// URLs, prefixes and surrogate keys told apart.
    pub fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Entries that were folded into a floor since the ledger began.
    pub fn folds(&self) -> u64 {
        self.folds
    }

    /// Applies one purge of all `targets`. `seq` is above all before it; an older one changes nothing that a newer has said.
    pub fn apply(&mut self, seq: Seq, kind: Kind, targets: &[Target]) {
        self.applied = self.applied.max(seq);
        for target in targets {
            let mut marks = Marks::default();
            marks.raise(kind, seq);
            self.mark(*target, marks, Seq::ZERO);
        }
    }

    /// Applies what a node itself found invalid and removed from its store (blueprint 5, rule 10): as hard, but remembered
    /// only as long as a removal may still be under way.
    pub fn apply_local(&mut self, seq: Seq, targets: &[Target]) {
        self.applied = self.applied.max(seq);
        for target in targets {
            self.mark(*target, Marks::default(), seq);
        }
    }

    pub(super) fn see(&mut self, seq: Seq) {
        self.latest = self.latest.max(seq);
    }

    pub(super) fn mark(&mut self, target: Target, mut marks: Marks, local: Seq) {
        if !matches!(target, Target::Url(..)) {
            marks.raise(Kind::Hard, local);
        }
        let latest = marks.latest().max(local);
        self.see(latest);
        let site = match target {
            Target::Everything => {
                self.all.join(marks);
                return;
            }
            Target::Site(site) | Target::Url(site, _) | Target::Prefix(site, ..) | Target::Tag(site, _) => site,
        };
        self.make_room_for_site(site);
        let of_site = self.sites.entry(site).or_default();
        of_site.latest = of_site.latest.max(latest);
        match target {
            Target::Everything => return,
            Target::Site(_) => {
                of_site.purged.join(marks);
                return;
            }
            Target::Url(..) => {}
            Target::Tag(..) => of_site.tags.join(marks),
            Target::Prefix(_, length, _) => {
                let is_new = !self.slots.contains_key(&target);
                let (count, latest) = of_site.lengths.entry(length).or_default();
                *count += usize::from(is_new);
                *latest = (*latest).max(marks.latest());
            }
        }
        self.put(target, marks, local);
        if matches!(target, Target::Prefix(..)) {
            self.fold_lengths(site);
        }
        while self.order.len() > self.entries_max {
            self.fold_oldest();
        }
        while self.locals.len() > LOCAL_MAX
            && let Some((_, oldest)) = self.locals.pop_first()
        {
            self.slots.remove(&oldest);
        }
    }

    fn put(&mut self, target: Target, mut marks: Marks, mut local: Seq) {
        if let Some(slot) = self.slots.get(&target) {
            marks.join(slot.marks);
            local = local.max(slot.local);
            self.order.remove(&slot.place);
            self.locals.remove(&slot.place);
        }
        self.places += 1;
        let place = (marks.latest().max(local), self.places);
        let order = if marks.latest() == Seq::ZERO { &mut self.locals } else { &mut self.order };
        order.insert(place, target);
        self.slots.insert(target, Slot { marks, local, place });
    }

    /// Whether purges allow a stored response with this fence to be used.
    pub fn verdict(&self, subject: Subject<'_>, fence: Seq) -> Verdict {
        if fence > self.applied {
            return Verdict::Hard(By::Unknown, fence);
        }
        if fence >= self.latest {
            return Verdict::Clean;
        }
        let mut verdict = Judge { fence, verdict: Verdict::Clean };
        verdict.weigh(By::Everything, self.all);
        verdict.weigh(By::Floor, self.floor);
        if let Some(site) = self.sites.get(&subject.site()).filter(|site| site.latest > fence) {
            verdict.weigh(By::Site, site.purged);
            verdict.weigh(By::Floor, site.floor);
            let mut weigh = |by: By, target: Target| {
                if let Some(slot) = self.slots.get(&target) {
                    verdict.weigh(by, Marks { hard: slot.marks.hard.max(slot.local), ..slot.marks });
                }
            };
            weigh(By::Url, subject.url_target());
            for (length, (_, latest)) in &site.lengths {
                if *latest > fence
                    && let Some(target) = subject.prefix_target(*length)
                {
                    weigh(By::Prefix, target);
                }
            }
            if site.tags.latest() > fence {
                subject.tag_targets().for_each(|target| weigh(By::Tag, target));
                if subject.has_more_tags() {
                    verdict.weigh(By::Tag, site.tags);
                }
            }
        }
        verdict.verdict
    }

    /// Whether a purge after `fence` may match a response to this URL whose head, and so whose surrogate keys, nobody knows
    /// yet: then any purge of a surrogate key of its site may.
    pub fn may_match(&self, subject: Subject<'_>, fence: Seq) -> bool {
        self.verdict(subject, fence) != Verdict::Clean
            || self.sites.get(&subject.site()).is_some_and(|site| site.tags.latest() > fence)
    }

    /// The oldest entry stands for its whole site from now on.
    fn fold_oldest(&mut self) {
        let Some((_, target)) = self.order.first_key_value() else { return };
        self.fold(*target);
    }

    fn fold(&mut self, target: Target) {
        let Some(slot) = self.slots.remove(&target) else { return };
        self.order.remove(&slot.place);
        self.locals.remove(&slot.place);
        self.folds += 1;
        let (Target::Url(site, _) | Target::Tag(site, _) | Target::Prefix(site, ..)) = target else { return };
        let of_site = self.sites.entry(site).or_default();
        of_site.floor.join(Marks { hard: slot.marks.hard.max(slot.local), ..slot.marks });
        if let Target::Prefix(_, length, _) = target
            && let Some((count, _)) = of_site.lengths.get_mut(&length)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                of_site.lengths.remove(&length);
            }
        }
    }

    fn fold_lengths(&mut self, site: u64) {
        let Some(lengths) = self.sites.get(&site).map(|of_site| &of_site.lengths) else { return };
        if lengths.len() <= PREFIX_LENGTHS_MAX {
            return;
        }
        let Some((oldest, _)) = lengths.iter().min_by_key(|(_, (_, latest))| *latest) else { return };
        let is_oldest =
            |target: &&Target| matches!(target, Target::Prefix(of, length, _) if *of == site && length == oldest);
        let out: Vec<Target> = self.slots.keys().filter(is_oldest).copied().collect();
        out.into_iter().for_each(|target| self.fold(target));
    }

    fn make_room_for_site(&mut self, site: u64) {
        if self.sites.len() < SITES_MAX || self.sites.contains_key(&site) {
            return;
        }
        let Some(oldest) = self.sites.iter().min_by_key(|(_, of_site)| of_site.latest).map(|(site, _)| *site) else {
            return;
        };
        let of_oldest = |target: &&Target| matches!(target, Target::Url(of, _) | Target::Tag(of, _) | Target::Prefix(of, ..) if *of == oldest);
        let out: Vec<Target> = self.slots.keys().filter(of_oldest).copied().collect();
        out.into_iter().for_each(|target| self.fold(target));
        if let Some(of_site) = self.sites.remove(&oldest) {
            self.floor.join(of_site.purged);
            self.floor.join(of_site.floor);
            self.folds += 1;
        }
    }
}

/// Keeps the worst that was found: hard before soft, then the latest.
struct Judge {
    fence: Seq,
    verdict: Verdict,
}

impl Judge {
    fn weigh(&mut self, by: By, marks: Marks) {
        let found = if marks.hard > self.fence {
            Verdict::Hard(by, marks.hard)
        } else if marks.soft > self.fence {
            Verdict::Soft(by, marks.soft)
        } else {
            return;
        };
        let rank = |verdict: Verdict| match verdict {
            Verdict::Clean => (0, Seq::ZERO),
            Verdict::Soft(_, seq) => (1, seq),
            Verdict::Hard(_, seq) => (2, seq),
        };
        if rank(found) > rank(self.verdict) {
            self.verdict = found;
        }
    }
}
