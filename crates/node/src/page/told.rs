//! What another node tells of itself, read into types: what is of another shape, too long or too much goes no further,
//! so that no node can spoil the page of the others.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Longest text that is shown; the rest is cut.
const TEXT_BYTES_MAX: usize = 512;
/// PoPs, shields and sites of a document that are shown, and addresses of a PoP.
const PLACES_MAX: usize = 1024;
const URLS_MAX: usize = 20;
const ARCS_MAX: usize = 64;
const FEW_MAX: usize = 16;

/// A text, cut to [`TEXT_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        Ok(Self(text))
    }
}

/// The first `N` of a list; of the rest nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct List<T, const N: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Bounded<T, N> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < N {
                    let Some(next) = list.next_element()? else { return Ok(kept) };
                    kept.push(next);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(kept)
            }
        }
        deserializer.deserialize_seq(Bounded::<T, N>(PhantomData)).map(Self)
    }
}

/// At most [`PLACES_MAX`] things by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct ByName<T>(BTreeMap<Text, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
            type Value = BTreeMap<Text, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut kept = BTreeMap::new();
                while kept.len() < PLACES_MAX {
                    let Some((name, value)) = map.next_entry()? else { return Ok(kept) };
                    kept.insert(name, value);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(kept)
            }
        }
        deserializer.deserialize_map(Bounded(PhantomData)).map(Self)
    }
}

/// Which part of a fleet a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tier {
    Edge,
    Shield,
    Geodns,
}

/// One node's figures, without its document. What an older node does not tell is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    node: Text,
    tier: Tier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pop: Option<Text>,
    #[serde(default)]
    version: Text,
    #[serde(default)]
    pub(super) time_ms: u64,
    #[serde(default)]
    started_ms: u64,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    reasons: List<Text, FEW_MAX>,
    #[serde(default, skip_serializing)]
    pub(super) world: Option<World>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<Total>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
    #[serde(default)]
    traffic: Traffic,
    #[serde(default)]
    urls: List<Url, URLS_MAX>,
    #[serde(default)]
    sampled: u64,
    #[serde(default)]
    purges: List<Purge, FEW_MAX>,
    #[serde(default)]
    answers_by_pop: ByName<u64>,
    #[serde(default)]
    addresses_down: List<Text, PLACES_MAX>,
    #[serde(default)]
    pops: ByName<Pop>,
    #[serde(default)]
    isolated: bool,
    #[serde(default)]
    arcs: List<Arc, ARCS_MAX>,
}

/// What a document says that can be drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct World {
    cdn: Text,
    zone: Text,
    pops: List<Place, PLACES_MAX>,
    shields: List<Shield, PLACES_MAX>,
    sites: List<Site, PLACES_MAX>,
}

