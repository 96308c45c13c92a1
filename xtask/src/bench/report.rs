//! From rounds to figures.

use anyhow::Result;

use super::Figure;

/// Rounds of ours and theirs.
pub(super) struct Report {
    rounds: Vec<(Figure, Figure)>,
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
    pub(super) fn new(rounds: Vec<(Figure, Figure)>) -> Self {
        Self { rounds }
    }

    pub(super) fn print(&self, json: bool) -> Result<()> {
        let of = |figure: fn(&(Figure, Figure)) -> f64| Spread::of(self.rounds.iter().map(figure));
        let rows = [
            ("edge", of(|round| round.0.rate), of(|round| round.0.cpu_us)),
            ("nginx", of(|round| round.1.rate), of(|round| round.1.cpu_us)),
        ];
        // Above 1: ours needs less.
        let ratio = of(|round| round.1.cpu_us / round.0.cpu_us);
        if json {
            let servers: serde_json::Map<_, _> = rows
                .iter()
                .map(|(name, rate, cpu)| {
                    (
                        (*name).to_owned(),
                        serde_json::json!({ "requests_per_second": rate.json(), "cpu_us_per_request": cpu.json() }),
                    )
                })
                .collect();
            let ratios: Vec<f64> = self.rounds.iter().map(|round| round.1.cpu_us / round.0.cpu_us).collect();
            let all = serde_json::json!({
                "scenario": "hit of 1 KiB, keep-alive, 64 connections",
                "rounds": self.rounds.len(),
                "servers": servers,
                "cpu_nginx_over_edge": { "rounds": ratios, "spread": ratio.json() },
            });
            println!("{}", serde_json::to_string_pretty(&all)?);
            return Ok(());
        }
        println!("\nhit of 1 KiB, keep-alive, 64 connections, {} rounds; min / median / max", self.rounds.len());
        for (name, Spread([rate_min, rate, rate_max]), Spread([cpu_min, cpu, cpu_max])) in rows {
            println!(
                "  {name:6} {rate_min:7.0} / {rate:7.0} / {rate_max:7.0} requests/s   {cpu_min:6.2} / {cpu:6.2} / {cpu_max:6.2} µs of CPU a request"
            );
        }
        let each: Vec<String> =
            self.rounds.iter().map(|round| format!("{:.2}", round.1.cpu_us / round.0.cpu_us)).collect();
        println!(
            "  CPU a request, nginx : edge   {}   median {:.2} (above 1: the edge needs less)",
            each.join("  "),
            ratio.0[1]
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread([1.0, 2.0, 3.0]));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()), Spread([1.0, 2.5, 4.0]));
        assert_eq!(Spread::of([7.0].into_iter()), Spread([7.0; 3]));
    }
}
