//! The resolver over real sockets of the loopback interface, its servers being sockets of the test.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use hickory_proto::op::Message;
use hickory_proto::op::Query;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::rr::RData;
use hickory_proto::rr::Record;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::A;
use proptest::prelude::*;

use super::Names;
use super::Upstream;
use super::answer::Answer;
use super::answer::answer;
use super::forward::read_message;
use super::forward::write_message;

/// `web` with two addresses, `many` with a hundred, `gone` with none.
struct Known;

impl Names for Known {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        match name {
            "web" => Some(vec![[10, 0, 0, 2].into(), "fd00::2".parse().expect("v6")]),
            "many" => Some((0..100).map(|last| [10, 0, 1, last].into()).collect()),
            "gone" => Some(Vec::new()),
            _ => None,
        }
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        let web = address == IpAddr::from([10, 0, 0, 2]);
        web.then(|| "web.net".to_owned())
    }
}

fn loopback() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).expect("a timeout");
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("an address")
}

/// Starts a resolver; returns where it listens, for datagrams and streams.
fn resolver(upstream: Upstream) -> (SocketAddr, SocketAddr) {
    let datagrams = loopback();
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let there = (
        address(&datagrams),
        streams.local_addr().expect("an address"),
    );
    super::serve(datagrams, streams, Arc::new(Known), upstream).expect("it serves");
    there
}

fn servers(sockets: &[&UdpSocket]) -> Upstream {
    Upstream {
        servers: sockets.iter().map(|socket| address(socket)).collect(),
        keeps_single_labels: false,
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, kind));
    message
}

fn encoded(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encoded")
}

fn receive(socket: &UdpSocket) -> (Message, SocketAddr) {
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (
        Message::from_vec(&buffer[..length]).expect("a message"),
        from,
    )
}

/// Asks the resolver and returns what it says.
fn ask(resolver: SocketAddr, name: &str, kind: RecordType) -> Message {
    let client = loopback();
    let question = question(name, kind);
    client.send_to(&encoded(&question), resolver).expect("sent");
    let (reply, _) = receive(&client);
    assert_eq!(reply.metadata.id, question.metadata.id);
    reply
}

/// Answers one question as a server of the test's.
fn reply_with(server: &UdpSocket, code: ResponseCode, last: u8) {
    let (question, from) = receive(server);
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.response_code = code;
    let name = question.queries[0].name().clone();
    reply.add_queries(question.queries);
    reply.add_answer(Record::from_rdata(
        name,
        60,
        RData::A(A::new(192, 0, 2, last)),
    ));
    server.send_to(&encoded(&reply), from).expect("sent");
}

fn data(message: &Message) -> Vec<String> {
    let data = message.answers.iter().map(|record| record.data.to_string());
    data.collect()
}

