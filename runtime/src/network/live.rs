//! A running container's networks, as its monitor makes and keeps them.
//!
//! Everything here goes with the monitor or the container but two things, which the next command finds when the monitor
//! is killed: elements of [`super::firewall`]'s maps, by the container's addresses; and the bridge, by its file.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::NetworkError;
use super::NetworkId;
use super::bridge;
use super::bridge::Alone;
use super::bridge::Hold;
use super::device;
use super::endpoint::Inside;
use super::firewall;
use super::join::Joined;
use super::names;
use super::names::Names;
use super::outlet::Outlet;
use super::port::Port;
use super::port::Protocol;
use super::port::Publish;
use super::port::Published;
use super::proxy;
use super::proxy::Proxy;
use super::proxy::Reserved;
use super::refusal;
use super::refusal::Refusal;
use super::refusal::Watch;
use crate::container::Config;
use crate::container::ContainerId;

/// What a container wants of its networks beside its places on them.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) root: &'a Path,
    pub(crate) run: &'a Path,
    pub(crate) id: &'a ContainerId,
    pub(crate) name: &'a str,
    pub(crate) config: &'a Config,
}

/// A running container's networks.
#[derive(Debug)]
pub(crate) struct Live {
    run: PathBuf,
    inside: Inside,
    devices: Vec<(Joined, String)>,
    holds: Vec<(NetworkId, Hold)>,
    /// The network whose gateway is the container's.
    way_out: Option<NetworkId>,
    /// Reserved on the host for as long as the container runs.
    proxy: Option<Proxy>,
    published: Vec<Published>,
    names: Option<std::sync::Arc<Names>>,
    /// Tells of changes of the firewall, once the container is on a bridge that leads elsewhere.
    watch: Option<Watch>,
    /// What of somebody else's keeps the host from passing packets on, of IPv4 and of IPv6.
    refused: [Option<Refusal>; 2],
    /// What is the container's way out of a network then.
    outlets: Vec<(NetworkId, Outlet)>,
    /// When to go over to the firewall as it is again, since that has failed.
    retry: Option<Instant>,
}

/// How long after a failure.
const RETRY: Duration = Duration::from_secs(1);

impl Live {
    /// Makes a container's networks in the namespace of its first process.
    pub(crate) fn begin(
        wanted: &Wanted<'_>,
        joined: &[Joined],
        pid: i32,
    ) -> Result<Live, NetworkError> {
        let reserved = reserve(wanted, joined)?;
        let inside =
            Inside::open(pid).map_err(NetworkError::kernel("enter the container's network"))?;
        let mut live = Live {
            run: wanted.run.to_owned(),
            inside,
            devices: Vec::new(),
            holds: Vec::new(),
            way_out: None,
            proxy: None,
            published: reserved.iter().map(|it| it.published).collect(),
            names: None,
            watch: None,
            refused: [None, None],
            outlets: Vec::new(),
            retry: None,
        };
        for one in joined {
            live.add(one)?;
        }
        live.look_at_firewall()?;
        live.publish(reserved).map_err(|error| match error {
            NetworkError::Allocated(_) => NetworkError::Invalid(format!(
                "driver failed programming external connectivity on endpoint {} ({}): {error}",
                wanted.name,
                joined.first().map_or("", |it| it.endpoint.id.as_str()),
            )),
            error => error,
        })?;
        live.let_out(None)?;
        live.serve_names(wanted)?;
        Ok(live)
    }

    /// Returns the host's ports that lead to the container.
    pub(crate) fn published(&self) -> &[Published] {
        &self.published
    }

    fn add(&mut self, joined: &Joined) -> Result<(), NetworkError> {
        if joined.config.driver == super::Driver::Bridge {
            let hold = bridge::hold(&self.run, &joined.device)?;
            self.holds.push((joined.id.clone(), hold));
        }
        let is_way_out = self.way_out.is_none() && !joined.config.internal;
        let name = self.inside.make_device(joined, is_way_out)?;
        if is_way_out {
            self.way_out = Some(joined.id.clone());
        }
        self.devices.push((joined.clone(), name));
        Ok(())
    }

    /// Connects the running container to a further network.
    pub(crate) fn connect(
        &mut self,
        wanted: &Wanted<'_>,
        joined: &Joined,
    ) -> Result<(), NetworkError> {
        let had_way_out = self.way_out.is_some();
        self.add(joined)?;
        self.look_at_firewall()?;
        if !had_way_out && self.way_out.is_some() {
            self.lead_ports(None)?;
        }
        self.let_out(None)?;
        self.serve_names(wanted)
    }