impl World {
    /// The same for the same document.
    pub(super) fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        serde_json::to_vec(self).unwrap_or_default().hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    id: Text,
    city: Option<Text>,
    country: Option<Text>,
    latitude: f64,
    longitude: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Shield {
    id: Text,
    url: Text,
    pops: List<Text, PLACES_MAX>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Site {
    id: Text,
    name: Text,
    origins: List<Text, FEW_MAX>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Total {
    requests: u64,
    hits: u64,
    bytes: u64,
    dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    used: u64,
    capacity: u64,
    entries: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Disk {
    up: bool,
    capacity: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Traffic {
    now: Now,
    hour: Hour,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Now {
    requests_per_s: f64,
    bytes_per_s: f64,
    requests: u64,
    hits: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Hour {
    requests: u64,
    hits: u64,
    bytes: u64,
    minutes: List<[u64; 2], 60>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Url {
    url: Text,
    requests: u64,
    hits: u64,
    bytes: u64,
    endings: List<(Text, Text, u64), FEW_MAX>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Purge {
    at_ms: u64,
    kind: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Pop {
    state: Text,
    addresses: ByName<Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Arc {
    latitude: f64,
    longitude: f64,
    country: Option<Text>,
    pop: Text,
    answers: u64,
}

/// One event of a node's `/v1/live`: a list of that node alone.
pub(super) fn read(event: &[u8]) -> serde_json::Result<Node> {
    serde_json::from_slice::<[Node; 1]>(event).map(|[node]| node)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(event: &Value) -> Result<Value, String> {
        let node = read(event.to_string().as_bytes()).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(node).unwrap())
    }

    #[test]
    fn what_nodes_tell_goes_through_whole() {
        let edge = json!({
            "node": "fra", "tier": "edge", "pop": "fra", "version": "1", "time_ms": 7, "started_ms": 1, "generation": 3, "draining": false,
            "reasons": ["geo: none"], "total": { "requests": 5, "hits": 3, "bytes": 9, "dropped": 0 }, "active": 1, "connections": 2,
            "memory": { "used": 1, "capacity": 2, "entries": 3 }, "disk": { "up": true, "capacity": 9 },
            "traffic": { "now": { "requests_per_s": 1.5, "bytes_per_s": 0.0, "requests": 7, "hits": 1 },
                "hour": { "requests": 7, "hits": 1, "bytes": 3, "minutes": [[1, 0], [6, 1]] } },
            "urls": [{ "url": "a/b", "requests": 4, "hits": 2, "bytes": 8, "endings": [["miss", "uncached", 2]] }],
            "sampled": 4, "purges": [{ "at_ms": 5, "kind": "hard" }], "answers_by_pop": { "fra": 3 }, "addresses_down": ["198.18.0.1"],
            "pops": { "fra": { "state": "auto", "addresses": { "198.18.0.1": "down" } } }, "isolated": false,
            "arcs": [{ "latitude": 1.0, "longitude": -2.0, "country": "DE", "pop": "fra", "answers": 4 }],
        });
        assert_eq!(told(&json!([edge])), Ok(edge));
    }

    #[test]
    fn what_is_of_another_shape_goes_no_further() {
        let check = |event: Value, expected: &str| {
            let said = told(&event).unwrap_err();
            assert!(said.contains(expected), "{event}: {said}");
        };
        let good = json!({ "node": "a", "tier": "edge" });
        assert!(told(&json!([good])).is_ok(), "an old node tells less");
        check(json!([]), "length");
        check(json!([good, good]), "trailing");
        check(good, "expected");
        check(json!([{ "node": "a", "tier": "moon" }]), "unknown variant");
        check(json!([{ "tier": "edge" }]), "missing field `node`");
        for (key, wrong) in [
            ("traffic", json!({ "hour": { "minutes": "many" } })),
            ("traffic", json!({ "now": { "requests_per_s": "<b>" } })),
            ("urls", json!([{ "endings": [["a", "b"]] }])),
            ("arcs", json!({ "length": 1e9 })),
            ("pops", json!(["fra"])),
        ] {
            let mut event = json!({ "node": "a", "tier": "edge" });
            event[key] = wrong;
            check(json!([event]), "invalid");
        }
    }

    #[test]
    fn texts_and_lists_have_limits() {
        let text = |length: usize| Value::String("é".repeat(length / 2));
        let check = |length: usize, expected: usize| {
            let node = told(&json!([{ "node": text(length), "tier": "edge" }])).unwrap();
            assert_eq!(node["node"].as_str().map(str::len), Some(expected));
        };
        check(TEXT_BYTES_MAX, TEXT_BYTES_MAX);
        check(TEXT_BYTES_MAX + 2, TEXT_BYTES_MAX);
        let arcs: Vec<_> = (0..=ARCS_MAX).map(|n| json!({ "answers": n })).collect();
        let node = told(&json!([{ "node": "a", "tier": "geodns", "arcs": arcs }])).unwrap();
        assert_eq!(node["arcs"].as_array().map(Vec::len), Some(ARCS_MAX));
        let pops: serde_json::Map<_, _> = (0..=PLACES_MAX).map(|n| (n.to_string(), json!(n))).collect();
        let node = told(&json!([{ "node": "a", "tier": "geodns", "answers_by_pop": pops }])).unwrap();
        assert_eq!(node["answers_by_pop"].as_object().map(serde_json::Map::len), Some(PLACES_MAX));
    }
}