#[test]
fn a_name_of_the_engine_has_the_addresses_of_the_asked_family() {
    let (resolver, _) = resolver(Upstream::default());
    assert_eq!(data(&ask(resolver, "web.", RecordType::A)), ["10.0.0.2"]);
    assert_eq!(data(&ask(resolver, "WEB.", RecordType::AAAA)), ["fd00::2"]);
    for (name, kind) in [("web.", RecordType::MX), ("gone.", RecordType::A)] {
        let reply = ask(resolver, name, kind);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
    }
    let pointer = ask(resolver, "2.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(data(&pointer), ["web.net."]);
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_is_had_by_tcp() {
    let (datagrams, streams) = resolver(Upstream::default());
    let short = ask(datagrams, "many.", RecordType::A);
    assert!(short.metadata.truncation);
    let mut stream = TcpStream::connect(streams).expect("connected");
    for _ in 0..2 {
        let asked = encoded(&question("many.", RecordType::A));
        write_message(&mut stream, &asked).expect("written");
        let reply = read_message(&mut stream).expect("read");
        let reply = Message::from_vec(&reply).expect("a message");
        assert_eq!(reply.answers.len(), 100);
    }
}

#[test]
fn other_names_are_what_the_servers_say() {
    let server = loopback();
    let (resolver, _) = resolver(servers(&[&server]));
    let asked = std::thread::spawn(move || ask(resolver, "example.org.", RecordType::A));
    reply_with(&server, ResponseCode::NoError, 7);
    assert_eq!(data(&asked.join().expect("answered")), ["192.0.2.7"]);
}

#[test]
fn a_server_that_fails_or_is_not_there_is_passed_over() {
    let (failing, good) = (loopback(), loopback());
    let nobody = address(&loopback());
    let mut upstream = servers(&[&failing, &good]);
    upstream.servers.insert(0, nobody);
    let (resolver, _) = resolver(upstream);
    let asked = std::thread::spawn(move || ask(resolver, "example.org.", RecordType::A));
    reply_with(&failing, ResponseCode::ServFail, 1);
    reply_with(&good, ResponseCode::NoError, 2);
    assert_eq!(data(&asked.join().expect("answered")), ["192.0.2.2"]);
}

#[test]
fn what_a_server_does_not_answer_keeps_nobody_waiting() {
    let silent = loopback();
    let (resolver, _) = resolver(servers(&[&silent]));
    let client = loopback();
    // More than may wait for the server at a time.
    for _ in 0..1000 {
        let question = encoded(&question("example.org.", RecordType::A));
        client.send_to(&question, resolver).expect("sent");
    }
    let begin = Instant::now();
    // The flood may push a datagram out, so this client asks again, as resolvers do.
    let other = loopback();
    let soon = Some(Duration::from_millis(200));
    other.set_read_timeout(soon).expect("a timeout");
    let question = encoded(&question("web.", RecordType::A));
    let mut buffer = [0; 512];
    while begin.elapsed() < super::forward::PATIENCE {
        other.send_to(&question, resolver).expect("sent");
        if other.recv(&mut buffer).is_ok() {
            return;
        }
    }
    panic!("no answer");
}

#[test]
fn without_servers_and_for_kept_names_the_answer_is_a_failure() {
    let (alone, _) = resolver(Upstream::default());
    let reply = ask(alone, "example.org.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let (keeping, _) = resolver(Upstream {
        servers: vec![address(&loopback())],
        keeps_single_labels: true,
    });
    let reply = ask(keeping, "single.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn a_forged_answer_is_not_believed() {
    let server = loopback();
    let (resolver, _) = resolver(servers(&[&server]));
    let asked = std::thread::spawn(move || ask(resolver, "example.org.", RecordType::A));
    let (question, from) = receive(&server);
    for (wrong_id, name) in [(1, "example.org."), (0, "example.com.")] {
        let id = question.metadata.id ^ wrong_id;
        let mut forged = Message::response(id, question.metadata.op_code);
        let name = Name::from_ascii(name).expect("a name");
        forged.add_query(Query::query(name, RecordType::A));
        server.send_to(&encoded(&forged), from).expect("sent");
    }
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.response_code = ResponseCode::NXDomain;
    reply.add_queries(question.queries);
    server.send_to(&encoded(&reply), from).expect("sent");
    let reply = asked.join().expect("answered");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_stream_that_says_nothing_does_not_keep_others_out() {
    let (datagrams, streams) = resolver(Upstream::default());
    let silent: Vec<io::Result<TcpStream>> = (0..40).map(|_| TcpStream::connect(streams)).collect();
    assert_eq!(data(&ask(datagrams, "web.", RecordType::A)), ["10.0.0.2"]);
    drop(silent);
}

proptest! {
    #[test]
    fn no_message_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for is_datagram in [true, false] {
            if let Answer::Reply(reply) = answer(&bytes, &Known, &Upstream::default(), is_datagram) {
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
        }
    }

    #[test]
    fn no_damage_to_a_message_is_too_strange(place in 0usize..40, byte in any::<u8>(), length in 0usize..40) {
        let mut bytes = encoded(&question("web.example.org.", RecordType::A));
        let place = place % bytes.len();
        bytes[place] = byte;
        bytes.truncate(bytes.len() - length % bytes.len());
        answer(&bytes, &Known, &Upstream::default(), true);
    }
}