    /// Disconnects the running container from a network.
    pub(crate) fn disconnect(&mut self, id: &NetworkId) -> Result<(), NetworkError> {
        let Some(at) = self.devices.iter().position(|(joined, _)| joined.id == *id) else {
            return Ok(());
        };
        let (joined, name) = self.devices.remove(at);
        self.inside.remove_device(&name)?;
        let addresses: Vec<IpAddr> = joined.addresses().collect();
        self.forget(&addresses, None);
        let ended = self.outlets.extract_if(.., |(of, _)| of == id);
        ended.for_each(|(_, outlet)| outlet.end());
        self.holds.retain(|(held, _)| held != id);
        if self.way_out.as_ref() == Some(id) {
            self.way_out = None;
            let next = self
                .devices
                .iter()
                .find(|(joined, _)| !joined.config.internal);
            if let Some((joined, name)) = next {
                self.inside.make_gateway(joined, name)?;
                self.way_out = Some(joined.id.clone());
            }
            self.lead_ports(None)?;
        }
        self.let_out(None)
    }

    /// Returns what becomes readable when the firewall may have changed.
    pub(crate) fn firewall(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::as_fd)
    }

    /// Returns when [`Live::firewall_changed`] is to be called even if nothing has changed.
    pub(crate) fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// Has the container go on with the firewall as it is now.
    pub(crate) fn firewall_changed(&mut self) {
        let has_changed = self.watch.as_ref().is_some_and(Watch::hear);
        let is_due = self.retry.is_some_and(|at| at <= Instant::now());
        if !has_changed && !is_due {
            return;
        }
        if let Err(error) = self.go_over() {
            log::warn!("the firewall has changed: {error}");
            self.retry = Some(Instant::now() + RETRY);
        }
    }

    fn go_over(&mut self) -> Result<(), NetworkError> {
        let before = self.refused.clone();
        self.look_at_firewall()?;
        if self.refused == before && self.retry.is_none() {
            return Ok(());
        }
        // The container's output is not to wait for another process.
        self.retry = Some(Instant::now());
        let alone = bridge::try_lock_machine()?;
        self.forget(&self.addresses(), Some(&alone));
        let led = self.lead_ports(Some(&alone));
        self.let_out(Some(&alone))?;
        led?;
        self.retry = None;
        Ok(())
    }

    /// Looks whether somebody else's rules keep the host from passing packets on.
    fn look_at_firewall(&mut self) -> Result<(), NetworkError> {
        let devices = self.devices.iter().map(|(joined, _)| joined);
        let outward = devices.filter(|joined| {
            joined.config.driver == super::Driver::Bridge && !joined.config.internal
        });
        let bridges: Vec<&str> = outward.map(|joined| joined.device.as_str()).collect();
        if bridges.is_empty() {
            return Ok(());
        }
        let failed = || NetworkError::kernel("look at the firewall");
        if self.watch.is_none() {
            self.watch = Some(Watch::open().map_err(failed())?);
        }
        self.refused = refusal::look(&bridges).map_err(failed())?;
        Ok(())
    }

    /// Makes the container's ways out where nothing is passed on.
    fn let_out(&mut self, alone: Option<&Alone>) -> Result<(), NetworkError> {
        let failed = || NetworkError::kernel("make the container's way out");
        let mut leads = Vec::new();
        for (joined, _) in &self.devices {
            let network = joined.network();
            if !bridge::is_outward(&network) {
                continue;
            }
            let is_led = |it: &IpAddr| {
                let refusal = &self.refused[usize::from(it.is_ipv6())];
                let refusal = refusal.as_ref();
                refusal.is_some_and(|refusal| refusal.led.contains(&joined.device))
            };
            let addresses: Vec<IpAddr> = joined.addresses().filter(is_led).collect();
            if addresses.is_empty() {
                continue;
            }
            let there = self.outlets.iter().position(|(id, _)| *id == joined.id);
            let at = match there {
                Some(at) => at,
                None => {
                    let outlet = Outlet::start(&network, joined.addresses()).map_err(failed())?;
                    self.outlets.push((joined.id.clone(), outlet));
                    self.outlets.len() - 1
                }
            };
            let all = self.outlets[at].1.leads();
            leads.extend(all.filter(|(from, ..)| addresses.contains(from)));
        }
        if leads.is_empty() {
            return Ok(());
        }
        let _alone = lock_unless(alone)?;
        firewall::let_out(&leads).map_err(failed())
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let joined = self.devices.iter().map(|(joined, _)| joined);
        joined.flat_map(Joined::addresses).collect()
    }

    fn forget(&self, addresses: &[IpAddr], alone: Option<&Alone>) {
        if self.published.is_empty() && self.outlets.is_empty() {
            return;
        }
        let forgotten = lock_unless(alone)
            .map_err(|error| error.to_string())
            .and_then(|_alone| firewall::forget(addresses).map_err(|error| error.to_string()));
        if let Err(error) = forgotten {
            log::warn!("ports: {error}");
        }
    }

    fn publish(&mut self, reserved: Vec<Reserved>) -> Result<(), NetworkError> {
        if reserved.is_empty() {
            return Ok(());
        }
        self.lead_ports(None)?;
        let proxy = Proxy::start(reserved, self.way_out_addresses());
        self.proxy = Some(proxy.map_err(NetworkError::kernel("pass ports on"))?);
        Ok(())
    }

    /// Returns the container's addresses on the bridge that is its way out.
    fn way_out_addresses(&self) -> Vec<IpAddr> {
        let mut devices = self.devices.iter();
        let way_out = devices.find(|(joined, _)| Some(&joined.id) == self.way_out.as_ref());
        way_out
            .filter(|(joined, _)| joined.config.driver == super::Driver::Bridge)
            .map(|(joined, _)| joined.addresses().collect())
            .unwrap_or_default()
    }

    /// Has the host's ports lead to where the container is now.
    fn lead_ports(&mut self, alone: Option<&Alone>) -> Result<(), NetworkError> {
        if self.published.is_empty() {
            return Ok(());
        }
        let addresses = self.way_out_addresses();
        let failed = || NetworkError::kernel("publish ports");
        let is_forbidden = |it: &Published| {
            let refusal = &self.refused[usize::from(it.address.is_ipv6())];
            refusal.as_ref().is_some_and(|refusal| refusal.is_policy)
        };
        let led: Vec<(Published, IpAddr)> = self
            .published
            .iter()
            .filter(|it| !is_forbidden(it))
            .filter_map(|published| {
                let is_ipv6 = published.address.is_ipv6();
                let to = addresses.iter().find(|it| it.is_ipv6() == is_ipv6);
                to.map(|to| (*published, *to))
            })
            .collect();
        for it in &self.published {
            if it.port.protocol == Protocol::Sctp && is_forbidden(it) {
                log::error!(
                    "{}:{} leads nowhere: a firewall drops what is passed on, and SCTP cannot be led otherwise",
                    it.address,
                    it.host
                );
            }
        }
        if let Some(proxy) = &self.proxy {
            proxy.lead_to(addresses);
        }
        let _alone = lock_unless(alone)?;
        firewall::publish(&led).map_err(|error| match error.raw_os_error() {
            // Nothing reserves a port of SCTP but its rule.
            Some(libc::EEXIST) => NetworkError::Allocated(
                led.iter()
                    .filter(|(published, _)| published.port.protocol == Protocol::Sctp)
                    .map(|(published, _)| SocketAddr::new(published.address, published.host))
                    .collect(),
            ),
            _ => failed()(error),
        })
    }

    /// Serves names if the container is on a network that has them.
    fn serve_names(&mut self, wanted: &Wanted<'_>) -> Result<(), NetworkError> {
        if let Some(names) = &self.names {
            names.update(wanted.config);
        }
        let mut networks = self.devices.iter().map(|(joined, _)| joined.network());
        if self.names.is_some() || !networks.any(|network| network.has_names()) {
            return Ok(());
        }
        let failed = NetworkError::kernel("serve names");
        let names = names::serve(wanted, &self.inside, self.way_out.is_some());
        self.names = Some(names.map_err(failed)?);
        Ok(())
    }

    /// Takes away what does not go by itself; returns what keeps the bridges.
    pub(crate) fn end(self) -> Ended {
        self.forget(&self.addresses(), None);
        if let Some(proxy) = self.proxy {
            proxy.end();
        }
        for (_, outlet) in self.outlets {
            outlet.end();
        }
        Ended {
            run: self.run,
            holds: self.holds,
        }
    }
}

