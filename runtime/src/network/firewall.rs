//! The rules of nftables: one table of ours on the host, `inet ply`, shared by all engines of the machine.
//!
//! ```text
//! chain outlet       nat    from @outward to elsewhere, sender in @outlets*       -> its monitor ([`super::outlet`])
//! chain prerouting   nat    from no bridge to an address of the host's, port in @ports*  -> to the container
//! chain output       nat    the same, for the host's own programs, but to loopback addresses ([`super::proxy`])
//! chain postrouting  nat    from @outward to elsewhere -> masquerade
//! chain forward      filter within a bridge, and what belongs to a connection: accept
//!                           from or to @internal: drop; to a published port: accept
//!                           between two bridges, or to a bridge from elsewhere: drop
//! ```
//!
//! Rules never change: a bridge is an element of sets, a published port one of a map. The table appears with the first
//! bridge and goes with the last; everything that reads it to change it holds the machine's lock
//! ([`super::bridge::lock_machine`]), and a change is one transaction. No other table is changed. What another table
//! drops is dropped: an accept ends only our own chain; [`super::refusal`] says what is done about that.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use super::Subnet;
use super::port::Protocol;
use super::port::Published;
use crate::sys::netfilter::ACCEPT;
use crate::sys::netfilter::CT_STATE;
use crate::sys::netfilter::CT_STATUS;
use crate::sys::netfilter::DESTINATION_CHANGED;
use crate::sys::netfilter::DROP;
use crate::sys::netfilter::ESTABLISHED_OR_RELATED;
use crate::sys::netfilter::Expression;
use crate::sys::netfilter::FORWARD;
use crate::sys::netfilter::Family;
use crate::sys::netfilter::Hook;
use crate::sys::netfilter::IIFNAME;
use crate::sys::netfilter::L4PROTO;
use crate::sys::netfilter::NETWORK_HEADER;
use crate::sys::netfilter::NFPROTO;
use crate::sys::netfilter::OIFNAME;
use crate::sys::netfilter::OUTPUT;
use crate::sys::netfilter::POSTROUTING;
use crate::sys::netfilter::PREROUTING;
use crate::sys::netfilter::Shape;
use crate::sys::netfilter::TRANSPORT_HEADER;
use crate::sys::netfilter::Table;
use crate::sys::netfilter::elements;
use crate::sys::netfilter::forget_connections;
use crate::sys::netlink::Message;
use crate::sys::netlink::Socket;
use crate::sys::netlink::address_bytes;
use crate::sys::netlink::address_of;

const TABLE: Table = Table {
    family: Family::Inet,
    name: "ply",
};

/// The table in a container's own namespace that leads to its server of names.
const NAMES: Table = Table {
    family: Family::Ip,
    name: "ply",
};

const DESTINATION: i32 = -100;
const FILTER: i32 = 0;
const SOURCE: i32 = 100;

/// What `nft` calls the types.
const IFNAME: u32 = 41;
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;

const fn concat(types: &[u32]) -> u32 {
    let mut all = 0;
    let mut at = 0;
    while at < types.len() {
        all = all << 6 | types[at];
        at += 1;
    }
    all
}

const NAME_LENGTH: usize = 16;
const NAMED: Shape = Shape {
    key: (IFNAME, 16),
    data: None,
    is_text: true,
};

