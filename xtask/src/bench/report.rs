//! From rounds to figures, and whether they are what was wanted.

use super::load::Figure;

/// Least, middle and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread(pub(super) [f64; 3]);

impl Spread {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        // Of an even number the middle is between two.
        let median = f64::midpoint(at(last / 2), at(sorted.len() / 2));
        Self([at(0), median, at(last)])
    }

    fn median(self) -> f64 {
        self.0[1]
    }

    fn json(self) -> serde_json::Value {
        let Self([min, median, max]) = self;
        serde_json::json!({ "min": min, "median": median, "max": max })
    }
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bar {
    /// A peer's CPU over ours.
    Cpu { peer: &'static str, ratio: f64 },
    /// A value of ours.
    AtMost(&'static str, f64),
    /// A value of ours is at least the peer's.
    AsPeer(&'static str, &'static str),
    /// A value of ours is at most the peer's.
    AtMostPeer(&'static str, &'static str),
}

/// One scenario's results; the first server is ours.
pub(super) struct Table {
    name: &'static str,
    what: &'static str,
    servers: Vec<&'static str>,
    /// Which delay figures have: `p99`, unless the load tells another.
    pub(super) delay: &'static str,
    /// Each with a figure of every server.
    pub(super) rounds: Vec<Vec<Figure>>,
    /// What is no rate: server, what, value.
    pub(super) values: Vec<(&'static str, &'static str, f64)>,
    pub(super) bars: Vec<Bar>,
    pub(super) notes: Vec<String>,
}

impl Table {
    pub(super) fn new(name: &'static str, what: &'static str, servers: Vec<&'static str>) -> Self {
        Self {
            name,
            what,
            servers,
            delay: "p99",
            rounds: Vec::new(),
            values: Vec::new(),
            bars: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn spread(&self, server: usize, of: fn(&Figure) -> f64) -> Spread {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(server)).map(of))
    }

    /// CPU of a request at a peer, of each round in units of ours: above 1, ours needs less.
    fn ratios(&self, server: usize) -> Spread {
        let ratio = |round: &Vec<Figure>| Some(round.get(server)?.cpu_us / round.first()?.cpu_us);
        Spread::of(self.rounds.iter().filter_map(ratio))
    }

    fn value(&self, server: &str, what: &str) -> Spread {
        Spread::of(self.values.iter().filter(|(s, w, _)| *s == server && *w == what).map(|(_, _, value)| *value))
    }

    /// In words, and whether it is met; `None` where the peer is not there.
    fn judge(&self, bar: Bar) -> Option<(String, bool)> {
        let ours = *self.servers.first()?;
        match bar {
            Bar::Cpu { peer, ratio } => {
                let got = self.ratios(self.servers.iter().position(|name| *name == peer)?).median();
                Some((format!("CPU {peer} : {ours} is {got:.2}, to be {ratio:.2} or more"), got >= ratio))
            }
            Bar::AtMost(what, most) => {
                let got = self.value(ours, what).median();
                Some((format!("{what} is {got:.3}, to be {most:.3} or less"), got <= most))
            }
            Bar::AtMostPeer(what, peer) => {
                self.servers.iter().position(|name| *name == peer)?;
                let (got, theirs) = (self.value(ours, what).median(), self.value(peer, what).median());
                Some((format!("{what} is {got:.2}, to be {peer}'s {theirs:.2} or less"), got <= theirs))
            }
            Bar::AsPeer(what, peer) => {
                self.servers.iter().position(|name| *name == peer)?;
                let (got, theirs) = (self.value(ours, what).median(), self.value(peer, what).median());
                Some((format!("{what} is {got:.2}, to be {peer}'s {theirs:.2} or more"), got >= theirs))
            }
        }
    }

    pub(super) fn print(&self) {
        println!("\n{}: {}; min / median / max", self.name, self.what);
        for (server, name) in self.servers.iter().enumerate() {
            if !self.rounds.is_empty() {
                let Spread([rate_min, rate, rate_max]) = self.spread(server, |figure| figure.rate);
                let Spread([cpu_min, cpu, cpu_max]) = self.spread(server, |figure| figure.cpu_us);
                let p99 = self.spread(server, |figure| figure.p99_us).median();
                let Spread([ratio_min, ratio, ratio_max]) = self.ratios(server);
                println!(
                    "  {name:10} {rate_min:7.0} / {rate:7.0} / {rate_max:7.0} requests/s   {cpu_min:7.2} / {cpu:7.2} / {cpu_max:7.2} µs CPU   \
                     {} {p99:6.0} µs   × {ratio_min:.2} / {ratio:.2} / {ratio_max:.2} of ours",
                    self.delay
                );
            }
            for what in self.whats() {
                let Spread([min, median, max]) = self.value(name, what);
                println!("  {name:10} {min:9.3} / {median:9.3} / {max:9.3}  {what}");
            }
        }
        for (text, met) in self.bars.iter().filter_map(|bar| self.judge(*bar)) {
            println!("  {}  {text}", if met { "met   " } else { "MISSED" });
        }
        self.notes.iter().for_each(|note| println!("  note    {note}"));
    }

    fn whats(&self) -> Vec<&'static str> {
        let mut whats = Vec::new();
        for (_, what, _) in &self.values {
            if !whats.contains(what) {
                whats.push(*what);
            }
        }
        whats
    }

    fn json(&self) -> serde_json::Value {
        let server = |(server, name): (usize, &&'static str)| {
            let values = self.whats().into_iter().map(|what| (what.to_owned(), self.value(name, what).json()));
            let values: serde_json::Map<String, serde_json::Value> = values.collect();
            serde_json::json!({
                "name": name,
                "requests_per_second": self.spread(server, |figure| figure.rate).json(),
                "cpu_us_per_request": self.spread(server, |figure| figure.cpu_us).json(),
                "delay": self.delay,
                "delay_us": self.spread(server, |figure| figure.p99_us).json(),
                "cpu_over_edge": self.ratios(server).json(),
                "values": values,
            })
        };
        let bars = self.bars.iter().filter_map(|bar| self.judge(*bar));
        serde_json::json!({
            "scenario": self.name,
            "what": self.what,
            "rounds": self.rounds.len(),
            "servers": self.servers.iter().enumerate().map(server).collect::<Vec<_>>(),
            "bars": bars.map(|(text, met)| serde_json::json!({ "bar": text, "met": met })).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// All scenarios.
#[derive(Default)]
pub(super) struct Report {
    pub(super) tables: Vec<Table>,
}

impl Report {
    pub(super) fn json(&self) -> serde_json::Value {
        self.tables.iter().map(Table::json).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_ours_and_round_by_round() {
        let figure = |cpu_us| Figure { rate: 1.0, cpu_us, p99_us: 1.0 };
        let mut table = Table::new("a", "b", vec!["edge", "nginx"]);
        table.rounds = vec![vec![figure(10.0), figure(20.0)], vec![figure(8.0), figure(4.0)]];
        assert_eq!((table.ratios(0).0, table.ratios(1).0), ([1.0; 3], [0.5, 1.25, 2.0]));
        assert_eq!(table.json()["servers"][1]["cpu_over_edge"]["median"], 1.25);
        let met = |bar| table.judge(bar).map(|(_, met)| met);
        assert_eq!(met(Bar::Cpu { peer: "nginx", ratio: 1.25 }), Some(true));
        assert_eq!(met(Bar::Cpu { peer: "nginx", ratio: 1.26 }), Some(false));
        assert_eq!(met(Bar::Cpu { peer: "varnish", ratio: 0.1 }), None);
        let mut table = Table::new("a", "b", vec!["edge", "varnish"]);
        table.values = vec![("edge", "x", 1.0), ("varnish", "x", 2.0), ("edge", "x", 3.0)];
        let met = |bar| table.judge(bar).map(|(_, met)| met);
        assert_eq!(met(Bar::AsPeer("x", "varnish")), Some(true));
        assert_eq!((met(Bar::AtMost("x", 2.0)), met(Bar::AtMost("x", 1.9))), (Some(true), Some(false)));
        assert_eq!(met(Bar::AtMost("unknown", 1.0)), Some(false), "what was not measured is not met");
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread([1.0, 2.0, 3.0]));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()), Spread([1.0, 2.5, 4.0]));
        assert_eq!(Spread::of([7.0].into_iter()), Spread([7.0; 3]));
    }
}
