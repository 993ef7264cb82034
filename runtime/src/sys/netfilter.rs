//! The language of nf_tables: tables, chains, sets, rules and their expressions as netlink messages.
//!
//! The numbers are those of `linux/netfilter/nf_tables.h`; what libc lacks of them is named here. Numbers in attributes
//! are in the network's byte order.

use std::net::IpAddr;
use std::net::SocketAddr;

use super::netlink::Attributes;
use super::netlink::CREATE;
use super::netlink::Message;
use super::netlink::address_bytes;
use super::netlink::address_of;

/// A chain that the kernel calls from a hook, of any table of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseChain {
    /// The table's family: 1 sees all packets, 2 those of IPv4, 10 those of IPv6.
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// The hook's number.
    pub(crate) hook: u32,
    /// Whether what no rule decides on is dropped.
    pub(crate) drops: bool,
}

impl BaseChain {
    /// Whether it is another one of the same table.
    pub(crate) fn is_beside(&self, other: &BaseChain) -> bool {
        (self.family, &self.table) == (other.family, &other.table) && self.name != other.name
    }
}

/// Returns the question for all chains.
pub(crate) fn all_chains() -> Message {
    Message::new(
        SUBSYSTEM | libc::NFT_MSG_GETCHAIN as u16,
        libc::NLM_F_DUMP as u16,
    )
    .fixed(&[0; 4])
}

/// Reads one answer to [`all_chains`]; `None` for a chain that only rules call.
pub(crate) fn base_chain(body: &[u8]) -> Option<BaseChain> {
    let attributes = || Some(Attributes(body.get(4..)?));
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(*bytes.first_chunk::<4>()?));
    let text = |bytes: &[u8]| String::from_utf8_lossy(without_end(bytes)).into_owned();
    let hook = Attributes(attributes()?.find(4)?).find(1)?;
    let policy = attributes()?.find(5).and_then(number);
    Some(BaseChain {
        family: *body.first()?,
        table: text(attributes()?.find(1)?),
        name: text(attributes()?.find(3)?),
        hook: number(hook)?,
        drops: policy == Some(0),
    })
}

/// Returns the question for all rules of a base chain's table.
pub(crate) fn rules_beside(chain: &BaseChain) -> Message {
    Message::new(
        SUBSYSTEM | libc::NFT_MSG_GETRULE as u16,
        libc::NLM_F_DUMP as u16,
    )
    .fixed(&[chain.family, 0, 0, 0])
    .with_text(1, &chain.table)
}

/// A rule of any table: one answer to [`rules_beside`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'a>(pub(crate) &'a [u8]);

impl<'a> Rule<'a> {
    fn attribute(self, kind: u16) -> &'a [u8] {
        let found = self.0.get(4..).and_then(|body| Attributes(body).find(kind));
        found.unwrap_or_default()
    }

    /// Whether it is one of this chain.
    pub(crate) fn is_of(self, chain: &BaseChain) -> bool {
        without_end(self.attribute(2)) == chain.name.as_bytes()
    }

    /// The names of its expressions and what they say.
    fn expressions(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        Attributes(self.attribute(4)).map(|(_, expression)| {
            let name = Attributes(expression).find(1).unwrap_or_default();
            let data = Attributes(expression).find(2).unwrap_or_default();
            (without_end(name), data)
        })
    }

    /// Whether it drops or rejects whatever comes to it.
    pub(crate) fn refuses_all(self) -> bool {
        let mut what = self
            .expressions()
            .filter(|(name, _)| !matches!(*name, b"counter" | b"log"));
        let (Some((name, data)), None) = (what.next(), what.next()) else {
            return false;
        };
        match name {
            b"reject" => true,
            b"immediate" => {
                let verdict = Attributes(data)
                    .find(2)
                    .and_then(|it| Attributes(it).find(2));
                let code = verdict.and_then(|it| Attributes(it).find(1));
                code == Some(&DROP.to_be_bytes())
            }
            // One of `iptables`.
            b"target" => Attributes(data)
                .find(1)
                .is_some_and(|it| it.starts_with(b"REJECT")),
            _ => false,
        }
    }

    /// Whether it looks at whether a connection was led elsewhere.
    pub(crate) fn knows_what_was_led(self) -> bool {
        self.expressions().any(|(name, data)| {
            name == b"ct" && Attributes(data).find(2) == Some(&CT_STATUS.to_be_bytes())
        })
    }

    /// Whether it compares something with this name.
    pub(crate) fn names(self, device: &str) -> bool {
        let whole = [device.as_bytes(), &[0]].concat();
        self.expressions()
            .any(|(_, data)| data.windows(whole.len()).any(|part| part == whole))
    }
}