/// The sets and maps.
const SETS: [(&str, Shape); 8] = [
    ("bridges", NAMED),
    ("outward", NAMED),
    ("internal", NAMED),
    (
        "within",
        Shape {
            key: (concat(&[IFNAME, IFNAME]), 32),
            data: None,
            is_text: false,
        },
    ),
    (
        "ports4",
        Shape {
            key: (concat(&[PROTOCOL, SERVICE]), 8),
            data: Some((concat(&[IPV4, SERVICE]), 8)),
            is_text: false,
        },
    ),
    (
        "ports4_at",
        Shape {
            key: (concat(&[IPV4, PROTOCOL, SERVICE]), 12),
            data: Some((concat(&[IPV4, SERVICE]), 8)),
            is_text: false,
        },
    ),
    (
        "ports6",
        Shape {
            key: (concat(&[PROTOCOL, SERVICE]), 8),
            data: Some((concat(&[IPV6, SERVICE]), 20)),
            is_text: false,
        },
    ),
    (
        "ports6_at",
        Shape {
            key: (concat(&[IPV6, PROTOCOL, SERVICE]), 24),
            data: Some((concat(&[IPV6, SERVICE]), 20)),
            is_text: false,
        },
    ),
];

const MAPS: [&str; 4] = ["ports4", "ports4_at", "ports6", "ports6_at"];

/// The maps of what leads out.
const OUTLETS: [&str; 2] = ["outlets4", "outlets6"];

const fn outlet_shape(address: u32, length: u32) -> Shape {
    Shape {
        key: (concat(&[address, PROTOCOL]), length + 4),
        data: Some((concat(&[address, SERVICE]), length + 4)),
        is_text: false,
    }
}

/// What the rules are to do for a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Treatment {
    /// Nothing leaves it.
    pub(super) internal: bool,
    /// What leaves it has the host's address.
    pub(super) masquerade: bool,
    /// Its containers reach each other.
    pub(super) within: bool,
}

/// Makes the table if it is not there, and a bridge's elements.
pub(super) fn add_bridge(name: &str, treatment: Treatment) -> io::Result<()> {
    let mut socket = Socket::netfilter()?;
    let mut messages = match socket.ask(&TABLE.get()) {
        Ok(_) => Vec::new(),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => table(),
        Err(error) => return Err(error),
    };
    if messages.is_empty() && list(&mut socket, OUTLETS[0]).is_err() {
        // An older ply has made it.
        messages = outlets();
    }
    for set in sets_of(treatment) {
        messages.push(TABLE.add(set, &key_of(set, name), None));
    }
    socket.change_rules(&messages)
}

fn sets_of(treatment: Treatment) -> impl Iterator<Item = &'static str> {
    let named = [
        ("bridges", true),
        ("internal", treatment.internal),
        ("outward", treatment.masquerade && !treatment.internal),
        ("within", treatment.within),
    ];
    named
        .into_iter()
        .filter_map(|(set, is_in)| is_in.then_some(set))
}

fn key_of(set: &str, name: &str) -> Vec<u8> {
    let name = name_bytes(name);
    match set {
        "within" => [name, name].concat(),
        _ => name.to_vec(),
    }
}

fn name_bytes(name: &str) -> [u8; NAME_LENGTH] {
    let mut bytes = [0; NAME_LENGTH];
    for (to, from) in bytes[..NAME_LENGTH - 1].iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    bytes
}

/// Takes away what is there for a bridge and for ports that lead into its ranges; with the last bridge the table.
pub(super) fn remove_bridge(name: &str, subnets: &[Subnet]) -> io::Result<()> {
    let mut socket = Socket::netfilter()?;
    let bridges = match list(&mut socket, "bridges") {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        listed => listed?,
    };
    if bridges.iter().all(|(key, _)| *key == name_bytes(name)) {
        return socket.change_rules(&[TABLE.remove()]);
    }
    let is_in_it = |address| subnets.iter().any(|subnet| subnet.contains(address));
    let mut messages = leading_to(&mut socket, is_in_it)?;
    for set in ["bridges", "internal", "outward", "within"] {
        let key = key_of(set, name);
        if list(&mut socket, set)?
            .iter()
            .any(|(there, _)| *there == key)
        {
            messages.push(TABLE.take(set, &key));
        }
    }
    socket.change_rules(&messages)
}

