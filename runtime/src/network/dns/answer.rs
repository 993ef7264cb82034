//! What is said to a question.

use std::net::IpAddr;

use hickory_proto::op::Edns;
use hickory_proto::op::Message;
use hickory_proto::op::MessageType;
use hickory_proto::op::OpCode;
use hickory_proto::op::Query;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::DNSClass;
use hickory_proto::rr::Name;
use hickory_proto::rr::RData;
use hickory_proto::rr::Record;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::rdata::PTR;
use rand::seq::SliceRandom as _;

use super::Names;
use super::Upstream;

/// How long an answer may be kept: not at all, since names come and go with containers (RFC 1035, 3.2.1).
const TTL: u32 = 0;

/// The longest datagram for a client that does not say how much it takes (RFC 1035, 4.2.1), and the longest at all.
const LEAST_PAYLOAD: u16 = 512;
const MOST_PAYLOAD: u16 = 4096;

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// This is sent back.
    Reply(Vec<u8>),
    /// Somebody else knows.
    Forward(Question),
    /// It is no question.
    Nothing,
}

/// A question that others answer.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The message as it came.
    pub(super) bytes: Vec<u8>,
    message: Message,
}

impl Question {
    /// Returns the number the client gave it.
    pub(super) fn id(&self) -> u16 {
        self.message.metadata.id
    }

    /// Returns whether these bytes, which came from a server, may answer it, and whether another server may know better.
    pub(super) fn is_answered_by(&self, bytes: &[u8], id: u16) -> Option<Knowledge> {
        let reply = Message::from_vec(bytes).ok()?;
        let is_reply = reply.metadata.message_type == MessageType::Response;
        if !is_reply || reply.metadata.id != id || reply.queries != self.message.queries {
            return None;
        }
        Some(match reply.metadata.response_code {
            ResponseCode::ServFail | ResponseCode::NotImp | ResponseCode::Refused => {
                Knowledge::AskOthers
            }
            _ => Knowledge::Final,
        })
    }

    /// Returns the reply for when nobody answered.
    pub(super) fn failure(&self) -> Vec<u8> {
        encode(&reply_to(&self.message, ResponseCode::ServFail))
    }
}

/// What a server's reply is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    Final,
    AskOthers,
}

/// Answers a message; `is_datagram` cuts the reply at what the client takes.
pub(super) fn answer(
    bytes: &[u8],
    names: &dyn Names,
    upstream: &Upstream,
    is_datagram: bool,
) -> Answer {
    let Ok(message) = Message::from_vec(bytes) else {
        return Answer::Nothing;
    };
    if message.metadata.message_type != MessageType::Query {
        return Answer::Nothing;
    }
    let reply = match (message.metadata.op_code, &message.queries[..]) {
        (OpCode::Query, [query]) => local(&message, query, names),
        (OpCode::Query, _) => Some(reply_to(&message, ResponseCode::FormErr)),
        _ => Some(reply_to(&message, ResponseCode::NotImp)),
    };
    match reply {
        Some(reply) => Answer::Reply(match is_datagram {
            true => encode_within(&reply, &message),
            false => encode(&reply),
        }),
        None if is_kept(&message.queries, upstream) => {
            Answer::Reply(encode(&reply_to(&message, ResponseCode::ServFail)))
        }
        None => Answer::Forward(Question {
            bytes: bytes.to_vec(),
            message,
        }),
    }
}

/// Returns whether a question that is not ours is not passed on.
fn is_kept(queries: &[Query], upstream: &Upstream) -> bool {
    let single_label = |query: &Query| {
        matches!(query.query_type(), RecordType::A | RecordType::AAAA)
            && query.name().num_labels() == 1
    };
    upstream.servers.is_empty() || upstream.keeps_single_labels && queries.iter().any(single_label)
}

/// Answers a question about a name or an address of the engine's.
fn local(message: &Message, query: &Query, names: &dyn Names) -> Option<Message> {
    if query.query_class() != DNSClass::IN {
        return None;
    }
    let mut answers = match query.query_type() {
        RecordType::PTR => vec![pointer(query.name(), names)?],
        kind => {
            let name = query.name().to_lowercase().to_ascii();
            let addresses = names.addresses(name.trim_end_matches('.'))?;
            let data = addresses.into_iter().filter_map(|address| match address {
                IpAddr::V4(address) => (kind == RecordType::A).then_some(RData::A(A(address))),
                IpAddr::V6(address) => {
                    (kind == RecordType::AAAA).then_some(RData::AAAA(AAAA(address)))
                }
            });
            data.collect()
        }
    };
    // Clients take the first: several containers of one name share the work.
    answers.shuffle(&mut rand::rng());
    let mut reply = reply_to(message, ResponseCode::NoError);
    for data in answers {
        reply.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
    }
    Some(reply)
}

/// Returns the name of the address that a name of `in-addr.arpa` or `ip6.arpa` stands for.
fn pointer(name: &Name, names: &dyn Names) -> Option<RData> {
    let network = name.parse_arpa_name().ok()?;
    if network.prefix_len() != network.max_prefix_len() {
        return None;
    }
    let found = names.name_of(network.addr())?;
    let found = Name::from_ascii(format!("{found}.")).ok()?;
    Some(RData::PTR(PTR(found)))
}

fn reply_to(message: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(message.queries.iter().take(1).cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MOST_PAYLOAD);
        reply.set_edns(edns);
    }
    reply
}

/// Encodes a reply of ours; one that cannot be is a bug, and an empty datagram tells nobody anything.
fn encode(reply: &Message) -> Vec<u8> {
    reply.to_vec().unwrap_or_else(|error| {
        log::warn!("dns: {error}");
        Vec::new()
    })
}

/// Encodes a reply for a datagram: one that the client would not take whole says that it should ask by TCP.
fn encode_within(reply: &Message, question: &Message) -> Vec<u8> {
    let limit = match &question.edns {
        Some(edns) => edns.max_payload().clamp(LEAST_PAYLOAD, MOST_PAYLOAD),
        None => LEAST_PAYLOAD,
    };
    let bytes = encode(reply);
    match bytes.len() <= usize::from(limit) {
        true => bytes,
        false => encode(&reply.truncate()),
    }
}
