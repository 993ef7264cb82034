//! Devices as rtnetlink makes them: bridges, pairs, addresses, routes. `rtnetlink(7)`, `linux/if_link.h`.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use super::Subnet;
use crate::sys::netlink::Attributes;
use crate::sys::netlink::CREATE_NEW;
use crate::sys::netlink::Message;
use crate::sys::netlink::Socket;
use crate::sys::netlink::address_bytes;

const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const MACVLAN_MODE: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const INET6_ADDR_GEN_MODE: u16 = 8;
/// No address of IPv6 comes by itself.
const ADDR_GEN_NONE: u8 = 1;
/// `ifi_flags`: IFF_UP.
const UP: u32 = libc::IFF_UP as u32;

/// A container's device before it is there.
#[derive(Debug)]
pub(super) struct NewDevice<'a> {
    /// Its name in the container.
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) mtu: Option<u32>,
    /// The container's network namespace.
    pub(super) namespace: BorrowedFd<'a>,
}

/// `struct ifinfomsg`.
fn head(index: i32, up: bool) -> Vec<u8> {
    let flags = if up { UP } else { 0 };
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes
}

fn link(flags: u16, up: bool) -> Message {
    Message::new(libc::RTM_NEWLINK, flags).fixed(&head(0, up))
}

/// Has no address of IPv6 come by itself; refused for a device that is only being made.
fn without_ipv6(message: Message) -> Message {
    message.nest(libc::IFLA_AF_SPEC, |it| {
        it.nest(libc::AF_INET6 as u16, |it| {
            it.with(INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE])
        })
    })
}