/// Has ports of the host's lead to a container.
pub(super) fn publish(ports: &[(Published, IpAddr)]) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let messages: Vec<Message> = ports
        .iter()
        .map(|(published, to)| {
            let mut data = address_bytes(*to);
            data.extend(service(published.port.number));
            let (map, key) = place(published);
            TABLE.add(map, &key, Some(&data))
        })
        .collect();
    Socket::netfilter()?.change_rules(&messages)
}

/// Has what comes from an address and goes elsewhere lead to an address and port of the host's.
pub(super) fn let_out(outlets: &[(IpAddr, Protocol, SocketAddr)]) -> io::Result<()> {
    let messages: Vec<Message> = outlets
        .iter()
        .map(|(from, protocol, to)| {
            let mut key = address_bytes(*from);
            key.extend([protocol.number(), 0, 0, 0]);
            let mut data = address_bytes(to.ip());
            data.extend(service(to.port()));
            TABLE.add(OUTLETS[usize::from(from.is_ipv6())], &key, Some(&data))
        })
        .collect();
    if messages.is_empty() {
        return Ok(());
    }
    Socket::netfilter()?.change_rules(&messages)?;
    forget_datagrams(outlets.iter().map(|(from, ..)| *from));
    Ok(())
}

/// Has the kernel forget where it has led datagrams of these addresses: unlike connections they have no end, and go on by
/// the rules that were there when they began.
fn forget_datagrams(addresses: impl Iterator<Item = IpAddr>) {
    let messages: Vec<Message> = addresses
        .flat_map(|address| forget_connections(Protocol::Udp.number(), address))
        .collect();
    let forgotten = Socket::netfilter().and_then(|mut socket| socket.request(&messages));
    // An older kernel cannot: they go their way until they are silent for a while.
    if let Err(error) = forgotten {
        log::debug!("datagrams' ways: {error}");
    }
}

/// Takes away what leads to these addresses or from them.
pub(crate) fn forget(addresses: &[IpAddr]) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::netfilter()?;
    let messages = match leading_to(&mut socket, |address| addresses.contains(&address)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        messages => messages?,
    };
    if messages.is_empty() {
        return Ok(());
    }
    socket.change_rules(&messages)?;
    forget_datagrams(addresses.iter().copied());
    Ok(())
}

/// Returns what takes away all that leads to some addresses or from them.
fn leading_to(socket: &mut Socket, is_one: impl Fn(IpAddr) -> bool) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    for map in MAPS {
        let length = if map.starts_with("ports4") { 4 } else { 16 };
        for (key, data) in list(socket, map)? {
            let to = data.get(..length).and_then(address_of);
            if to.is_some_and(&is_one) {
                messages.push(TABLE.take(map, &key));
            }
        }
    }
    for (map, length) in OUTLETS.into_iter().zip([4, 16]) {
        // One that an older ply has made the table without leads nobody out.
        for (key, _) in list(socket, map).unwrap_or_default() {
            let from = key.get(..length).and_then(address_of);
            if from.is_some_and(&is_one) {
                messages.push(TABLE.take(map, &key));
            }
        }
    }
    Ok(messages)
}

fn list(socket: &mut Socket, set: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let answers = socket.ask(&TABLE.list(set))?;
    Ok(answers
        .iter()
        .flat_map(|(_, body)| elements(body))
        .collect())
}