fn without_end(text: &[u8]) -> &[u8] {
    text.strip_suffix(&[0]).unwrap_or(text)
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
}

/// Where a chain is called from: its type, the hook's number, and the priority among the hook's chains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

pub(crate) const PREROUTING: u32 = 0;
pub(crate) const INPUT: u32 = 1;
pub(crate) const FORWARD: u32 = 2;
pub(crate) const OUTPUT: u32 = 3;
pub(crate) const POSTROUTING: u32 = 4;

/// A set's or map's shape: how long keys and data are, and the types that `nft` shows them as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) key: (u32, u32),
    pub(crate) data: Option<(u32, u32)>,
    pub(crate) is_text: bool,
}

const SUBSYSTEM: u16 = 10 << 8;
const LIST_ELEMENT: u16 = 1;

fn message(kind: libc::c_int, flags: u16, family: Family) -> Message {
    Message::new(SUBSYSTEM | kind as u16, flags).fixed(&[family as u8, 0, 0, 0])
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.with(kind, &value.to_be_bytes())
}

impl Table {
    pub(crate) fn make(self) -> Message {
        message(libc::NFT_MSG_NEWTABLE, CREATE, self.family).with_text(1, self.name)
    }

    pub(crate) fn remove(self) -> Message {
        message(libc::NFT_MSG_DELTABLE, 0, self.family).with_text(1, self.name)
    }

    /// Returns the question whether it is there.
    pub(crate) fn get(self) -> Message {
        message(libc::NFT_MSG_GETTABLE, 0, self.family).with_text(1, self.name)
    }

    pub(crate) fn make_chain(self, name: &str, hook: Hook) -> Message {
        const POLICY_ACCEPT: u32 = 1;
        let chain = message(libc::NFT_MSG_NEWCHAIN, CREATE, self.family)
            .with_text(1, self.name)
            .with_text(3, name)
            .nest(4, |it| {
                number(number(it, 1, hook.number), 2, hook.priority as u32)
            });
        number(chain, 5, POLICY_ACCEPT).with_text(7, hook.kind)
    }

    pub(crate) fn make_set(self, name: &str, id: u32, shape: Shape) -> Message {
        const MAP: u32 = 8;
        let set = message(libc::NFT_MSG_NEWSET, CREATE, self.family)
            .with_text(1, self.name)
            .with_text(2, name);
        let set = number(set, 3, if shape.data.is_some() { MAP } else { 0 });
        let set = number(number(set, 4, shape.key.0), 5, shape.key.1);
        let set = match shape.data {
            Some((kind, length)) => number(number(set, 6, kind), 7, length),
            None => set,
        };
        // Texts are shown as they are: `nft` keeps a set's byte order (type 0, length 4, host's) here.
        const USER_DATA: u16 = 13;
        const KEY_ORDER: [u8; 2] = [0, 4];
        let order = [&KEY_ORDER[..], &1u32.to_ne_bytes()].concat();
        match shape.is_text {
            true => number(set, 10, id).with(USER_DATA, &order),
            false => number(set, 10, id),
        }
    }

