//! The bridge of a network on the host, while anybody is on it.
//!
//! `<run>/networks/<bridge>` is there from before the bridge is made to after it is removed. Whoever needs the bridge
//! (a container's starter, then its monitor) holds the file's `flock` shared; whoever gets it alone may remove bridge,
//! rules and file, in that order. So a bridge whose users were all killed is found by the next command. A monitor keeps
//! its hold for a moment after its container has ended: the next `run` finds the bridge there.
//!
//! Bridges are made, and ranges of addresses chosen, with the machine's lock held ([`lock_machine`]), which all engines
//! of the machine share; the routes of the host say which ranges are in use. Order: the machine's lock, then the
//! bridge's file, which is only tried for.

use std::fs;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use log::Level;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use serde::Deserialize;
use serde::Serialize;

use super::Driver;
use super::Network;
use super::NetworkConfig;
use super::NetworkError;
use super::Subnet;
use super::device;
use super::firewall;
use super::firewall::Treatment;
use super::pool;
use super::refusal;
use super::rows;
use crate::Engine;
use crate::sys::netlink::Socket;

/// The lock of all engines of the machine; and, for one who is not root, of all of hers.
const MACHINE: &str = "/run/ply-networks.lock";

/// The run directory of the engine whose bridge has a plain name.
const PLAIN_RUN: &str = "/run/ply";
const PLAIN_NAME: &str = "ply0";

/// The longest name of a device.
const LONGEST_NAME: usize = 15;

/// Docker's options of a bridge.
const NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const WITHIN: &str = "com.docker.network.bridge.enable_icc";
const MTU: &str = "com.docker.network.driver.mtu";

/// Docker's options of the devices that share one of the host's.
pub(super) const MACVLAN_MODE: &str = "macvlan_mode";
pub(super) const IPVLAN_MODE: &str = "ipvlan_mode";
pub(super) const IPVLAN_FLAG: &str = "ipvlan_flag";

/// The variable that says which range the default bridge has, with the host's address in it (`--bip` of dockerd).
const DEFAULT_RANGE: &str = "PLY_BIP";

/// Says that nobody else chooses ranges or changes rules.
#[derive(Debug)]
pub(crate) struct Alone(#[allow(dead_code, reason = "held for its lock")] Flock<File>);

/// Waits until no other process chooses ranges, makes bridges or changes rules.
pub(crate) fn lock_machine() -> Result<Alone, NetworkError> {
    lock(FlockArg::LockExclusive)
}

/// As [`lock_machine`], but fails if another process does.
pub(crate) fn try_lock_machine() -> Result<Alone, NetworkError> {
    lock(FlockArg::LockExclusiveNonblock)
}

fn lock(how: FlockArg) -> Result<Alone, NetworkError> {
    let failed = || NetworkError::kernel(MACHINE);
    let open = |path: &Path| {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW).open(path)
    };
    let file = open(Path::new(MACHINE)).map_err(failed())?;
    let locked = Flock::lock(file, how);
    locked
        .map(Alone)
        .map_err(|(_, errno)| failed()(errno.into()))
}

/// What a bridge's file says, for who removes it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    subnets: Vec<Subnet>,
}

/// Keeps a bridge on the host.
#[derive(Debug)]
pub(crate) struct Hold(Flock<File>);