/// A port as a part of a key or of data: padded to four bytes.
fn service(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Returns the map and the key of a published port.
fn place(published: &Published) -> (&'static str, Vec<u8>) {
    let mut key = Vec::new();
    let map = match published.address {
        IpAddr::V4(address) if address.is_unspecified() => "ports4",
        IpAddr::V6(address) if address.is_unspecified() => "ports6",
        address => {
            key = address_bytes(address);
            if address.is_ipv4() {
                "ports4_at"
            } else {
                "ports6_at"
            }
        }
    };
    key.extend([published.port.protocol.number(), 0, 0, 0]);
    key.extend(service(published.host));
    (map, key)
}

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Registers of four bytes: the first of the second 16, and what comes behind it.
const ADDRESS: u32 = 8;
const KEY: u32 = 12;

/// Returns what makes that part of the table that leads out.
fn outlets() -> Vec<Message> {
    /// The numbers in the transaction, behind those of the other sets.
    const FIRST: u32 = 100;
    let shapes = [outlet_shape(IPV4, 4), outlet_shape(IPV6, 16)];
    let hook = Hook {
        kind: "nat",
        number: PREROUTING,
        priority: DESTINATION,
    };
    let maps = (FIRST..).zip(OUTLETS.into_iter().zip(shapes));
    let mut messages: Vec<Message> = maps
        .map(|(id, (name, shape))| TABLE.make_set(name, id, shape))
        .collect();
    messages.push(TABLE.make_chain("outlet", hook));
    for is_ipv6 in [false, true] {
        messages.push(TABLE.make_rule("outlet", &to_outlet(is_ipv6)));
    }
    messages
}

/// Returns what makes the table with its sets, chains and rules.
fn table() -> Vec<Message> {
    let hook = |kind, number, priority| Hook {
        kind,
        number,
        priority,
    };
    let mut messages = vec![TABLE.make()];
    for (id, (name, shape)) in (1..).zip(SETS) {
        messages.push(TABLE.make_set(name, id, shape));
    }
    messages.extend([
        TABLE.make_chain("prerouting", hook("nat", PREROUTING, DESTINATION)),
        TABLE.make_chain("output", hook("nat", OUTPUT, DESTINATION)),
        TABLE.make_chain("postrouting", hook("nat", POSTROUTING, SOURCE)),
        TABLE.make_chain("forward", hook("filter", FORWARD, FILTER)),
    ]);
    for (chain, is_own) in [("prerouting", false), ("output", true)] {
        for map in ["ports4_at", "ports4", "ports6_at", "ports6"] {
            messages.push(TABLE.make_rule(chain, &to_container(map, is_own)));
        }
    }
    messages.extend(outlets());
    let from = |set| [Expression::meta(IIFNAME, 1), Expression::is_in(set, 1)];
    let to = |set| [Expression::meta(OIFNAME, 1), Expression::is_in(set, 1)];
    let to_elsewhere = || {
        [
            Expression::meta(OIFNAME, 1),
            Expression::is_not_in("bridges", 1),
        ]
    };
    let has = |key, bits: u32| {
        [
            Expression::connection(key, 1),
            Expression::mask(1, bits),
            Expression::compare(1, false, &[0; 4]),
        ]
    };
    let accept = || [Expression::verdict(ACCEPT)];
    let drop = || [Expression::verdict(DROP)];
    let rule = |chain, parts: &[&[Expression]]| TABLE.make_rule(chain, &parts.concat());
    let masquerade = [Expression::masquerade()];
    let within = [
        Expression::meta(IIFNAME, 1),
        Expression::meta(OIFNAME, 2),
        Expression::is_in("within", 1),
    ];
    let published = has(CT_STATUS, DESTINATION_CHANGED);
    messages.extend([
        rule(
            "postrouting",
            &[&from("outward"), &to_elsewhere(), &masquerade],
        ),
        rule("forward", &[&within, &accept()]),
        rule(
            "forward",
            &[&has(CT_STATE, ESTABLISHED_OR_RELATED), &accept()],
        ),
        rule("forward", &[&from("internal"), &drop()]),
        rule("forward", &[&to("internal"), &drop()]),
        rule("forward", &[&published, &accept()]),
        rule("forward", &[&to("bridges"), &drop()]),
    ]);
    messages
}

/// Returns the rule that sends what is meant for a published port to its container.
fn to_container(map: &str, is_own: bool) -> Vec<Expression> {
    let is_ipv6 = map.starts_with("ports6");
    let (nfproto, offset, length) = match is_ipv6 {
        false => (NFPROTO_IPV4, 16, 4),
        true => (NFPROTO_IPV6, 24, 16),
    };
    let mut rule = vec![
        Expression::meta(NFPROTO, 1),
        Expression::compare(1, true, &[nfproto]),
        Expression::destination_type(1),
        Expression::compare(1, true, &2u32.to_ne_bytes()),
    ];
    if is_own {
        let loopback: &[u8] = match is_ipv6 {
            false => &[127],
            true => &std::net::Ipv6Addr::LOCALHOST.octets(),
        };
        let length = loopback.len() as u32;
        rule.push(Expression::payload(NETWORK_HEADER, offset, length, 1));
        rule.push(Expression::compare(1, false, loopback));
    } else {
        // Where bridges pass packets through the firewall (br_netfilter), a container that reaches itself would have its
        // own address on both ends: containers go through the proxy, as Docker's do.
        rule.push(Expression::meta(IIFNAME, 1));
        rule.push(Expression::is_not_in("bridges", 1));
    }
    let mut next = KEY;
    if map.ends_with("_at") {
        rule.push(Expression::payload(NETWORK_HEADER, offset, length, next));
        next += length / 4;
    }
    rule.push(Expression::meta(L4PROTO, next));
    rule.push(Expression::payload(TRANSPORT_HEADER, 2, 2, next + 1));
    rule.push(Expression::map(map, KEY, ADDRESS));
    rule.push(Expression::change_destination(
        is_ipv6,
        ADDRESS,
        ADDRESS + length / 4,
    ));
    rule
}

/// Returns the rule that sends what a container sends elsewhere to its monitor.
fn to_outlet(is_ipv6: bool) -> Vec<Expression> {
    const SOMEBODY_ELSES: u32 = 1;
    let (nfproto, offset, length) = match is_ipv6 {
        false => (NFPROTO_IPV4, 12, 4),
        true => (NFPROTO_IPV6, 8, 16),
    };
    let map = OUTLETS[usize::from(is_ipv6)];
    vec![
        Expression::meta(NFPROTO, 1),
        Expression::compare(1, true, &[nfproto]),
        Expression::meta(IIFNAME, 1),
        Expression::is_in("outward", 1),
        Expression::destination_type(1),
        Expression::compare(1, true, &SOMEBODY_ELSES.to_ne_bytes()),
        Expression::destination_device(1),
        Expression::is_not_in("bridges", 1),
        Expression::payload(NETWORK_HEADER, offset, length, KEY),
        Expression::meta(L4PROTO, KEY + length / 4),
        Expression::map(map, KEY, ADDRESS),
        Expression::change_destination(is_ipv6, ADDRESS, ADDRESS + length / 4),
    ]
}

/// Leads what asks 127.0.0.11 for names to where they are served, in the namespace of the calling thread.
pub(super) fn lead_to_names(address: Ipv4Addr, udp: u16, tcp: u16) -> io::Result<()> {
    const PORT: u16 = 53;
    let hook = Hook {
        kind: "nat",
        number: OUTPUT,
        priority: DESTINATION,
    };
    let mut messages = vec![NAMES.make(), NAMES.make_chain("output", hook)];
    for (protocol, port) in [(17u8, udp), (6, tcp)] {
        let rule = [
            Expression::payload(NETWORK_HEADER, 16, 4, 1),
            Expression::compare(1, true, &address.octets()),
            Expression::meta(L4PROTO, 1),
            Expression::compare(1, true, &[protocol]),
            Expression::payload(TRANSPORT_HEADER, 2, 2, 1),
            Expression::compare(1, true, &PORT.to_be_bytes()),
            Expression::immediate(ADDRESS, &address.octets()),
            Expression::immediate(ADDRESS + 1, &port.to_be_bytes()),
            Expression::change_destination(false, ADDRESS, ADDRESS + 1),
        ];
        messages.push(NAMES.make_rule("output", &rule));
    }
    Socket::netfilter()?.change_rules(&messages)
}
