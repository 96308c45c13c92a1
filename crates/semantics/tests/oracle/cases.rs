//! Random requests and responses, with odd things in them that are remembered by name.

use http::{Method, StatusCode};
use perigee_semantics::time::Timestamp;

/// When the response arrives: Sun, 06 Nov 1994 08:49:37 GMT, in seconds.
pub(crate) const ARRIVED: u64 = 784_111_777;

/// A small generator of numbers (SplitMix64): the same everywhere for one seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Something about a case that implementations may read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    DirectiveInCapitals,
    DirectiveWithoutNumber,
    NumberWithPlus,
    NumberTooLarge,
    SpaceBeforeEquals,
    ListInQuotes,
    FieldsOnly,
    Conflicting,
    ProxyRevalidate,
    SMaxage,
    MustUnderstand,
    Immutable,
    StaleWhileRevalidate,
    Date,
    DateForm,
    AgeList,
    Delay,
    LongUnmodified,
    Pragma,
    Cookie,
    VaryStar,
    VaryJunk,
    VarySpelling,
    BadTag,
    RequestCapitals,
    RequestPragma,
    MaxStaleJunk,
    RequestMaxAgeAndMaxStale,
    MinFresh,
}

/// One response, the request it answered, another request after some time, and a 304.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) status: StatusCode,
    pub(crate) request: Vec<(&'static str, String)>,
    pub(crate) response: Vec<(&'static str, String)>,
    /// Seconds from the request to the response.
    pub(crate) delay: u64,
    pub(crate) again: Vec<(&'static str, String)>,
    /// Seconds from the response to the second request.
    pub(crate) wait: u64,
    pub(crate) renewal: Vec<(&'static str, String)>,
    pub(crate) odd: Vec<Odd>,
}

const RESPONSE_DIRECTIVES: [(&str, Option<Odd>); 34] = [
    ("max-age=60", None),
    ("max-age=60", None),
    ("max-age=3600", None),
    ("max-age=0", None),
    ("max-age=1", None),
    ("max-age=\"60\"", None),
    ("max-age=abc", None),
    ("max-age=-5", None),
    ("max-age=1.5", None),
    ("max-agee=5", None),
    ("s-maxage=60", Some(Odd::SMaxage)),
    ("s-maxage=0", Some(Odd::SMaxage)),
    ("no-cache", None),
    ("no-store", None),
    ("private", None),
    ("public", None),
    ("public", None),
    ("must-revalidate", None),
    ("stale-if-error=30", None),
    ("foo, x=\"a\"", None),
    ("proxy-revalidate", Some(Odd::ProxyRevalidate)),
    ("must-understand", Some(Odd::MustUnderstand)),
    ("immutable", Some(Odd::Immutable)),
    ("stale-while-revalidate=30", Some(Odd::StaleWhileRevalidate)),
    ("MAX-AGE=60", Some(Odd::DirectiveInCapitals)),
    ("No-Store", Some(Odd::DirectiveInCapitals)),
    ("Private", Some(Odd::DirectiveInCapitals)),
    ("max-age", Some(Odd::DirectiveWithoutNumber)),
    ("max-age=+60", Some(Odd::NumberWithPlus)),
    ("max-age=99999999999", Some(Odd::NumberTooLarge)),
    ("max-age=99999999999999999999", Some(Odd::NumberTooLarge)),
    ("max-age =60", Some(Odd::SpaceBeforeEquals)),
    ("x=\"a, private, no-store, max-age=9\"", Some(Odd::ListInQuotes)),
    ("no-cache=\"x-a\", private=\"x-b\"", Some(Odd::FieldsOnly)),
];

const REQUEST_DIRECTIVES: [(&str, Option<Odd>); 12] = [
    ("max-age=30", None),
    ("max-age=0", None),
    ("max-stale", None),
    ("max-stale=30", None),
    ("max-stale=abc", Some(Odd::MaxStaleJunk)),
    ("min-fresh=10", None),
    ("min-fresh=0", Some(Odd::MinFresh)),
    ("no-cache", None),
    ("no-store", None),
    ("only-if-cached, foo", None),
    ("No-Cache", Some(Odd::RequestCapitals)),
    ("Max-Stale", Some(Odd::RequestCapitals)),
];

const STATUSES: [u16; 18] = [203, 204, 206, 299, 300, 301, 302, 304, 307, 308, 400, 403, 404, 410, 416, 500, 503, 599];

impl Case {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        let mut case = Self {
            method: if dice.once_in(20) {
                dice.pick(&[Method::HEAD, Method::POST, Method::PUT].each_ref()).clone()
            } else {
                Method::GET
            },
            status: StatusCode::OK,
            request: Vec::new(),
            response: Vec::new(),
            delay: 0,
            again: Vec::new(),
            wait: dice.pick(&[0, 1, 20, 40, 58, 70, 90, 100, 4000]),
            renewal: Vec::new(),
            odd: Vec::new(),
        };
        if dice.once_in(3) {
            case.status = StatusCode::from_u16(dice.pick(&STATUSES)).unwrap();
        }
        case.cache_control(dice);
        case.dates(dice);
        case.age(dice);
        case.validators(dice);
        case.vary(dice);
        if dice.once_in(10) {
            case.request.push(("authorization", "x".into()));
        }
        if dice.once_in(15) {
            case.response.push(("set-cookie", "a=b".into()));
            case.odd.push(Odd::Cookie);
        }
        if dice.once_in(15) {
            case.response.push(("pragma", "no-cache".into()));
            case.odd.push(Odd::Pragma);
        }
        case.asked_again(dice);
        case
    }

    /// Puts up to three directives in one line or two.
    fn cache_control(&mut self, dice: &mut Dice) {
        let mut said: Vec<&str> = Vec::new();
        for _ in 0..dice.below(4) {
            let (directive, odd) = dice.pick(&RESPONSE_DIRECTIVES);
            said.push(directive);
            self.odd.extend(odd);
        }
        let name = |directive: &str| directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        let conflict = said.iter().enumerate().any(|(index, one)| {
            said[index + 1..].iter().any(|other| name(one) == name(other) && (one != other || one.contains('"')))
        });
        let quoted = |odd| self.odd.contains(&odd);
        if conflict || said.len() > 1 && (quoted(Odd::ListInQuotes) || quoted(Odd::FieldsOnly)) {
            self.odd.push(Odd::Conflicting);
        }
        match (said.is_empty(), dice.once_in(4)) {
            (true, _) => {}
            (false, true) => self.response.extend(said.iter().map(|line| ("cache-control", (*line).to_owned()))),
            (false, false) => self.response.push(("cache-control", said.join(dice.pick(&[",", ", ", " ,, "])))),
        }
    }

    fn dates(&mut self, dice: &mut Dice) {
        if dice.once_in(2) {
            let date = if dice.once_in(4) {
                self.odd.push(Odd::Date);
                ARRIVED - dice.pick(&[10, 50, 5000])
            } else {
                ARRIVED + dice.pick(&[0, 0, 0, 100])
            };
            let line = self.date(dice, date);
            self.response.push(("date", line));
        }
        if dice.once_in(4) {
            let line = match dice.below(6) {
                0 => dice.pick(&["0", "-1", "", "Sun, 32 Nov 1994 08:49:37 GMT"]).to_owned(),
                _ => {
                    let at = ARRIVED + 5000 - dice.pick(&[0, 1400, 4950, 5000, 9000]);
                    self.date(dice, at)
                }
            };
            self.response.push(("expires", line));
        }
        if dice.once_in(10) {
            self.delay = dice.pick(&[1, 30]);
            self.odd.push(Odd::Delay);
        }
    }

    /// In one of the forms of RFC 9110 §5.6.7, mostly the first, or in one that only mail has.
    fn date(&mut self, dice: &mut Dice, seconds: u64) -> String {
        let preferred = Timestamp::from_millis(seconds * 1000).http_date();
        if !dice.once_in(8) {
            return preferred;
        }
        self.odd.push(Odd::DateForm);
        let parts: Vec<&str> = preferred.split([' ', ',']).filter(|part| !part.is_empty()).collect();
        let [weekday, day, month, year, time, _] = parts[..] else { panic!("{preferred}") };
        let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
        let long = long.iter().find(|name| name.starts_with(weekday)).unwrap();
        match dice.below(3) {
            0 => format!("{long}, {day}-{month}-{} {time} GMT", &year[2..]),
            1 => format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0')),
            _ => format!("{weekday}, {day} {month} {year} {time} +0000"),
        }
    }

    fn age(&mut self, dice: &mut Dice) {
        if dice.once_in(4) {
            let (age, odd) = dice.pick(&[
                ("0", false),
                ("10", false),
                ("59", false),
                ("100", false),
                ("-1", false),
                ("abc", false),
                ("1.5", false),
                ("30, 0", true),
                ("99999999999999999999", true),
                ("99999999999", true),
                ("+30", true),
            ]);
            self.response.push(("age", age.into()));
            self.odd.extend(odd.then_some(Odd::AgeList));
        }
    }

    fn validators(&mut self, dice: &mut Dice) {
        let tags = ["\"a\"", "W/\"a\"", "\"b\"", "W/\"b\""];
        if dice.once_in(3) {
            let tag = if dice.once_in(10) {
                self.odd.push(Odd::BadTag);
                dice.pick(&["a", "w/\"a\"", "\"a"])
            } else {
                dice.pick(&tags)
            };
            self.response.push(("etag", tag.into()));
        }
        let modified = [ARRIVED - 100, ARRIVED - 5000, ARRIVED - 50_000];
        if dice.once_in(3) {
            let line = if dice.once_in(8) {
                self.odd.push(Odd::LongUnmodified);
                Timestamp::from_millis((ARRIVED - 20 * 86_400) * 1000).http_date()
            } else if dice.once_in(12) {
                self.odd.push(Odd::DateForm);
                "yesterday".into()
            } else {
                let at = dice.pick(&modified);
                self.date(dice, at)
            };
            self.response.push(("last-modified", line));
        }
        if dice.once_in(2) {
            self.renewal.push(("etag", dice.pick(&tags).into()));
        }
        if dice.once_in(2) {
            let line = Timestamp::from_millis(dice.pick(&modified) * 1000).http_date();
            self.renewal.push(("last-modified", line));
        }
    }

    fn vary(&mut self, dice: &mut Dice) {
        if !dice.once_in(5) {
            return;
        }
        let (vary, odd) = dice.pick(&[
            ("x-a", None),
            ("x-a, X-B", None),
            ("*", Some(Odd::VaryStar)),
            ("x-a, *", Some(Odd::VaryStar)),
            ("x a", Some(Odd::VaryJunk)),
            ("accept-encoding", None),
        ]);
        self.response.push(("vary", vary.into()));
        self.odd.extend(odd);
        for name in ["x-a", "accept-encoding"] {
            let values: &[(&str, bool)] = if name == "x-a" {
                &[("1", false), ("2", false), ("1,2", false), ("1, 2", true)]
            } else {
                &[("gzip", false), ("br", false), ("br, gzip", true), ("gzip,br;q=1.0", true)]
            };
            let (first, first_odd) = dice.pick(values);
            let (second, second_odd) = if dice.once_in(2) { (first, false) } else { dice.pick(values) };
            self.request.push((name, first.into()));
            self.again.push((name, second.into()));
            self.odd.extend((first_odd || second_odd).then_some(Odd::VarySpelling));
        }
    }

    fn asked_again(&mut self, dice: &mut Dice) {
        if dice.once_in(30) {
            self.request.push(("cache-control", "no-store".into()));
        }
        if dice.once_in(3) {
            let mut said: Vec<&str> = Vec::new();
            for _ in 0..1 + dice.below(2) {
                let (directive, odd) = dice.pick(&REQUEST_DIRECTIVES);
                said.push(directive);
                self.odd.extend(odd);
            }
            let asks = |name: &str| said.iter().any(|directive| directive.to_ascii_lowercase().starts_with(name));
            if asks("max-age") && asks("max-stale") {
                self.odd.push(Odd::RequestMaxAgeAndMaxStale);
            }
            self.again.push(("cache-control", said.join(", ")));
        }
        if dice.once_in(20) {
            self.again.push(("pragma", "no-cache".into()));
            self.odd.push(Odd::RequestPragma);
        }
    }
}
