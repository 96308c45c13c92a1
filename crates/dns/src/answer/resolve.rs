//! From the question to the name whose records answer it: delegations, CNAMEs and DNAMEs on the way.

use super::{Denied, Reply};
use crate::{
    code::{Rcode, kind},
    name::{self, Name, QueryName},
    outcome::Reason,
    query::Question,
    rdata::Rdata,
    writer::{Full, Owner, Section},
    zone::{Found, Node},
};

/// CNAMEs and DNAMEs followed for one question.
const ALIASES_MAX: usize = 8;

/// What was passed on the way. Of most answers all of it is empty.
#[derive(Default)]
struct Passed<'s> {
    /// Targets of CNAMEs.
    names: [Option<&'s Name>; ALIASES_MAX],
    /// Names that DNAMEs made.
    made: Vec<QueryName>,
    /// Owners of DNAMEs, whose records stand in the answer.
    redirections: Vec<&'s Node>,
}

impl Passed<'_> {
    fn has(&self, name: &QueryName) -> bool {
        self.names.iter().flatten().any(|passed| passed.as_wire() == name.suffix(0))
            || self.made.iter().any(|passed| passed.suffix(0) == name.suffix(0))
    }
}

impl<'a, 's: 'a, S: AsRef<[u8]>> Reply<'a, 's, '_, S> {
    /// RFC 1034 §4.3.2, for one zone, with the DNAMEs of RFC 6672 §3.2; sets the verdict before it writes, so that it stands
    /// when there is no room.
    pub(super) fn resolve(&mut self, question: &Question<'_>) -> Result<(), Full> {
        if question.kind == kind::TXT && self.may_ask_why() {
            let (name, client, health) = (self.question, &self.client, self.health);
            if let Some(explained) = self.snapshot.why(name, client, health) {
                return self.explain(&explained);
            }
        }
        let zone = &*self.snapshot.zone;
        let mut passed = Passed::default();
        let mut alias: Option<&'s Name> = None;
        // The first is borrowed: it is nearly always the only one, and not small.
        let mut target_name;
        let mut name = self.question;
        for hop in 0..=ALIASES_MAX {
            let owner = if hop == 0 { Owner::Question } else { Owner::Wire(name.suffix(0)) };
            let found = zone.find(name, question.kind);
            let node = match found {
                Found::Outside if hop == 0 => {
                    self.verdict = (Rcode::Refused, Reason::OutOfZone);
                    return Ok(());
                }
                Found::Outside => break,
                Found::Cut { node, skipped } => return self.refer(node, name.suffix(skipped), hop > 0),
                Found::Nothing => {
                    let denied = Denied { name: name.suffix(0), node: None, kind: question.kind };
                    return self.negative(Rcode::NxDomain, Reason::NxDomain, denied);
                }
                Found::Node { node } | Found::Redirected { node, .. } => node,
            };
            self.authoritative = true;
            // A circle ends where it closes: at a name, since one wildcard stands for many.
            let is_circle = hop > 0 && (self.question.suffix(0) == name.suffix(0) || passed.has(name));
            let goes_on = hop < ALIASES_MAX && !is_circle;
            if let Found::Redirected { skipped, .. } = found {
                if !goes_on {
                    break;
                }
                let is_told = passed.redirections.iter().any(|told| std::ptr::eq(*told, node));
                let Some(next) = self.redirect(node, (name, skipped), owner, is_told)? else { return Ok(()) };
                // RFC 1034 §3.6.2: who asks for a CNAME has it.
                if question.kind == kind::CNAME {
                    return Ok(());
                }
                passed.redirections.push(node);
                passed.leave(hop, alias.take(), name);
                target_name = next;
                name = &target_name;
                continue;
            }
            let all_down = node.all_down.as_deref().filter(|_| self.is_all_down(node));
            let is_asked = matches!(question.kind, kind::CNAME | kind::ANY);
            if let Some(cname) = all_down.filter(|_| is_asked) {
                return self.rrset(Section::Answer, owner, cname);
            }
            // RFC 4034 §3, §4: a CNAME has signatures and an NSEC beside it, which are asked for in its stead.
            let is_beside = matches!(question.kind, kind::NSEC | kind::RRSIG);
            let cname = all_down.or_else(|| node.rrset(kind::CNAME)).filter(|_| !is_asked && !is_beside);
            let Some(cname) = cname else {
                let denied = Denied { name: name.suffix(0), node: Some(node), kind: question.kind };
                return self.records(node, owner, denied);
            };
            self.verdict = (Rcode::NoError, Reason::Alias);
            if !goes_on {
                break;
            }
            self.rrset(Section::Answer, owner, cname)?;
            let target = cname.records.first().and_then(|record| record.names.first());
            let Some((target, next)) = target.and_then(|target| Some((target, QueryName::of(target)?))) else { break };
            passed.leave(hop, alias.replace(target), name);
            target_name = next;
            name = &target_name;
        }
        self.verdict = (Rcode::NoError, Reason::Alias);
        Ok(())
    }

    /// Says by which DNAME a name is another, and by a CNAME which one (RFC 6672 §3.1); None where that is no name.
    fn redirect(
        &mut self,
        node: &'s Node,
        (name, kept): (&QueryName, usize),
        owner: Owner<'_>,
        is_told: bool,
    ) -> Result<Option<QueryName>, Full> {
        let Some(dname) = node.rrset(kind::DNAME) else { return Ok(None) };
        let target = dname.records.first().map_or(&[][..], |record| &record.head);
        let next = name.redirected(kept, target);
        // RFC 6672 §2.2
        self.verdict = match next {
            Some(_) => (Rcode::NoError, Reason::Alias),
            None => (Rcode::YxDomain, Reason::NameTooLong),
        };
        if !is_told {
            self.rrset(Section::Answer, Owner::Wire(name.suffix(kept)), dname)?;
        }
        let Some(next) = next else { return Ok(None) };
        if let Ok(made) = Name::from_labels(name::labels(next.suffix(0))) {
            // RFC 6672 §3.1: for as long as the DNAME; §5.3.1: who validates follows the DNAME, whose signature is there.
            self.writer.record(Section::Answer, owner, kind::CNAME, dname.ttl_s, &Rdata::name(made))?;
        }
        Ok(Some(next))
    }
}

impl<'s> Passed<'s> {
    /// Leaves a name, the target of the CNAME `alias` or what a DNAME made; the first is the question's.
    fn leave(&mut self, hop: usize, alias: Option<&'s Name>, name: &QueryName) {
        match alias {
            Some(alias) => {
                if let Some(slot) = self.names.get_mut(hop) {
                    *slot = Some(alias);
                }
            }
            None if hop > 0 => self.made.push(name.clone()),
            None => {}
        }
    }
}
