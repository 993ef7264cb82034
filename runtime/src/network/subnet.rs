//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A range of addresses: those that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidSubnet(pub String);

impl Subnet {
    /// Returns the range of addresses that share the first `prefix` bits of one.
    pub(crate) fn new(address: IpAddr, prefix: u8) -> Subnet {
        let whole = Subnet { address, prefix };
        Subnet {
            address: whole.at(whole.number() & whole.mask()),
            prefix,
        }
    }

    /// Returns the range and the address that was written with it.
    pub(crate) fn parse_with_address(text: &str) -> Result<(Subnet, IpAddr), InvalidSubnet> {
        let invalid = || InvalidSubnet(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        if prefix > bits(address) {
            return Err(invalid());
        }
        Ok((Subnet::new(address, prefix), address))
    }

    /// Returns how many bits its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Returns whether it is one of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// Returns whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6() && number(address) & self.mask() == self.number()
    }

    /// Returns whether some address is in both.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Returns the first address: the name of the range.
    pub(crate) fn first(&self) -> IpAddr {
        self.address
    }

    /// Returns the last address.
    pub(crate) fn last(&self) -> IpAddr {
        self.at(self.number() | (!self.mask() & self.all()))
    }

    /// Returns the address so many after the first, if it is still in the range.
    pub(crate) fn nth(&self, n: u128) -> Option<IpAddr> {
        let number = self.number().checked_add(n)?;
        (number <= self.number() | (!self.mask() & self.all())).then(|| self.at(number))
    }

    /// Returns how many addresses lie between the first one and this one.
    pub(crate) fn position(&self, address: IpAddr) -> u128 {
        number(address).saturating_sub(self.number())
    }

    fn number(&self) -> u128 {
        number(self.address)
    }

    fn all(&self) -> u128 {
        match self.is_ipv6() {
            true => u128::MAX,
            false => u128::from(u32::MAX),
        }
    }

    fn mask(&self) -> u128 {
        let low = bits(self.address) - self.prefix;
        match low {
            128 => 0,
            low => (u128::MAX << low) & self.all(),
        }
    }

    fn at(&self, number: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Subnet, InvalidSubnet> {
        Subnet::parse_with_address(text).map(|(subnet, _)| subnet)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Subnet, InvalidSubnet> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn a_subnet_has_a_first_and_a_last_address_and_overlaps_what_is_in_it() {
        let range = subnet("172.17.3.9/16");
        assert_eq!(range.to_string(), "172.17.0.0/16");
        assert_eq!(range.last().to_string(), "172.17.255.255");
        assert_eq!(
            range.nth(2).map(|it| it.to_string()).as_deref(),
            Some("172.17.0.2")
        );
        assert_eq!(range.nth(1 << 16), None);
        assert!(
            range.overlaps(&subnet("172.17.9.0/24")) && subnet("172.16.0.0/12").overlaps(&range)
        );
        assert!(!range.overlaps(&subnet("172.18.0.0/16")) && !range.overlaps(&subnet("fd00::/8")));
        assert!(subnet("::/0").contains("fd00::1".parse().expect("an address")));
        assert_eq!(
            subnet("fd00::/64").last().to_string(),
            "fd00::ffff:ffff:ffff:ffff"
        );
        assert_eq!(subnet("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in ["", "1.2.3.4", "1.2.3.4/33", "fd00::/129", "1.2.3/8", "a/8"] {
            assert!(text.parse::<Subnet>().is_err(), "{text:?}");
        }
    }
}