impl Hold {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the name of a network's bridge.
pub(crate) fn name_of(network: &Network, run: &Path) -> String {
    if let Some(name) = network.option(NAME) {
        return name.to_owned();
    }
    match network.name == super::DEFAULT && run == Path::new(PLAIN_RUN) {
        true => PLAIN_NAME.to_owned(),
        false => format!("ply-{}", network.id.as_str().get(..11).unwrap_or("")),
    }
}

fn directory(run: &Path) -> PathBuf {
    run.join("networks")
}

/// Refuses options that cannot be.
pub(super) fn check_options(config: &NetworkConfig) -> Result<(), NetworkError> {
    let invalid = |words: String| Err(NetworkError::Invalid(words));
    let option = |name: &str| config.options.get(name).map(String::as_str);
    for name in [MASQUERADE, WITHIN] {
        if let Some(value) = option(name)
            && parse_bool(value).is_none()
        {
            return invalid(format!("invalid value for {name}: {value:?}"));
        }
    }
    if let Some(value) = option(MTU)
        && value.parse::<u32>().is_err()
    {
        return invalid(format!("invalid value for {MTU}: {value:?}"));
    }
    if let Some(name) = option(NAME) {
        let is_name = !name.is_empty()
            && name.len() <= LONGEST_NAME
            && name
                .bytes()
                .all(|it| it.is_ascii_graphic() && it != b'/' && it != b':')
            && !matches!(name, "." | "..");
        if !is_name {
            return invalid(format!("invalid bridge name: {name:?}"));
        }
    }
    let known: &[(&str, &str, &[&str])] = match config.driver {
        Driver::Macvlan => &[(
            MACVLAN_MODE,
            "macvlan mode",
            &["bridge", "private", "vepa", "passthru"],
        )],
        Driver::Ipvlan => &[
            (IPVLAN_MODE, "ipvlan mode", &["l2", "l3", "l3s"]),
            (IPVLAN_FLAG, "ipvlan flag", &["bridge", "private", "vepa"]),
        ],
        _ => &[],
    };
    for (name, what, values) in known {
        if let Some(value) = option(name).filter(|value| !value.is_empty())
            && !values.contains(&value)
        {
            let kind = if what.ends_with("mode") { " mode" } else { "" };
            return invalid(format!(
                "requested {what} '{value}' is not valid, '{}'{kind} is the {} driver default",
                values[0],
                config.driver.as_str()
            ));
        }
    }
    let parent = option("parent").unwrap_or_default();
    if matches!(config.driver, Driver::Macvlan | Driver::Ipvlan) && parent.is_empty() {
        return invalid(format!(
            "{} needs the host's device to share: -o parent=DEVICE",
            config.driver.as_str()
        ));
    }
    Ok(())
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Returns whether what leaves a network has the host's address, and anything may leave it.
pub(super) fn is_outward(network: &Network) -> bool {
    network.config.driver == Driver::Bridge
        && !network.config.internal
        && is_on(network, MASQUERADE)
}

fn is_on(network: &Network, option: &str) -> bool {
    network.option(option).and_then(parse_bool).unwrap_or(true)
}

/// Returns how large a network's packets may be, if that is said.
pub(super) fn mtu(network: &Network) -> Option<u32> {
    network.option(MTU).and_then(|mtu| mtu.parse().ok())
}

/// Holds the file of a bridge that is about to be made or is there.
pub(crate) fn hold(run: &Path, name: &str) -> Result<Hold, NetworkError> {
    let directory = directory(run);
    let path = directory.join(name);
    let failed = || NetworkError::kernel(path.display().to_string());
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).recursive(true);
    builder.create(&directory).map_err(failed())?;
    loop {
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = opened.map_err(failed())?;
        let locked = Flock::lock(file, FlockArg::LockShared);
        let locked = locked.map_err(|(_, errno)| failed()(errno.into()))?;
        if is_at(&locked, &path) {
            return Ok(Hold(locked));
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    let here = file.metadata().map(identity);
    let there = fs::metadata(path).map(identity);
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

impl Engine {
    /// Makes sure that a network's bridge is on the host, and keeps it there; the network may have got other addresses.
    pub(super) fn hold_bridge(&self, network: &mut Network) -> Result<Hold, NetworkError> {
        let name = name_of(network, self.run_dir());
        let _alone = lock_machine()?;
        let hold = hold(self.run_dir(), &name)?;
        let mut socket = Socket::route().map_err(NetworkError::kernel("open a netlink socket"))?;
        let found = device::index(&mut socket, &name);
        if found
            .map_err(NetworkError::kernel(format!("find {name}")))?
            .is_some()
        {
            // Who made it has chosen its addresses.
            if let Some(current) = rows::by_id(&self.db(), &network.id)? {
                *network = current;
            }
            return Ok(hold);
        }
        self.choose_again(network)?;
        make(&mut socket, &name, network)?;
        rows::begin_anew(&self.db(), &network.id)?;
        let record = Record {
            subnets: network
                .config
                .pools
                .iter()
                .map(|pool| pool.subnet)
                .collect(),
        };
        let path = directory(self.run_dir()).join(&name);
        serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&path, text))
            .map_err(NetworkError::kernel(path.display().to_string()))?;
        Ok(hold)
    }

    /// Chooses other addresses for a network that nobody is on where the host has taken the old ones meanwhile.
    fn choose_again(&self, network: &mut Network) -> Result<(), NetworkError> {
        let on_host = pool::on_host()?;
        let others: Vec<Network> = rows::all(&self.db())?
            .into_iter()
            .filter(|other| other.id != network.id)
            .collect();
        let is_taken = |subnet: &Subnet| on_host.iter().any(|it| it.overlaps(subnet));
        let before = network.config.pools.clone();
        if network.name == super::DEFAULT
            && let Some(range) = default_range()?
        {
            network.config.pools = vec![range];
        }
        for pool in &mut network.config.pools {
            match (is_taken(&pool.subnet), pool.is_chosen) {
                (false, _) => {}
                (true, false) => return Err(NetworkError::Overlap),
                (true, true) => {
                    *pool = pool::choose(pool.subnet.is_ipv6(), others.iter(), &on_host)?;
                }
            }
        }
        if network.config.pools.is_empty() {
            network.config.pools = vec![pool::choose(false, others.iter(), &on_host)?];
        }
        if network.config.pools != before {
            rows::set_config(&self.db(), network)?;
        }
        Ok(())
    }
}

fn default_range() -> Result<Option<super::Pool>, NetworkError> {
    let Some(text) = std::env::var(DEFAULT_RANGE)
        .ok()
        .filter(|it| !it.is_empty())
    else {
        return Ok(None);
    };
    let (subnet, address) = Subnet::parse_with_address(&text)
        .map_err(|error| NetworkError::Invalid(format!("{DEFAULT_RANGE}: {error}")))?;
    let mut pool = super::Pool {
        subnet,
        gateway: (!pool::is_reserved(&subnet, address)).then_some(address),
        range: None,
        auxiliary: Default::default(),
        is_chosen: false,
    };
    pool::give_gateway(&mut pool);
    Ok(Some(pool))
}

fn make(socket: &mut Socket, name: &str, network: &Network) -> Result<(), NetworkError> {
    let failed = |what: &str| NetworkError::kernel(format!("{what} {name}"));
    let config = &network.config;
    if !config.internal {
        device::enable_forwarding(config.ipv6)
            .map_err(NetworkError::kernel("have the host pass packets on"))?;
        let [refusal, _] = refusal::look(&[name]).map_err(failed("look at the firewall for"))?;
        let named = |names: &[String]| names.iter().any(|it| it == name);
        if let Some(refusal) = refusal.filter(|it| !named(&it.named)) {
            let (level, what) = match is_on(network, MASQUERADE) && named(&refusal.led) {
                true => (Level::Warn, "nothing but TCP and UDP from"),
                false => (Level::Error, "nothing from"),
            };
            log::log!(
                level,
                "the firewall's table {:?} drops what is passed on: {what} containers on {name} reaches other hosts \
                 unless it accepts that, as by `iptables -I FORWARD -i {name} -j ACCEPT` and the same with -o",
                refusal.table
            );
        }
    }
    let treatment = Treatment {
        internal: config.internal,
        masquerade: is_on(network, MASQUERADE),
        within: is_on(network, WITHIN),
    };
    firewall::add_bridge(name, treatment).map_err(failed("add rules for"))?;
    device::make_bridge(socket, name, mtu(network), config.ipv6)
        .map_err(failed("make the bridge"))?;
    let index = device::index(socket, name)
        .and_then(|index| index.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(failed("find"))?;
    let addresses: Vec<_> = config
        .pools
        .iter()
        .filter_map(|pool| Some(device::address(index, pool.gateway?, &pool.subnet)))
        .collect();
    socket
        .request(&addresses)
        .map_err(failed("give addresses to"))
}

/// Removes the bridges that nobody holds.
pub(crate) fn sweep(run: &Path) {
    let Ok(entries) = fs::read_dir(directory(run)) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if try_alone(&path).is_none() {
            continue;
        }
        let swept = lock_machine()
            .map_err(|error| error.to_string())
            .and_then(|_alone| match try_alone(&path) {
                Some(file) => remove(&path, &file).map_err(|error| error.to_string()),
                None => Ok(()),
            });
        if let Err(error) = swept {
            log::warn!("{}: {error}", path.display());
        }
    }
}

/// Locks a bridge's file if nobody holds it.
fn try_alone(path: &Path) -> Option<Flock<File>> {
    let file = File::open(path).ok()?;
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    is_at(&locked, path).then_some(locked)
}

fn remove(path: &Path, file: &File) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(());
    };
    let text = io::read_to_string(file)?;
    // One who was killed before it could write them had nothing led into them.
    let subnets =
        serde_json::from_str::<Record>(&text).map_or_else(|_| Vec::new(), |it| it.subnets);
    firewall::remove_bridge(name, &subnets)?;
    device::remove(&mut Socket::route()?, name)?;
    fs::remove_file(path)
}

/// Returns the address that the host has on a network, if its bridge has one.
pub(crate) fn gateway(network: &Network, is_ipv6: bool) -> Option<IpAddr> {
    network.pool(is_ipv6).and_then(|pool| pool.gateway)
}