/// Returns the index of the device with this name in the namespace, if there is one.
pub(super) fn index(socket: &mut Socket, name: &str) -> io::Result<Option<i32>> {
    let message = Message::new(libc::RTM_GETLINK, 0)
        .fixed(&head(0, false))
        .with_text(libc::IFLA_IFNAME, name);
    match socket.ask(&message) {
        Ok(answers) => Ok(answers.first().and_then(|(_, body)| {
            let index = body.get(4..8)?.first_chunk::<4>()?;
            Some(i32::from_ne_bytes(*index))
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the names of the namespace's devices.
pub(super) fn names(socket: &mut Socket) -> io::Result<Vec<String>> {
    let message = Message::new(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16).fixed(&head(0, false));
    let answers = socket.ask(&message)?;
    let name = |body: &[u8]| {
        let name = Attributes(body.get(16..)?).find(libc::IFLA_IFNAME)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        Some(String::from_utf8_lossy(name).into_owned())
    };
    Ok(answers.iter().filter_map(|(_, body)| name(body)).collect())
}

/// Makes a bridge with an address of its own that stays, and brings it up.
pub(super) fn make_bridge(
    socket: &mut Socket,
    name: &str,
    mtu: Option<u32>,
    ipv6: bool,
) -> io::Result<()> {
    let mut mac: [u8; 6] = rand::random();
    mac[..2].copy_from_slice(&[0x02, 0x42]);
    let mut message = link(CREATE_NEW, false)
        .with_text(libc::IFLA_IFNAME, name)
        .with(libc::IFLA_ADDRESS, &mac);
    if let Some(mtu) = mtu {
        message = message.with(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    let message = message.nest(libc::IFLA_LINKINFO, |it| it.with_text(INFO_KIND, "bridge"));
    socket.request(&[message, named_up(name, ipv6)])
}

/// Returns what brings a device up that was just made.
fn named_up(name: &str, ipv6: bool) -> Message {
    let message = link(0, true).with_text(libc::IFLA_IFNAME, name);
    match ipv6 {
        true => message,
        false => without_ipv6(message),
    }
}

/// Removes a device; one that is not there is none.
pub(super) fn remove(socket: &mut Socket, name: &str) -> io::Result<()> {
    let message = Message::new(libc::RTM_DELLINK, 0)
        .fixed(&head(0, false))
        .with_text(libc::IFLA_IFNAME, name);
    match socket.request(&[message]) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        removed => removed,
    }
}

/// Makes a pair of devices, one on a bridge, the other in a container; they go together.
pub(super) fn make_pair(
    socket: &mut Socket,
    name: &str,
    bridge: i32,
    device: &NewDevice<'_>,
) -> io::Result<()> {
    let mut message = link(CREATE_NEW, false)
        .with_text(libc::IFLA_IFNAME, name)
        .with(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    if let Some(mtu) = device.mtu {
        message = message.with(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    let message = message.nest(libc::IFLA_LINKINFO, |it| {
        it.with_text(INFO_KIND, "veth").nest(INFO_DATA, |it| {
            it.nest(VETH_INFO_PEER, |it| {
                inner(it.fixed(&head(0, false)), device)
            })
        })
    });
    socket.request(&[message, named_up(name, false)])
}

/// Which kind of device shares one of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With this mode of macvlan: 4 is `bridge`.
    Macvlan(u32),
    /// With this mode of ipvlan, 0 being `l2`, and these flags.
    Ipvlan(u16, u16),
}

/// Makes a device in a container that shares one of the host's.
pub(super) fn make_sharing(
    socket: &mut Socket,
    parent: i32,
    sharing: Sharing,
    device: &NewDevice<'_>,
) -> io::Result<()> {
    let kind = match sharing {
        Sharing::Macvlan(_) => "macvlan",
        Sharing::Ipvlan(..) => "ipvlan",
    };
    let mut message = link(CREATE_NEW, false)
        .with_text(libc::IFLA_IFNAME, device.name)
        .with(libc::IFLA_LINK, &parent.to_ne_bytes())
        .with(
            libc::IFLA_NET_NS_FD,
            &device.namespace.as_raw_fd().to_ne_bytes(),
        );
    if matches!(sharing, Sharing::Macvlan(_)) {
        message = message.with(libc::IFLA_ADDRESS, &device.mac);
    }
    let message = message.nest(libc::IFLA_LINKINFO, |it| {
        it.with_text(INFO_KIND, kind)
            .nest(INFO_DATA, |it| match sharing {
                Sharing::Macvlan(mode) => it.with(MACVLAN_MODE, &mode.to_ne_bytes()),
                Sharing::Ipvlan(mode, flags) => it
                    .with(IPVLAN_MODE, &mode.to_ne_bytes())
                    .with(IPVLAN_FLAGS, &flags.to_ne_bytes()),
            })
    });
    let made = socket.request(&[message]);
    made.map_err(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the kernel has no {kind} devices"),
        ),
        _ => error,
    })
}

fn inner(message: Message, device: &NewDevice<'_>) -> Message {
    let namespace = device.namespace.as_raw_fd().to_ne_bytes();
    let message = message
        .with_text(libc::IFLA_IFNAME, device.name)
        .with(libc::IFLA_ADDRESS, &device.mac)
        .with(libc::IFLA_NET_NS_FD, &namespace);
    match device.mtu {
        Some(mtu) => message.with(libc::IFLA_MTU, &mtu.to_ne_bytes()),
        None => message,
    }
}

/// Returns what gives a device an address.
pub(super) fn address(index: i32, address: IpAddr, subnet: &Subnet) -> Message {
    let (family, flags) = match address {
        IpAddr::V4(_) => (libc::AF_INET, 0),
        // Nobody else can have it: there is no need to ask for a second.
        IpAddr::V6(_) => (libc::AF_INET6, libc::IFA_F_NODAD as u8),
    };
    let mut fixed = vec![family as u8, subnet.prefix(), flags, 0];
    fixed.extend(index.to_ne_bytes());
    let bytes = address_bytes(address);
    let message = Message::new(libc::RTM_NEWADDR, CREATE_NEW)
        .fixed(&fixed)
        .with(libc::IFA_LOCAL, &bytes)
        .with(libc::IFA_ADDRESS, &bytes);
    match subnet.last() {
        IpAddr::V4(last) if subnet.prefix() < 31 => {
            message.with(libc::IFA_BROADCAST, &last.octets())
        }
        _ => message,
    }
}

/// Returns what brings a device up.
pub(super) fn up(index: i32) -> Message {
    Message::new(libc::RTM_NEWLINK, 0).fixed(&head(index, true))
}

/// Returns what has no address of IPv6 come by itself. It comes before the device is up: one that has its carrier at
/// once would have the address already.
pub(super) fn no_ipv6(index: i32) -> Message {
    without_ipv6(Message::new(libc::RTM_NEWLINK, 0).fixed(&head(index, false)))
}

/// Returns what sends everything that has no other way through a gateway.
pub(super) fn default_route(index: i32, gateway: IpAddr) -> Message {
    route(gateway.is_ipv6(), libc::RT_SCOPE_UNIVERSE)
        .with(libc::RTA_GATEWAY, &address_bytes(gateway))
        .with(libc::RTA_OIF, &index.to_ne_bytes())
}

/// Returns what sends everything that has no other way through a device, whoever is at its other end.
pub(super) fn default_device(index: i32, is_ipv6: bool) -> Message {
    route(is_ipv6, libc::RT_SCOPE_LINK).with(libc::RTA_OIF, &index.to_ne_bytes())
}

fn route(is_ipv6: bool, scope: u8) -> Message {
    const FROM_BOOT: u8 = 3;
    let mut fixed = [0; RTMSG];
    fixed[0] = family(is_ipv6);
    fixed[4] = libc::RT_TABLE_MAIN;
    fixed[5] = FROM_BOOT;
    fixed[6] = scope;
    fixed[7] = libc::RTN_UNICAST;
    Message::new(libc::RTM_NEWROUTE, CREATE_NEW).fixed(&fixed)
}

/// Returns whether what is sent to an address leaves the host: not if it is one of the host's own, or on a bridge of the
/// host's that is not its way out, as other engines' networks are.
pub(super) fn leads_elsewhere(socket: &mut Socket, to: IpAddr) -> io::Result<bool> {
    let mut fixed = [0; RTMSG];
    fixed[0] = family(to.is_ipv6());
    fixed[1] = if to.is_ipv6() { 128 } else { 32 };
    let question = Message::new(libc::RTM_GETROUTE, 0)
        .fixed(&fixed)
        .with(libc::RTA_DST, &address_bytes(to));
    let answers = socket.ask(&question)?;
    let Some((head, rest)) = answers
        .first()
        .and_then(|it| it.1.split_first_chunk::<RTMSG>())
    else {
        return Ok(false);
    };
    let (Some(device), libc::RTN_UNICAST) = (device_of(rest), head[7]) else {
        return Ok(false);
    };
    Ok(!is_bridge(socket, device)? || is_way_out(socket, device, to.is_ipv6())?)
}

/// The length of `struct rtmsg`.
const RTMSG: usize = 12;

/// Returns the index of a route's device.
fn device_of(attributes: &[u8]) -> Option<i32> {
    let index = Attributes(attributes).find(libc::RTA_OIF)?;
    Some(i32::from_ne_bytes(*index.first_chunk()?))
}

fn is_bridge(socket: &mut Socket, index: i32) -> io::Result<bool> {
    let question = Message::new(libc::RTM_GETLINK, 0).fixed(&head(index, false));
    let answers = socket.ask(&question)?;
    let kind = answers.first().and_then(|(_, body)| {
        let info = Attributes(body.get(16..)?).find(libc::IFLA_LINKINFO)?;
        Attributes(info).find(INFO_KIND)
    });
    Ok(kind.is_some_and(|kind| kind.starts_with(b"bridge")))
}

/// Returns whether what has no other way goes through a device.
fn is_way_out(socket: &mut Socket, index: i32, is_ipv6: bool) -> io::Result<bool> {
    let mut fixed = [0; RTMSG];
    fixed[0] = family(is_ipv6);
    let question = Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16).fixed(&fixed);
    let routes = socket.ask(&question)?;
    Ok(routes.iter().any(|(_, body)| {
        body.split_first_chunk::<RTMSG>()
            .is_some_and(|(head, rest)| {
                head[1] == 0 && head[7] == libc::RTN_UNICAST && device_of(rest) == Some(index)
            })
    }))
}

fn family(is_ipv6: bool) -> u8 {
    match is_ipv6 {
        true => libc::AF_INET6 as u8,
        false => libc::AF_INET as u8,
    }
}

/// Reads `02:42:ac:11:00:02`.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Has the kernel pass packets on between devices, as Docker does; an interface that has its routes from advertisements
/// keeps them.
pub(super) fn enable_forwarding(ipv6: bool) -> io::Result<()> {
    set_to_one("/proc/sys/net/ipv4/ip_forward")?;
    if !ipv6 {
        return Ok(());
    }
    let all = "/proc/sys/net/ipv6/conf/all/forwarding";
    if std::fs::read_to_string(all)?.trim() != "1" {
        for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
            let accept = entry.path().join("accept_ra");
            if std::fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
                std::fs::write(&accept, "2")?;
            }
        }
    }
    set_to_one(all)
}

fn set_to_one(path: &str) -> io::Result<()> {
    match std::fs::read_to_string(path)?.trim() {
        "1" => Ok(()),
        _ => {
            log::info!("{path} is set to 1: containers' packets are passed on");
            std::fs::write(path, "1")
        }
    }
}

/// Returns the unspecified address of a family.
pub(super) fn unspecified(is_ipv6: bool) -> IpAddr {
    match is_ipv6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_six_bytes() {
        assert_eq!(
            parse_mac("02:42:ac:11:00:02"),
            Some([2, 0x42, 0xac, 0x11, 0, 2])
        );
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:zz",
            "2:42:ac:11:0:2",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