    pub(crate) fn make_rule(self, chain: &str, expressions: &[Expression]) -> Message {
        const APPEND: u16 = libc::NLM_F_APPEND as u16;
        message(libc::NFT_MSG_NEWRULE, CREATE | APPEND, self.family)
            .with_text(1, self.name)
            .with_text(2, chain)
            .nest(4, |list| {
                expressions.iter().fold(list, |list, expression| {
                    list.nest(LIST_ELEMENT, |it| {
                        it.with_text(1, expression.name)
                            .nest(2, |it| expression.write(it))
                    })
                })
            })
    }

    /// Adds an element that may be there already.
    pub(crate) fn add(self, set: &str, key: &[u8], data: Option<&[u8]>) -> Message {
        self.element(libc::NFT_MSG_NEWSETELEM, CREATE, set, key, data)
    }

    /// Takes an element away, which must be there.
    pub(crate) fn take(self, set: &str, key: &[u8]) -> Message {
        self.element(libc::NFT_MSG_DELSETELEM, 0, set, key, None)
    }

    fn element(
        self,
        kind: libc::c_int,
        flags: u16,
        set: &str,
        key: &[u8],
        data: Option<&[u8]>,
    ) -> Message {
        message(kind, flags, self.family)
            .with_text(1, self.name)
            .with_text(2, set)
            .nest(3, |list| {
                list.nest(LIST_ELEMENT, |it| {
                    let it = it.nest(1, |it| it.with(1, key));
                    match data {
                        Some(data) => it.nest(2, |it| it.with(1, data)),
                        None => it,
                    }
                })
            })
    }

    /// Returns the question for all elements of a set.
    pub(crate) fn list(self, set: &str) -> Message {
        message(
            libc::NFT_MSG_GETSETELEM,
            libc::NLM_F_DUMP as u16,
            self.family,
        )
        .with_text(1, self.name)
        .with_text(2, set)
    }
}

/// Reads the keys and data of a set's elements out of an answer to [`Table::list`].
pub(crate) fn elements(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    use super::netlink::Attributes;
    let list = body.get(4..).and_then(|body| Attributes(body).find(3));
    let value = |element: &[u8], kind| {
        let nested = Attributes(element).find(kind);
        let value = nested.and_then(|nested| Attributes(nested).find(1));
        value.map(<[u8]>::to_vec).unwrap_or_default()
    };
    Attributes(list.unwrap_or_default())
        .map(|(_, element)| (value(element, 1), value(element, 2)))
        .collect()
}

/// The subsystem of the connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`).
const CONNECTIONS: u16 = 1 << 8;
const OF_BEGINNER: u16 = 1;
const OF_ANSWERS: u16 = 2;

fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// The kinds of a tuple's addresses: its source's and its destination's.
fn address_kinds(address: IpAddr) -> (u16, u16) {
    match address {
        IpAddr::V4(_) => (1, 2),
        IpAddr::V6(_) => (3, 4),
    }
}

/// Returns the question for a connection by its answers: from where they come and where they go, and of which protocol.
pub(crate) fn connection_by_answers(protocol: u8, from: SocketAddr, to: SocketAddr) -> Message {
    const GET: u16 = 1;
    let (source, destination) = address_kinds(from.ip());
    Message::new(CONNECTIONS | GET, 0)
        .fixed(&[family_of(from.ip()), 0, 0, 0])
        .nest(OF_ANSWERS, |it| {
            it.nest(1, |it| {
                it.with(source, &address_bytes(from.ip()))
                    .with(destination, &address_bytes(to.ip()))
            })
            .nest(2, |it| {
                it.with(1, &[protocol])
                    .with(2, &from.port().to_be_bytes())
                    .with(3, &to.port().to_be_bytes())
            })
        })
}

