//! What is explained is what is answered.

use super::*;

/// `pop km/bias weight: outcome` a line, after the scope's sources.
fn check(fleet: &Fleet, client: &str, down: &[&str], expected: Expect) {
    let explanation = fleet.explain(client, Family::V4, down);
    let scope: Vec<String> = explanation.scope.iter().map(|(by, bits)| format!("{} /{bits}", by.as_str())).collect();
    let mut told = format!("{} by {}\n", explanation.steered.reason, scope.join(" "));
    for pop in &explanation.pops {
        let outcome = pop.dropped.map_or("answered", Dropped::as_str);
        told += &format!("{} {:.0}/{} {}: {outcome}\n", pop.pop, pop.km.unwrap(), pop.bias, pop.weight);
    }
    expected.assert_eq(&told);
}

impl Fleet {
    fn explain(&self, client: &str, family: Family, down: &[&str]) -> Explanation<'_> {
        let client = ClientPrefix::host(client.parse().unwrap());
        let health = HealthView::new(1, down.iter().map(|address| address.parse().unwrap()));
        self.steering.explain(self.world.as_ref(), &client, self.steering.site("www").unwrap(), &health, family)
    }
}

#[test]
fn every_filter_is_named() {
    let pops = WORLD.replace("198.18.1.10", "198.18.1.10 weight=0") + "six 40 40 2001:db8:7::1\nown 0 0 198.18.7.1";
    let more = "[geo.steering]\nanswers = 1\nfence = { DE = [\"fra\", \"lon\", \"nyc\", \"six\", \"sin\"] }\nbias = { sin = 2.0 }";
    let fleet = Fleet::new(&pops, more, "pops = [\"fra\", \"lon\", \"nyc\", \"sin\", \"syd\", \"six\"]");
    check(
        &fleet,
        "127.49.0.1",
        &["198.18.49.10"],
        expect![[r#"
            next-nearest by country /16 place /16
            fra 423/1 100: down
            lon 931/1 100: answered
            sin 9917/2 100: answers
            nyc 6385/1 0: reserve
            syd 16095/1 100: fence
            six 2451/1 100: family
            own 5972/1 100: site
        "#]],
    );
    // Only the reserve is left, then nobody.
    let regular = ["198.18.49.10", "198.18.44.10", "198.18.65.10"];
    check(
        &fleet,
        "127.49.0.1",
        &regular,
        expect![[r#"
        reserve by country /16 place /16
        fra 423/1 100: down
        lon 931/1 100: down
        sin 9917/2 100: down
        nyc 6385/1 0: answered
        syd 16095/1 100: fence
        six 2451/1 100: family
        own 5972/1 100: site
    "#]],
    );
    check(
        &fleet,
        "127.49.0.1",
        &[&regular[..], &["198.18.1.10"]].concat(),
        expect![[r#"
        all-down by country /16 place /16
        fra 423/1 100: answered
        lon 931/1 100: answers
        sin 9917/2 100: answers
        nyc 6385/1 0: reserve
        syd 16095/1 100: fence
        six 2451/1 100: family
        own 5972/1 100: site
    "#]],
    );
}

#[test]
fn a_place_is_told_in_degrees() {
    let fleet = Fleet::new(WORLD, "", "");
    let location = fleet.explain("127.61.0.1", Family::V4, &[]).location.unwrap();
    assert!((location.latitude + 33.87).abs() < 1e-9 && (location.longitude - 151.21).abs() < 1e-9, "{location:?}");
}

proptest! {
    /// The same answer, and of every PoP what the answer shows of it.
    #[test]
    fn agrees_with_the_answer(client: [u8; 2], dead in prop::collection::vec(any::<bool>(), 5), answers in 1..6_usize) {
        let more = format!(
            "[geo.steering]\nanswers = {answers}\nfence = {{ DE = [\"sin\", \"syd\"] }}\n[[geo.override]]\nprefixes = [\"127.33.0.0/16\"]\npop = \"nyc\""
        );
        let fleet = Fleet::new(&WORLD.replace("198.18.44.10", "198.18.44.10 fallback=[\"syd\"]"), &more, "");
        let addresses = ["198.18.49.10", "198.18.44.10", "198.18.1.10", "198.18.65.10", "198.18.61.10"];
        let down: Vec<&str> = addresses.iter().zip(dead).filter(|(_, dead)| *dead).map(|(address, _)| *address).collect();
        let [country, last] = client;
        let client = format!("127.{country}.0.{last}");
        for family in [Family::V4, Family::V6] {
            let answered = fleet.ask(&client, family, &down);
            let explanation = fleet.explain(&client, family, &down);
            prop_assert_eq!(show(&explanation.steered), show(&answered));
            prop_assert_eq!(explanation.pops.len(), 5);
            for pop in &explanation.pops {
                let is_answered = pop.addresses.iter().any(|(address, _)| answered.addresses.contains(address));
                prop_assert_eq!(pop.dropped.is_none(), is_answered, "{:?}", pop);
            }
            let scope = explanation.scope.iter().map(|(_, bits)| *bits).max().unwrap_or(0);
            prop_assert_eq!(scope, answered.scope_prefix);
        }
    }
}
