//! A container's device on a network: made in one step inside the container's namespace, so that it goes with it
//! whatever dies when.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use super::Driver;
use super::Network;
use super::NetworkError;
use super::bridge;
use super::device;
use super::device::NewDevice;
use super::device::Sharing;
use super::join::Joined;
use crate::sys::netlink::Socket;
use crate::sys::netns;

/// The index of `lo`, the first device of every namespace.
const LOOPBACK: i32 = 1;

/// The container's namespace as its monitor reaches it.
#[derive(Debug)]
pub(crate) struct Inside {
    namespace: std::os::fd::OwnedFd,
    socket: Socket,
}

impl Inside {
    /// Opens the namespace of a container's first process.
    pub(crate) fn open(pid: i32) -> io::Result<Inside> {
        let namespace = netns::of_process(pid)?;
        let mut socket = netns::inside(namespace.as_fd(), Socket::route)?;
        // Before anything is bound to an address of it.
        socket.request(&[device::up(LOOPBACK)])?;
        Ok(Inside { namespace, socket })
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Makes the container's device on a network; returns its name.
    pub(crate) fn make_device(
        &mut self,
        joined: &Joined,
        is_gateway: bool,
    ) -> Result<String, NetworkError> {
        let network = joined.network();
        let name = self
            .free_name()
            .map_err(NetworkError::kernel("list the container's devices"))?;
        let failed =
            |what: &str| NetworkError::kernel(format!("{what} {name} on {}", network.name));
        self.make(&name, &network, joined).map_err(failed("make"))?;
        let index = device::index(&mut self.socket, &name)
            .and_then(|index| index.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(failed("find"))?;
        let mut messages = Vec::new();
        for address in joined.addresses() {
            if let Some(pool) = network.pool(address.is_ipv6()) {
                messages.push(device::address(index, address, &pool.subnet));
            }
        }
        if joined.endpoint.ipv6.is_none() {
            messages.insert(0, device::no_ipv6(index));
        }
        messages.push(device::up(index));
        if is_gateway {
            messages.extend(routes(&network, index));
        }
        self.socket.request(&messages).map_err(failed("bring up"))?;
        Ok(name)
    }

    fn make(&self, name: &str, network: &Network, joined: &Joined) -> io::Result<()> {
        let mut host = Socket::route()?;
        let shared = device::index(&mut host, &joined.device)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no device {}", joined.device),
            )
        })?;
        let new = NewDevice {
            name,
            mac: device::parse_mac(&joined.endpoint.mac).ok_or(io::ErrorKind::InvalidInput)?,
            mtu: bridge::mtu(network),
            namespace: self.namespace.as_fd(),
        };
        match network.config.driver {
            Driver::Macvlan => {
                let mode = match network.option(bridge::MACVLAN_MODE) {
                    Some("private") => 1,
                    Some("vepa") => 2,
                    Some("passthru") => 8,
                    _ => 4,
                };
                device::make_sharing(&mut host, shared, Sharing::Macvlan(mode), &new)
            }
            Driver::Ipvlan => {
                let mode = match network.option(bridge::IPVLAN_MODE) {
                    Some("l3") => 1,
                    Some("l3s") => 2,
                    _ => 0,
                };
                let flags = match network.option(bridge::IPVLAN_FLAG) {
                    Some("private") => 1,
                    Some("vepa") => 2,
                    _ => 0,
                };
                device::make_sharing(&mut host, shared, Sharing::Ipvlan(mode, flags), &new)
            }
            Driver::Bridge | Driver::Host | Driver::Null => {
                // The name of one of the last run may not be free yet.
                let digits: String = (0..11)
                    .map(|_| char::from_digit(rand::random_range(0..16), 16).unwrap_or('0'))
                    .collect();
                device::make_pair(&mut host, &format!("veth{digits}"), shared, &new)
            }
        }
    }

    fn free_name(&mut self) -> io::Result<String> {
        let taken = device::names(&mut self.socket)?;
        let names = (0..).map(|n| format!("eth{n}"));
        let free = { names }.find(|name| !taken.contains(name));
        free.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Removes one of the container's devices, and with it its other end.
    pub(crate) fn remove_device(&mut self, name: &str) -> Result<(), NetworkError> {
        device::remove(&mut self.socket, name)
            .map_err(NetworkError::kernel(format!("remove {name}")))
    }

    /// Makes a network, on which the container's device has this name, its way out.
    pub(crate) fn make_gateway(&mut self, joined: &Joined, name: &str) -> Result<(), NetworkError> {
        let failed = || NetworkError::kernel(format!("route through {name}"));
        let Some(index) = device::index(&mut self.socket, name).map_err(failed())? else {
            return Ok(());
        };
        let routes = routes(&joined.network(), index);
        self.socket.request(&routes).map_err(failed())
    }
}

/// Whether the kernel takes packets of the network's devices from one to the other by their addresses: nobody there
/// answers to ARP.
fn is_routed(network: &Network) -> bool {
    network.config.driver == Driver::Ipvlan
        && matches!(network.option(bridge::IPVLAN_MODE), Some("l3" | "l3s"))
}

fn routes(network: &Network, index: i32) -> Vec<crate::sys::netlink::Message> {
    if network.config.internal {
        return Vec::new();
    }
    if is_routed(network) {
        let families = [false, true].into_iter();
        let there = families.filter(|is_ipv6| network.pool(*is_ipv6).is_some());
        return there
            .map(|is_ipv6| device::default_device(index, is_ipv6))
            .collect();
    }
    let gateways = [false, true].map(|is_ipv6| bridge::gateway(network, is_ipv6));
    let gateways = gateways.into_iter().flatten();
    gateways
        .map(|it| device::default_route(index, it))
        .collect()
}