/// Returns what has the kernel forget the connections of a protocol that an address has begun, and those whose answers
/// come from it; of Linux 5.8, older ones refuse it.
pub(crate) fn forget_connections(protocol: u8, address: IpAddr) -> [Message; 2] {
    const DELETE: u16 = 2;
    const FILTER: u16 = 25;
    const BY_SOURCE_AND_PROTOCOL: u32 = 1 | 1 << 3;
    /// The family counts.
    const VERSION: u8 = 1;
    [OF_BEGINNER, OF_ANSWERS].map(|tuple| {
        Message::new(CONNECTIONS | DELETE, 0)
            .fixed(&[family_of(address), VERSION, 0, 0])
            .nest(tuple, |it| {
                it.nest(1, |it| {
                    it.with(address_kinds(address).0, &address_bytes(address))
                })
                .nest(2, |it| it.with(1, &[protocol]))
            })
            .nest(FILTER, |it| {
                it.with(tuple, &BY_SOURCE_AND_PROTOCOL.to_ne_bytes())
            })
    })
}

/// Reads whom a connection was meant for out of the answer to [`connection_by_answers`].
pub(crate) fn meant_for(body: &[u8]) -> Option<SocketAddr> {
    let tuple = Attributes(body.get(4..)?).find(OF_BEGINNER)?;
    let addresses = Attributes(tuple).find(1)?;
    let address = Attributes(addresses)
        .find(2)
        .or_else(|| Attributes(addresses).find(4))?;
    let port = Attributes(Attributes(tuple).find(2)?).find(3)?;
    let port = u16::from_be_bytes(*port.first_chunk()?);
    Some(SocketAddr::new(address_of(address)?, port))
}

/// A register of 16 bytes by its number, 1 to 4; or of 4 bytes, 8 to 23.
pub(crate) type Register = u32;

/// What a rule does with a packet: it looks at it and goes on if it fits, or acts.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    name: &'static str,
    attributes: Vec<Attribute>,
}

#[derive(Debug, Clone)]
enum Attribute {
    Number(u16, u32),
    Text(u16, String),
    /// A value in its nest.
    Data(u16, Vec<u8>),
    Verdict(u16, u32),
}

/// Properties of a packet.
pub(crate) const IIFNAME: u32 = 6;
pub(crate) const OIFNAME: u32 = 7;
pub(crate) const NFPROTO: u32 = 15;
pub(crate) const L4PROTO: u32 = 16;

/// Properties of a connection, and bits of them.
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
pub(crate) const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
pub(crate) const DESTINATION_CHANGED: u32 = 1 << 5;

/// Headers.
pub(crate) const NETWORK_HEADER: u32 = 1;
pub(crate) const TRANSPORT_HEADER: u32 = 2;

pub(crate) const DROP: u32 = 0;
pub(crate) const ACCEPT: u32 = 1;

impl Expression {
    fn new(name: &'static str, attributes: Vec<Attribute>) -> Expression {
        Expression { name, attributes }
    }

    fn write(&self, to: Message) -> Message {
        self.attributes.iter().fold(to, |to, it| match it {
            Attribute::Number(kind, value) => number(to, *kind, *value),
            Attribute::Text(kind, text) => to.with_text(*kind, text),
            Attribute::Data(kind, bytes) => to.nest(*kind, |it| it.with(1, bytes)),
            Attribute::Verdict(kind, code) => {
                to.nest(*kind, |it| it.nest(2, |it| number(it, 1, *code)))
            }
        })
    }

    /// Loads a property of the packet.
    pub(crate) fn meta(key: u32, to: Register) -> Expression {
        Expression::new(
            "meta",
            vec![Attribute::Number(1, to), Attribute::Number(2, key)],
        )
    }

    /// Loads a property of the packet's connection.
    pub(crate) fn connection(key: u32, to: Register) -> Expression {
        Expression::new(
            "ct",
            vec![Attribute::Number(1, to), Attribute::Number(2, key)],
        )
    }

