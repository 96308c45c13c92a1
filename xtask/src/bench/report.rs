//! From rounds to figures.

use anyhow::Result;

use super::Figure;

/// Rounds, each with a figure of every server; the first is ours.
pub(super) struct Report {
    names: Vec<&'static str>,
    rounds: Vec<Vec<Figure>>,
}

/// Least, middle and most.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread([f64; 3]);

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        // Of an even number the middle is between two.
        let median = f64::midpoint(at(last / 2), at(sorted.len() / 2));
        Self([at(0), median, at(last)])
    }

    fn json(self) -> serde_json::Value {
        let Self([min, median, max]) = self;
        serde_json::json!({ "min": min, "median": median, "max": max })
    }
}

impl Report {
    pub(super) fn new(names: Vec<&'static str>, rounds: Vec<Vec<Figure>>) -> Self {
        Self { names, rounds }
    }

    fn spread(&self, server: usize, of: fn(&Figure) -> f64) -> Spread {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(server)).map(of))
    }

    /// CPU of a request at a peer, of each round in units of ours: above 1, ours needs less.
    fn ratios(&self, server: usize) -> Vec<f64> {
        let ratio = |round: &Vec<Figure>| Some(round.get(server)?.cpu_us / round.first()?.cpu_us);
        self.rounds.iter().filter_map(ratio).collect()
    }

    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.json())?);
            return Ok(());
        }
        println!("\nhit of 1 KiB, keep-alive, 64 connections, {} rounds; min / median / max", self.rounds.len());
        for (server, name) in self.names.iter().enumerate() {
            let Spread([rate_min, rate, rate_max]) = self.spread(server, |figure| figure.rate);
            let Spread([cpu_min, cpu, cpu_max]) = self.spread(server, |figure| figure.cpu_us);
            println!(
                "  {name:10} {rate_min:7.0} / {rate:7.0} / {rate_max:7.0} requests/s   \
                 {cpu_min:6.2} / {cpu:6.2} / {cpu_max:6.2} µs of CPU a request"
            );
        }
        for (server, name) in self.names.iter().enumerate().skip(1) {
            let ratios = self.ratios(server);
            let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            let Spread([_, median, _]) = Spread::of(ratios.into_iter());
            println!("  CPU a request, {name} : edge   {}   median {median:.2}", each.join("  "));
        }
        println!("  (above 1: the edge needs less)");
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let server = |(server, name): (usize, &&str)| {
            let ratios = self.ratios(server);
            serde_json::json!({
                "name": name,
                "requests_per_second": self.spread(server, |figure| figure.rate).json(),
                "cpu_us_per_request": self.spread(server, |figure| figure.cpu_us).json(),
                "cpu_over_edge": { "rounds": &ratios, "spread": Spread::of(ratios.iter().copied()).json() },
            })
        };
        serde_json::json!({
            "scenario": "hit of 1 KiB, keep-alive, 64 connections",
            "rounds": self.rounds.len(),
            "servers": self.names.iter().enumerate().map(server).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_ours_and_round_by_round() {
        let figure = |cpu_us| Figure { rate: 1.0, cpu_us };
        let report =
            Report::new(vec!["edge", "nginx"], vec![vec![figure(10.0), figure(20.0)], vec![figure(8.0), figure(4.0)]]);
        assert_eq!((report.ratios(0), report.ratios(1)), (vec![1.0, 1.0], vec![2.0, 0.5]));
        assert_eq!(report.json()["servers"][1]["cpu_over_edge"]["spread"]["median"], 1.25);
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread([1.0, 2.0, 3.0]));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()), Spread([1.0, 2.5, 4.0]));
        assert_eq!(Spread::of([7.0].into_iter()), Spread([7.0; 3]));
    }
}
