//! Which range of addresses a network gets, and which of its addresses a container.

use std::collections::HashSet;
use std::net::IpAddr;
use std::net::Ipv6Addr;

use super::Network;
use super::NetworkError;
use super::Pool;
use super::Subnet;
use crate::sys::netlink;

/// Docker's default ranges of IPv4: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20.
fn default_subnets() -> impl Iterator<Item = Subnet> {
    let large = (17..=31).map(|n| Subnet::new([172, n, 0, 0].into(), 16));
    let small = (0..16).map(|n| Subnet::new([192, 168, n * 16, 0].into(), 20));
    large.chain(small)
}

/// Returns the ranges that the host has addresses in or routes to, but for the way to everywhere.
pub(crate) fn on_host() -> Result<Vec<Subnet>, NetworkError> {
    let mut socket =
        netlink::Socket::route().map_err(NetworkError::kernel("open a netlink socket"))?;
    let routes =
        netlink::routes(&mut socket).map_err(NetworkError::kernel("list the host's routes"))?;
    Ok(routes
        .into_iter()
        .filter(|(_, prefix)| *prefix > 0)
        .map(|(address, prefix)| Subnet::new(address, prefix))
        .collect())
}

/// Refuses a range that another network has.
pub(super) fn check_free<'a>(
    pool: &Pool,
    mut others: impl Iterator<Item = &'a Network>,
) -> Result<(), NetworkError> {
    let overlaps = |network: &Network| {
        let mut pools = network.config.pools.iter();
        pools.any(|other| other.subnet.overlaps(&pool.subnet))
    };
    match others.any(overlaps) {
        true => Err(NetworkError::Overlap),
        false => Ok(()),
    }
}

/// Chooses a range that neither another network nor the host has.
pub(super) fn choose<'a>(
    is_ipv6: bool,
    others: impl Iterator<Item = &'a Network>,
    on_host: &[Subnet],
) -> Result<Pool, NetworkError> {
    let taken: Vec<Subnet> = others
        .flat_map(|network| network.config.pools.iter().map(|pool| pool.subnet))
        .chain(on_host.iter().copied())
        .collect();
    let is_free = |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(subnet));
    let subnet = match is_ipv6 {
        false => default_subnets()
            .find(is_free)
            .ok_or(NetworkError::NoPool(4))?,
        true => std::iter::repeat_with(unique_local)
            .take(64)
            .find(is_free)
            .ok_or(NetworkError::NoPool(6))?,
    };
    let mut pool = Pool {
        subnet,
        gateway: None,
        range: None,
        auxiliary: Default::default(),
        is_chosen: true,
    };
    give_gateway(&mut pool);
    Ok(pool)
}

/// Returns a range of addresses that are nobody's in the world but by chance (RFC 4193).
fn unique_local() -> Subnet {
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&rand::random::<[u8; 5]>());
    Subnet::new(Ipv6Addr::from(bytes).into(), 64)
}

/// Gives the host the first address that is nobody's if it has none yet.
pub(super) fn give_gateway(pool: &mut Pool) {
    if pool.gateway.is_none() {
        let start = pool.range.unwrap_or(pool.subnet);
        let taken: HashSet<IpAddr> = pool.auxiliary.values().copied().collect();
        let first = u128::from(start.first() == pool.subnet.first());
        let mut candidates = (first..first + 1 + taken.len() as u128).filter_map(|n| start.nth(n));
        pool.gateway = candidates.find(|it| !taken.contains(it));
    }
}

/// Returns the next address after `last` that is nobody's, beginning anew at the end.
pub(super) fn next_free(
    pool: &Pool,
    last: Option<IpAddr>,
    taken: &HashSet<IpAddr>,
) -> Option<IpAddr> {
    let range = pool.range.unwrap_or(pool.subnet);
    let is_own = |address: &IpAddr| {
        let mut auxiliary = pool.auxiliary.values();
        Some(*address) != pool.gateway
            && !auxiliary.any(|it| it == address)
            && !taken.contains(address)
            && !is_reserved(&pool.subnet, *address)
    };
    let count = range.position(range.last()) + 1;
    let start = match last {
        Some(last) if range.contains(last) => range.position(last) + 1,
        _ => 0,
    };
    // No more can be taken or reserved than these; so many steps find a free one if there is one.
    let most = (taken.len() + pool.auxiliary.len() + 4) as u128;
    (0..count.min(most))
        .filter_map(|n| range.nth((start + n) % count))
        .find(is_own)
}

/// Returns whether the address is one that no host may have: the range's name, or all its hosts.
pub(super) fn is_reserved(subnet: &Subnet, address: IpAddr) -> bool {
    let is_point_to_point = !subnet.is_ipv6() && subnet.prefix() >= 31;
    !is_point_to_point
        && (address == subnet.first() || (!subnet.is_ipv6() && address == subnet.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> Pool {
        let mut pool = Pool {
            subnet: subnet.parse().expect("a subnet"),
            gateway: None,
            range: None,
            auxiliary: Default::default(),
            is_chosen: false,
        };
        give_gateway(&mut pool);
        pool
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_go_round_and_come_to_an_end() {
        let pool = pool("10.0.0.0/29");
        assert_eq!(pool.gateway, Some(ip("10.0.0.1")));
        let mut taken = HashSet::new();
        let mut last = None;
        for expected in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"] {
            last = next_free(&pool, last, &taken);
            assert_eq!(last, Some(ip(expected)));
            taken.insert(ip(expected));
        }
        assert_eq!(next_free(&pool, last, &taken), None);
        taken.remove(&ip("10.0.0.3"));
        assert_eq!(next_free(&pool, last, &taken), Some(ip("10.0.0.3")));
    }

    #[test]
    fn a_part_of_the_range_is_kept_to() {
        let mut pool = pool("10.0.0.0/16");
        pool.range = Some("10.0.5.0/30".parse().expect("a subnet"));
        pool.auxiliary.insert("router".to_owned(), ip("10.0.5.1"));
        let taken = HashSet::from([ip("10.0.5.0")]);
        assert_eq!(next_free(&pool, None, &taken), Some(ip("10.0.5.2")));
        assert_eq!(
            next_free(&pool, Some(ip("10.0.5.3")), &taken),
            Some(ip("10.0.5.2"))
        );
    }

    #[test]
    fn a_chosen_range_is_free_everywhere() {
        let on_host = ["172.17.0.0/16", "172.18.5.0/24"].map(|it| it.parse().expect("a subnet"));
        let chosen = choose(false, [].iter(), &on_host).expect("a pool");
        assert_eq!(chosen.subnet.to_string(), "172.19.0.0/16");
        let everything = [
            "0.0.0.0/1".parse().expect("a"),
            "128.0.0.0/1".parse().expect("b"),
        ];
        assert!(matches!(
            choose(false, [].iter(), &everything),
            Err(NetworkError::NoPool(4))
        ));
        assert!(
            choose(true, [].iter(), &on_host)
                .expect("a pool")
                .subnet
                .is_ipv6()
        );
    }
}