/// Takes the machine's lock unless it is held already.
fn lock_unless(alone: Option<&Alone>) -> Result<Option<Alone>, NetworkError> {
    match alone {
        Some(_) => Ok(None),
        None => bridge::lock_machine().map(Some),
    }
}

/// The bridges that an ended container was on, kept for a moment.
#[derive(Debug)]
pub(crate) struct Ended {
    run: PathBuf,
    holds: Vec<(NetworkId, Hold)>,
}

impl Ended {
    /// Keeps the bridge of a network that was joined between two runs.
    pub(crate) fn keep(&mut self, joined: &Joined) -> Result<(), NetworkError> {
        if joined.config.driver == super::Driver::Bridge {
            let hold = bridge::hold(&self.run, &joined.device)?;
            self.holds.push((joined.id.clone(), hold));
        }
        Ok(())
    }

    /// Lets go of the bridge of a network that was left between two runs.
    pub(crate) fn let_go(&mut self, id: &NetworkId) {
        self.holds.retain(|(held, _)| held != id);
    }

    /// Returns what keeps the bridges.
    pub(crate) fn holds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.holds.iter().map(|(_, hold)| hold.as_fd())
    }

    /// Keeps the bridges for those who come at once, then removes them if nobody has.
    pub(crate) fn linger(self) {
        const MOMENT: std::time::Duration = std::time::Duration::from_millis(500);
        if self.holds.is_empty() {
            return;
        }
        std::thread::sleep(MOMENT);
        drop(self.holds);
        bridge::sweep(&self.run);
    }
}

