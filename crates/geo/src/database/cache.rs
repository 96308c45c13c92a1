//! Decoded records by their offset in the data section, so that a hot lookup decodes nothing.
//!
//! A direct-mapped table of plain atomics: readers and writers on any core, no lock, no wait, bounded memory. A slot's
//! first word is a digest of the other three and of the offset, so that a slot that two cores were writing at once does
//! not fit its digest and reads as a miss. What an offset decodes to never changes in one database.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use perigee_protocol::model::Location;

use crate::place::Place;

/// A power of two; 1 MiB in all. GeoLite2-City has some 100,000 different records, of which few are hot.
const SLOTS: usize = 1 << 15;

type Slot = [AtomicU64; 4];

pub(super) struct PlaceCache(Box<[Slot]>);

impl std::fmt::Debug for PlaceCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlaceCache").finish_non_exhaustive()
    }
}

impl PlaceCache {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| Slot::default()).collect())
    }

    /// Without the prefix.
    pub(super) fn get(&self, offset: usize) -> Option<Place> {
        let [digest, words @ ..] = self.slot(offset)?;
        let [latitude, longitude, country] = words.each_ref().map(|word| word.load(Relaxed));
        if digest.load(Relaxed) != digest_of(offset, [latitude, longitude, country]) {
            return None;
        }
        let location = Location { latitude: f64::from_bits(latitude), longitude: f64::from_bits(longitude) };
        let location = Some(location).filter(|location| !location.latitude.is_nan());
        let [.., is_centre, a, b] = country.to_be_bytes();
        let country = std::str::from_utf8(&[a, b]).ok().and_then(|letters| letters.parse().ok());
        Some(Place { location, is_centre: is_centre != 0, country, prefix_len: 0 })
    }

    pub(super) fn put(&self, offset: usize, place: &Place) {
        let Some([digest, words @ ..]) = self.slot(offset) else { return };
        let location = place.location.unwrap_or(Location { latitude: f64::NAN, longitude: 0.0 });
        let letters = place.country.map_or(0, |country| u64::from(u16::from_be_bytes(country.bytes())));
        let country = u64::from(place.is_centre) << 16 | letters;
        let values = [location.latitude.to_bits(), location.longitude.to_bits(), country];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Relaxed);
        }
        digest.store(digest_of(offset, values), Relaxed);
    }

    fn slot(&self, offset: usize) -> Option<&Slot> {
        // Records lie at all offsets: the multiplication spreads them by their high bits.
        let spread = (offset as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS.trailing_zeros());
        self.0.get(spread as usize)
    }
}

/// Never 0, which is what an unused slot holds.
fn digest_of(offset: usize, values: [u64; 3]) -> u64 {
    let step = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        mixed ^ (mixed >> 32)
    };
    values.into_iter().fold(step(0, offset as u64), step) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_was_put_and_nothing_else() {
        let cache = PlaceCache::new();
        let location = Some(Location { latitude: -33.87, longitude: 151.21 });
        let country = Some("AU".parse().unwrap());
        for (offset, location, is_centre, country) in [
            (0, None, false, None),
            (7, location, false, None),
            (8, None, false, country),
            (9, location, false, country),
            (10, location, true, country),
        ] {
            let place = Place { location, is_centre, country, prefix_len: 0 };
            assert_eq!(cache.get(offset), None, "{offset}");
            cache.put(offset, &place);
            assert_eq!(cache.get(offset), Some(place), "{offset}");
        }
    }

    #[test]
    fn a_torn_slot_is_a_miss() {
        let cache = PlaceCache::new();
        let location = Some(Location { latitude: 1.0, longitude: 2.0 });
        cache.put(9, &Place { location, ..Place::default() });
        cache.slot(9).unwrap()[2].store(3.0_f64.to_bits(), Relaxed);
        assert_eq!(cache.get(9), None);
    }

    #[test]
    fn two_records_of_one_slot_push_each_other_out() {
        let cache = PlaceCache::new();
        let other = (1..).find(|other| std::ptr::eq(cache.slot(*other).unwrap(), cache.slot(0).unwrap())).unwrap();
        cache.put(0, &Place::default());
        cache.put(other, &Place::default());
        assert_eq!(cache.get(0), None);
        assert!(cache.get(other).is_some());
    }
}
