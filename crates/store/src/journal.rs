//! Which heads changed since the disk last proved that it works.
//!
//! When a disk fails, what was handed to it lately may be missing there, and what is removed or replaced while it is away
//! cannot be told to it: an older response would be back with the disk. So every change of a head is noted here, by its hash,
//! until a probe has come back from disk; a disk that is opened again first forgets all that is noted.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Changes noted between two probes. More than that, and a failed disk starts empty.
const NOTES_MAX: usize = 64 * 1024;

/// A change of what lies under a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) hash: u64,
    /// It was taken away, and not written.
    pub(crate) removed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Since the probe that is under way, or the last one, began.
    now: Vec<Note>,
    /// Before that, and nothing has proved yet that it reached the disk.
    before: Vec<Note>,
    /// More happened than could be noted.
    now_overflowed: bool,
    before_overflowed: bool,
}

/// What a disk that is opened again must forget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Forget {
    /// What lies under these hashes.
    These(Vec<u64>),
    /// Everything.
    All,
}

impl Journal {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change. Before the disk is asked whether it is there: then a disk that comes back meanwhile sees the note.
    pub(crate) fn note(&self, note: Note) {
        let mut notes = self.notes();
        if notes.now.len() < NOTES_MAX {
            notes.now.push(note);
        } else {
            notes.now_overflowed = true;
        }
    }

    /// A probe sets off: what was noted until now is behind it in the disk's queue.
    pub(crate) fn probe_begins(&self) {
        let mut notes = self.notes();
        let Notes { now, before, now_overflowed, before_overflowed } = &mut *notes;
        before.append(now);
        *before_overflowed |= std::mem::take(now_overflowed);
        if before.len() > 2 * NOTES_MAX {
            // Probe after probe came back with nothing.
            before.clear();
            *before_overflowed = true;
        }
    }

    /// The probe came back: so did what went before it.
    pub(crate) fn probe_succeeded(&self) {
        let mut notes = self.notes();
        notes.before.clear();
        notes.before_overflowed = false;
    }

    /// Whether `hash` was taken away lately.
    pub(crate) fn is_removed(&self, hash: u64) -> bool {
        let notes = self.notes();
        let mut all = notes.now.iter().rev().chain(notes.before.iter().rev());
        all.any(|note| note.hash == hash && note.removed)
    }

    /// All that is noted. It stays noted until [`Self::probe_succeeded`].
    pub(crate) fn to_forget(&self) -> Forget {
        let notes = self.notes();
        if notes.now_overflowed || notes.before_overflowed {
            return Forget::All;
        }
        let mut hashes: Vec<u64> = notes.before.iter().chain(&notes.now).map(|note| note.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Forget::These(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(journal: &Journal, hash: u64, removed: bool) {
        journal.note(Note { hash, removed });
    }

    #[test]
    fn what_a_probe_has_proved_is_forgotten() {
        let journal = Journal::default();
        note(&journal, 1, false);
        journal.probe_begins();
        note(&journal, 2, true);
        note(&journal, 2, false);
        assert_eq!(journal.to_forget(), Forget::These(vec![1, 2]));
        journal.probe_succeeded();
        assert_eq!(journal.to_forget(), Forget::These(vec![2]), "it came after the probe set off");
        assert!(journal.is_removed(2) && !journal.is_removed(1));
        journal.probe_begins();
        assert!(journal.is_removed(2));
        journal.probe_begins();
        assert_eq!(journal.to_forget(), Forget::These(vec![2]), "a probe that never came back proves nothing");
        journal.probe_succeeded();
        assert_eq!(journal.to_forget(), Forget::These(vec![]));
    }

    #[test]
    fn more_than_can_be_noted_empties_the_disk() {
        let journal = Journal::default();
        (0..NOTES_MAX as u64).for_each(|hash| note(&journal, hash, false));
        assert!(matches!(journal.to_forget(), Forget::These(all) if all.len() == NOTES_MAX));
        note(&journal, 0, false);
        assert_eq!(journal.to_forget(), Forget::All);
        journal.probe_begins();
        assert_eq!(journal.to_forget(), Forget::All);
        journal.probe_succeeded();
        assert_eq!(journal.to_forget(), Forget::These(vec![]));
    }
}