/// Reserves the ports that the container is to have on the host: none if its way out is no bridge of the host's.
fn reserve(wanted: &Wanted<'_>, joined: &[Joined]) -> Result<Vec<Reserved>, NetworkError> {
    let way_out = joined.iter().find(|joined| !joined.config.internal);
    let way_out = way_out.filter(|joined| joined.config.driver == super::Driver::Bridge);
    let Some(way_out) = way_out else {
        return Ok(Vec::new());
    };
    let mut reserved: Vec<Reserved> = Vec::new();
    for publish in published_ports(wanted.config) {
        let one = reserve_one(&publish, &reserved);
        reserved.extend(one.map_err(|(address, number, error)| {
            NetworkError::Invalid(format!(
                "driver failed programming external connectivity on endpoint {} ({}): {}",
                wanted.name,
                way_out.endpoint.id,
                refused(wanted.run, address, number, &publish, &error)
            ))
        })?);
    }
    Ok(reserved)
}

/// Returns what is to be published: what was asked for, and with `-P` every exposed port that was not.
fn published_ports(config: &Config) -> Vec<Publish> {
    let mut publish = config.publish.clone();
    if config.publish_all {
        let is_asked_for = |port: &Port| config.publish.iter().any(|it| it.port == *port);
        let exposed = config.exposed.iter().filter(|port| !is_asked_for(port));
        publish.extend(exposed.map(|port| Publish {
            port: *port,
            address: None,
            host: None,
        }));
    }
    publish
}

/// Reserves one port, of each family of addresses it is wanted on.
fn reserve_one(
    publish: &Publish,
    others: &[Reserved],
) -> Result<Vec<Reserved>, (IpAddr, u16, io::Error)> {
    let addresses = match publish.address {
        Some(address) => vec![address],
        None => [false, true].map(device::unspecified).to_vec(),
    };
    let (first, last) = publish.host.unwrap_or((0, 0));
    let mut refusal = None;
    // The kernel chooses among thousands: a second family finds the same number free sooner or later.
    let tries = if publish.host.is_some() {
        first..=last
    } else {
        0..=15
    };
    for number in tries {
        let number = if publish.host.is_some() { number } else { 0 };
        match reserve_on(&addresses, number, publish.port, others) {
            Ok(reserved) => return Ok(reserved),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| (addresses[0], first, io::ErrorKind::AddrInUse.into())))
}

fn reserve_on(
    addresses: &[IpAddr],
    number: u16,
    port: Port,
    others: &[Reserved],
) -> Result<Vec<Reserved>, (IpAddr, u16, io::Error)> {
    let mut reserved: Vec<Reserved> = Vec::new();
    let mut number = number;
    for address in addresses {
        match proxy::reserve(*address, number, port, others) {
            Ok(one) => {
                number = one.published.host;
                reserved.push(one);
            }
            // A host without IPv6.
            Err(error)
                if address.is_ipv6()
                    && !reserved.is_empty()
                    && matches!(
                        error.raw_os_error(),
                        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                    ) => {}
            Err(error) => return Err((*address, number, error)),
        }
    }
    Ok(reserved)
}

/// Returns Docker's words for a port that cannot be had.
fn refused(
    run: &Path,
    address: IpAddr,
    number: u16,
    publish: &Publish,
    error: &io::Error,
) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        let is_containers = crate::container::liveness::published_in(run)
            .iter()
            .any(|it| it.host == number && it.port.protocol == publish.port.protocol);
        let address = match publish.address {
            None => device::unspecified(false),
            Some(_) => address,
        };
        return match is_containers {
            true => format!("Bind for {address}:{number} failed: port is already allocated"),
            false => format!(
                "failed to bind host port for {address}:{number}/{}: address already in use: port is already allocated",
                publish.port.protocol.as_str()
            ),
        };
    }
    let words = crate::image::words(error);
    format!(
        "failed to bind host port {address}:{number}/{}: {words}",
        publish.port.protocol.as_str()
    )
}