    /// Loads bytes of a header.
    pub(crate) fn payload(base: u32, offset: u32, length: u32, to: Register) -> Expression {
        let numbers = [(1, to), (2, base), (3, offset), (4, length)];
        let attributes = numbers.map(|(kind, value)| Attribute::Number(kind, value));
        Expression::new("payload", attributes.to_vec())
    }

    /// Loads what the destination is to the host: 1 is somebody else's address, 2 is one of its own.
    pub(crate) fn destination_type(to: Register) -> Expression {
        const ADDRTYPE: u32 = 3;
        Expression::destination(ADDRTYPE, to)
    }

    /// Loads the name of the device that leads to the destination.
    pub(crate) fn destination_device(to: Register) -> Expression {
        const OIFNAME: u32 = 2;
        Expression::destination(OIFNAME, to)
    }

    fn destination(what: u32, to: Register) -> Expression {
        const OF_DESTINATION: u32 = 2;
        let numbers = [(1, to), (2, what), (3, OF_DESTINATION)];
        let attributes = numbers.map(|(kind, value)| Attribute::Number(kind, value));
        Expression::new("fib", attributes.to_vec())
    }

    /// Goes on if a register is, or is not, this.
    pub(crate) fn compare(from: Register, is: bool, value: &[u8]) -> Expression {
        Expression::new(
            "cmp",
            vec![
                Attribute::Number(1, from),
                Attribute::Number(2, u32::from(!is)),
                Attribute::Data(3, value.to_vec()),
            ],
        )
    }

    /// Leaves some bits of a register of 4 bytes.
    pub(crate) fn mask(register: Register, mask: u32) -> Expression {
        Expression::new(
            "bitwise",
            vec![
                Attribute::Number(1, register),
                Attribute::Number(2, register),
                Attribute::Number(3, 4),
                Attribute::Data(4, mask.to_ne_bytes().to_vec()),
                Attribute::Data(5, vec![0; 4]),
            ],
        )
    }

    /// Goes on if the key is in the set.
    pub(crate) fn is_in(set: &str, from: Register) -> Expression {
        let attributes = vec![
            Attribute::Text(1, set.to_owned()),
            Attribute::Number(2, from),
        ];
        Expression::new("lookup", attributes)
    }

    /// Goes on if the key is not in the set.
    pub(crate) fn is_not_in(set: &str, from: Register) -> Expression {
        let mut lookup = Expression::is_in(set, from);
        lookup.attributes.push(Attribute::Number(5, 1));
        lookup
    }

    /// Goes on with what the map has for the key.
    pub(crate) fn map(set: &str, from: Register, to: Register) -> Expression {
        let mut lookup = Expression::is_in(set, from);
        lookup.attributes.push(Attribute::Number(3, to));
        lookup
    }

    /// Loads a value.
    pub(crate) fn immediate(to: Register, value: &[u8]) -> Expression {
        let attributes = vec![Attribute::Number(1, to), Attribute::Data(2, value.to_vec())];
        Expression::new("immediate", attributes)
    }

    /// Ends the chain.
    pub(crate) fn verdict(code: u32) -> Expression {
        let attributes = vec![Attribute::Number(1, 0), Attribute::Verdict(2, code)];
        Expression::new("immediate", attributes)
    }

    /// Sends the connection to the address and port in two registers.
    pub(crate) fn change_destination(
        is_ipv6: bool,
        address: Register,
        port: Register,
    ) -> Expression {
        const DESTINATION: u32 = 1;
        let family = if is_ipv6 { 10 } else { 2 };
        let numbers = [(1, DESTINATION), (2, family), (3, address), (5, port)];
        let attributes = numbers.map(|(kind, value)| Attribute::Number(kind, value));
        Expression::new("nat", attributes.to_vec())
    }

    /// Gives the connection the host's address as its source.
    pub(crate) fn masquerade() -> Expression {
        Expression::new("masq", Vec::new())
    }
}
