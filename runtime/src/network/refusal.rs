//! What the rest of the host's firewall keeps the host from passing on.
//!
//! No table but ours is changed, and what another one drops is dropped. Where one refuses all that is passed on, whatever
//! comes from a container and goes elsewhere is begun anew by its monitor ([`super::outlet`]), and where that is a policy,
//! as a running dockerd's is, whatever comes to a published port is too ([`super::proxy`]); a monitor passes nothing on.
//!
//! An owner of rules who names a network's bridge in them has decided about that network: it is left to those rules. So it
//! is where the host takes nothing in either, and would not take in what is led to monitors.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::sys::netfilter::BaseChain;
use crate::sys::netfilter::FORWARD;
use crate::sys::netfilter::Family;
use crate::sys::netfilter::INPUT;
use crate::sys::netfilter::Rule;
use crate::sys::netfilter::all_chains;
use crate::sys::netfilter::base_chain;
use crate::sys::netfilter::rules_beside;
use crate::sys::netlink::Socket;
use crate::sys::netlink::changes_rules;

/// The families of tables that see packets of IPv4 and of IPv6 alone (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
const OF_ADDRESSES: [u8; 2] = [2, 10];

/// A table that refuses all that is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) table: String,
    /// Whether it is a chain's policy; else it is a chain's last rule, as firewalld's, which lets pass what was led.
    pub(super) is_policy: bool,
    /// The bridges that its rules name.
    pub(super) named: Vec<String>,
    /// The bridges that have to be led out.
    pub(super) led: Vec<String>,
}

/// Returns what refuses packets of IPv4 and of IPv6 that are passed on from and to these bridges.
pub(super) fn look(bridges: &[&str]) -> io::Result<[Option<Refusal>; 2]> {
    let mut socket = Socket::netfilter()?;
    let answers = socket.ask(&all_chains())?;
    let chains = answers.iter().filter_map(|(_, body)| base_chain(body));
    let chains: Vec<BaseChain> = chains.filter(|it| it.table != "ply").collect();
    let mut refusing_at = |hook: u32| {
        let of_hook = chains.iter().filter(|it| it.hook == hook);
        let mut refusing: Vec<Refusing<'_>> = of_hook
            .map(|chain| {
                // One that is gone by now refuses nothing.
                let rules = socket.ask(&rules_beside(chain)).unwrap_or_default();
                let is_elsewhere = |rule: Rule<'_>| {
                    let others = chains.iter().filter(|other| other.is_beside(chain));
                    { others }.any(|other| rule.is_of(other))
                };
                let rules = rules.into_iter().map(|(_, body)| body);
                Refusing {
                    chain,
                    rules: rules.filter(|body| !is_elsewhere(Rule(body))).collect(),
                }
            })
            .filter(Refusing::refuses_all)
            .collect();
        // A policy says more than a rule.
        refusing.sort_by_key(|it| !it.chain.drops);
        refusing
    };
    let forward = refusing_at(FORWARD);
    let input = match forward.is_empty() {
        true => Vec::new(),
        false => refusing_at(INPUT),
    };
    Ok(OF_ADDRESSES.map(|family| {
        let sees = |it: &&Refusing<'_>| [Family::Inet as u8, family].contains(&it.chain.family);
        let first = forward.iter().find(sees)?;
        let is_named = |bridge: &str| forward.iter().filter(sees).any(|it| it.names(bridge));
        let comes_in = |bridge: &str| {
            let mut closed = input.iter().filter(sees);
            closed.all(|it| it.knows_what_was_led() || it.names(bridge))
        };
        let those = |is_one: &dyn Fn(&str) -> bool| {
            let found = bridges.iter().filter(|it| is_one(it));
            found.map(|it| (*it).to_owned()).collect()
        };
        Some(Refusal {
            table: first.chain.table.clone(),
            is_policy: first.chain.drops,
            named: those(&is_named),
            led: those(&|bridge| !is_named(bridge) && comes_in(bridge)),
        })
    }))
}

/// A chain that may refuse, and the rules that packets may come to from it: those of its table but for other hooks'.
struct Refusing<'a> {
    chain: &'a BaseChain,
    rules: Vec<Vec<u8>>,
}

impl Refusing<'_> {
    fn rules(&self) -> impl DoubleEndedIterator<Item = Rule<'_>> {
        self.rules.iter().map(|body| Rule(body))
    }

    fn refuses_all(&self) -> bool {
        let last = || self.rules().rfind(|rule| rule.is_of(self.chain));
        self.chain.drops || last().is_some_and(Rule::refuses_all)
    }

    fn names(&self, device: &str) -> bool {
        self.rules().any(|rule| rule.names(device))
    }

    fn knows_what_was_led(&self) -> bool {
        let mut own = self.rules().filter(|rule| rule.is_of(self.chain));
        own.any(Rule::knows_what_was_led)
    }
}

/// Tells of changes of the firewall's rules, whosever they are.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn open() -> io::Result<Watch> {
        Socket::rule_changes().map(Watch)
    }

    /// Returns what becomes readable then.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes what it has told; returns whether more than elements of sets may have changed.
    pub(super) fn hear(&self) -> bool {
        let mut told = vec![0; 1 << 16];
        let mut has_changed = false;
        loop {
            match rustix::net::recv(
                &self.0,
                &mut told[..],
                RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            ) {
                Ok((_, whole)) if whole > told.len() => has_changed = true,
                Ok((count, _)) => has_changed |= changes_rules(&told[..count]),
                // More has happened than it could keep.
                Err(Errno::NOBUFS) => has_changed = true,
                Err(Errno::INTR) => {}
                Err(_) => return has_changed,
            }
        }
    }
}
