//! The tables of networks and of those who are on them.
//!
//! `endpoints` has who is on a network now: a row is added, with its addresses, by whoever starts or connects a
//! container, and goes when the container's end is recorded. Its keys are what makes an address one container's only.
//! `endpoint_names` has what the container is called on the network; names are in lower case.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::TransactionBehavior;
use rusqlite::params;
use serde::Deserialize;
use serde::Serialize;

use super::Attachment;
use super::Network;
use super::NetworkConfig;
use super::NetworkError;
use super::NetworkId;
use super::pool;
use crate::container::ContainerId;

/// The tables, for `state.rs`.
pub(crate) const SCHEMA: &str = r#"
    CREATE TABLE networks (
        id      TEXT PRIMARY KEY,
        name    TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL,
        config  TEXT NOT NULL,
        last4   TEXT,
        last6   TEXT
    ) STRICT;
    CREATE TABLE endpoints (
        container TEXT NOT NULL,
        network   TEXT NOT NULL REFERENCES networks (id),
        id        TEXT NOT NULL,
        ipv4      TEXT,
        ipv6      TEXT,
        mac       TEXT NOT NULL,
        PRIMARY KEY (container, network),
        UNIQUE (network, ipv4),
        UNIQUE (network, ipv6)
    ) STRICT;
    CREATE TABLE endpoint_names (
        network   TEXT NOT NULL,
        name      TEXT NOT NULL,
        container TEXT NOT NULL,
        PRIMARY KEY (network, name, container),
        FOREIGN KEY (container, network) REFERENCES endpoints (container, network) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX endpoint_names_container ON endpoint_names (container, network);
    INSERT INTO networks (id, name, created, config) VALUES
        (lower(hex(randomblob(32))), 'bridge', unixepoch() * 1000000000, '{"driver":"bridge"}'),
        (lower(hex(randomblob(32))), 'host', unixepoch() * 1000000000, '{"driver":"host"}'),
        (lower(hex(randomblob(32))), 'none', unixepoch() * 1000000000, '{"driver":"null"}');
"#;

const COLUMNS: &str = "id, name, created, config";

/// What a container has on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) container: ContainerId,
    pub(crate) network: NetworkId,
    pub(crate) id: String,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// As `02:42:ac:11:00:02`.
    pub(crate) mac: String,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Network> {
    let config: String = row.get(3)?;
    let config: NetworkConfig = serde_json::from_str(&config).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let created: i64 = row.get(2)?;
    Ok(Network {
        id: NetworkId(row.get(0)?),
        name: row.get(1)?,
        created: Timestamp::from_nanosecond(i128::from(created)).unwrap_or_default(),
        config,
    })
}

fn config_text(network: &Network) -> Result<String, NetworkError> {
    serde_json::to_string(&network.config).map_err(|error| NetworkError::Invalid(error.to_string()))
}

pub(super) fn insert(db: &Connection, network: &Network) -> Result<(), NetworkError> {
    let created = i64::try_from(network.created.as_nanosecond()).unwrap_or(i64::MAX);
    let added = db.execute(
        "INSERT INTO networks (id, name, created, config) VALUES (?, ?, ?, ?)",
        params![
            network.id.as_str(),
            network.name,
            created,
            config_text(network)?
        ],
    );
    match added {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::ConstraintViolation =>
        {
            Err(NetworkError::NameInUse(network.name.clone()))
        }
        added => Ok(added.map(|_| ())?),
    }
}

/// Records another choice of addresses.
pub(super) fn set_config(db: &Connection, network: &Network) -> Result<(), NetworkError> {
    db.execute(
        "UPDATE networks SET config = ?, last4 = NULL, last6 = NULL WHERE id = ?",
        params![config_text(network)?, network.id.as_str()],
    )?;
    Ok(())
}

/// Has the next address be the first one again.
pub(super) fn begin_anew(db: &Connection, id: &NetworkId) -> rusqlite::Result<()> {
    crate::container::rows::execute(
        db,
        crate::container::rows::Durability::Process,
        "UPDATE networks SET last4 = NULL, last6 = NULL WHERE id = ?",
        [id.as_str()],
    )?;
    Ok(())
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<Network>> {
    let sql = format!("SELECT {COLUMNS} FROM networks ORDER BY name");
    db.prepare_cached(&sql)?.query_map([], read)?.collect()
}

pub(super) fn by_id(db: &Connection, id: &NetworkId) -> rusqlite::Result<Option<Network>> {
    let sql = format!("SELECT {COLUMNS} FROM networks WHERE id = ?");
    db.prepare_cached(&sql)?
        .query_row([id.as_str()], read)
        .optional()
}

/// Finds a network by its name, its id, or the beginning of its id.
pub(super) fn find(db: &Connection, name: &str) -> Result<Network, NetworkError> {
    let sql = format!("SELECT {COLUMNS} FROM networks WHERE name = ?1 OR id = ?1");
    let exact = db
        .prepare_cached(&sql)?
        .query_row([name], read)
        .optional()?;
    if let Some(network) = exact {
        return Ok(network);
    }
    let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found = match is_id {
        true => {
            let sql = format!("SELECT {COLUMNS} FROM networks WHERE id >= ?1 AND id < ?1 || 'g'");
            let mut statement = db.prepare_cached(&sql)?;
            statement
                .query_map([name.to_ascii_lowercase()], read)?
                .collect::<rusqlite::Result<Vec<_>>>()?
        }
        false => Vec::new(),
    };
    match (found.pop(), found.len()) {
        (Some(network), 0) => Ok(network),
        (Some(_), others) => Err(NetworkError::Ambiguous(name.to_owned(), others + 1)),
        (None, _) => Err(NetworkError::NotFound(name.to_owned())),
    }
}

/// Takes a network away that nobody is on; returns whether it was one.
pub(super) fn delete_unused(db: &Connection, id: &NetworkId) -> rusqlite::Result<bool> {
    let deleted = db.execute(
        "DELETE FROM networks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM endpoints WHERE network = ?1)",
        [id.as_str()],
    )?;
    Ok(deleted > 0)
}

fn read_endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    let address = |column| -> rusqlite::Result<Option<IpAddr>> {
        let text: Option<String> = row.get(column)?;
        Ok(text.and_then(|text| text.parse().ok()))
    };
    Ok(Endpoint {
        container: ContainerId(row.get(0)?),
        network: NetworkId(row.get(1)?),
        id: row.get(2)?,
        ipv4: match address(3)? {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        },
        ipv6: match address(4)? {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        },
        mac: row.get(5)?,
    })
}

const ENDPOINT_COLUMNS: &str = "container, network, id, ipv4, ipv6, mac";

/// Returns who is on the network now.
pub(crate) fn endpoints_on(db: &Connection, id: &NetworkId) -> rusqlite::Result<Vec<Endpoint>> {
    let sql = format!("SELECT {ENDPOINT_COLUMNS} FROM endpoints WHERE network = ?");
    let mut statement = db.prepare_cached(&sql)?;
    statement.query_map([id.as_str()], read_endpoint)?.collect()
}

/// Returns what the container has on its networks now.
pub(crate) fn endpoints_of(db: &Connection, id: &ContainerId) -> rusqlite::Result<Vec<Endpoint>> {
    let sql = format!("SELECT {ENDPOINT_COLUMNS} FROM endpoints WHERE container = ?");
    let mut statement = db.prepare_cached(&sql)?;
    statement.query_map([id.as_str()], read_endpoint)?.collect()
}

/// Returns the containers that are on some network although no row of theirs says that they run.
pub(super) fn strays(db: &Connection) -> rusqlite::Result<Vec<ContainerId>> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT container FROM endpoints WHERE container NOT IN
             (SELECT id FROM containers WHERE phase IN ('running', 'removing'))",
    )?;
    statement
        .query_map([], |row| row.get(0).map(ContainerId))?
        .collect()
}

/// Gives a container its place and addresses on a network.
pub(super) fn allot(
    db: &mut Connection,
    network: &Network,
    container: &ContainerId,
    wanted: &Attachment,
    names: &BTreeSet<String>,
) -> Result<Endpoint, NetworkError> {
    // Nobody on a network outlives the machine, so its row need not either.
    db.pragma_update(None, "synchronous", "OFF")?;
    let allotted = allot_in_transaction(db, network, container, wanted, names);
    db.pragma_update(None, "synchronous", "FULL")?;
    allotted
}

fn allot_in_transaction(
    db: &mut Connection,
    network: &Network,
    container: &ContainerId,
    wanted: &Attachment,
    names: &BTreeSet<String>,
) -> Result<Endpoint, NetworkError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if by_id(&transaction, &network.id)?.is_none() {
        return Err(NetworkError::NotFound(network.name.clone()));
    }
    let there = endpoints_on(&transaction, &network.id)?;
    let ipv4 = address(
        &transaction,
        network,
        false,
        wanted.ipv4.map(IpAddr::V4),
        &there,
    )?;
    let ipv6 = address(
        &transaction,
        network,
        true,
        wanted.ipv6.map(IpAddr::V6),
        &there,
    )?;
    let ipv4 = match ipv4 {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let endpoint = Endpoint {
        container: container.clone(),
        network: network.id.clone(),
        id: NetworkId::random().0,
        ipv4,
        ipv6: match ipv6 {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        },
        mac: wanted.mac.clone().unwrap_or_else(|| hardware_address(ipv4)),
    };
    let added = transaction.execute(
        "INSERT INTO endpoints (container, network, id, ipv4, ipv6, mac) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            container.as_str(),
            network.id.as_str(),
            endpoint.id,
            endpoint.ipv4.map(|it| it.to_string()),
            endpoint.ipv6.map(|it| it.to_string()),
            endpoint.mac,
        ],
    );
    match added {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::ConstraintViolation =>
        {
            return Err(NetworkError::AlreadyConnected {
                container: container.as_str().to_owned(),
                network: network.name.clone(),
            });
        }
        added => added?,
    };
    write_names(&transaction, &network.id, container, names)?;
    transaction.commit()?;
    Ok(endpoint)
}

/// Finds an address for a container: the one it wants, or the next one that is free.
fn address(
    db: &Connection,
    network: &Network,
    is_ipv6: bool,
    wanted: Option<IpAddr>,
    there: &[Endpoint],
) -> Result<Option<IpAddr>, NetworkError> {
    let family = if is_ipv6 { 6 } else { 4 };
    let Some(pool) = network.pool(is_ipv6) else {
        return Ok(None);
    };
    let taken: HashSet<IpAddr> = there
        .iter()
        .filter_map(|endpoint| match is_ipv6 {
            true => endpoint.ipv6.map(IpAddr::V6),
            false => endpoint.ipv4.map(IpAddr::V4),
        })
        .collect();
    if let Some(wanted) = wanted {
        let is_somebodys = taken.contains(&wanted)
            || pool.gateway == Some(wanted)
            || pool::is_reserved(&pool.subnet, wanted);
        return match (pool.subnet.contains(wanted), is_somebodys) {
            (true, false) => Ok(Some(wanted)),
            (true, true) => Err(NetworkError::AddressInUse),
            (false, _) => Err(NetworkError::Invalid(format!(
                "no configured subnet contains IP address {wanted}"
            ))),
        };
    }
    let column = format!("last{family}");
    let last: Option<String> = db.query_row(
        &format!("SELECT {column} FROM networks WHERE id = ?"),
        [network.id.as_str()],
        |row| row.get(0),
    )?;
    let last = last.and_then(|text| text.parse().ok());
    let free = pool::next_free(pool, last, &taken)
        .ok_or_else(|| NetworkError::Exhausted(family, network.name.clone(), network.id.clone()))?;
    db.execute(
        &format!("UPDATE networks SET {column} = ? WHERE id = ?"),
        [&free.to_string(), network.id.as_str()],
    )?;
    Ok(Some(free))
}

/// Returns Docker's hardware address for an address of IPv4, else one by chance.
fn hardware_address(ipv4: Option<Ipv4Addr>) -> String {
    let [a, b, c, d] = ipv4.map_or_else(rand::random, |ipv4| ipv4.octets());
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn write_names(
    db: &Connection,
    network: &NetworkId,
    container: &ContainerId,
    names: &BTreeSet<String>,
) -> rusqlite::Result<()> {
    let mut statement = db
        .prepare_cached("INSERT INTO endpoint_names (network, name, container) VALUES (?, ?, ?)")?;
    for name in names {
        statement.execute([
            network.as_str(),
            &name.to_ascii_lowercase(),
            container.as_str(),
        ])?;
    }
    Ok(())
}

/// Replaces a container's old name on all its networks by its new one.
pub(crate) fn rename(
    db: &Connection,
    container: &ContainerId,
    old: &str,
    new: &str,
) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE OR REPLACE endpoint_names SET name = ?3 WHERE container = ?1 AND name = ?2",
        [
            container.as_str(),
            &old.to_ascii_lowercase(),
            &new.to_ascii_lowercase(),
        ],
    )?;
    Ok(())
}

/// Takes a container off a network, or off all.
pub(super) fn release(
    db: &Connection,
    container: &ContainerId,
    network: Option<&NetworkId>,
) -> rusqlite::Result<()> {
    crate::container::rows::execute(
        db,
        crate::container::rows::Durability::Process,
        "DELETE FROM endpoints WHERE container = ?1 AND (?2 IS NULL OR network = ?2)",
        params![container.as_str(), network.map(NetworkId::as_str)],
    )?;
    Ok(())
}

/// Returns the addresses of whoever has a name on one of a container's networks, for a server of names.
pub(crate) fn addresses_of_name(
    db: &Connection,
    asker: &str,
    name: &str,
) -> rusqlite::Result<Vec<(Option<Ipv4Addr>, Option<Ipv6Addr>)>> {
    // `name.network` is the name on that network.
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT they.container, they.network, they.id, they.ipv4, they.ipv6, they.mac
         FROM endpoints AS own
         JOIN networks ON networks.id = own.network AND networks.name != 'bridge'
         JOIN endpoint_names AS names ON names.network = own.network
              AND (names.name = ?2 OR names.name || '.' || lower(networks.name) = ?2)
         JOIN endpoints AS they ON they.network = names.network AND they.container = names.container
         WHERE own.container = ?1",
    )?;
    statement
        .query_map([asker, name], read_endpoint)?
        .map(|endpoint| endpoint.map(|endpoint| (endpoint.ipv4, endpoint.ipv6)))
        .collect()
}

/// Returns the name of whoever has an address on one of a container's networks: `name.network`.
pub(crate) fn name_of_address(
    db: &Connection,
    asker: &str,
    address: IpAddr,
) -> rusqlite::Result<Option<String>> {
    let mut statement = db.prepare_cached(
        "SELECT containers.name || '.' || networks.name
         FROM endpoints AS own
         JOIN networks ON networks.id = own.network AND networks.name != 'bridge'
         JOIN endpoints AS they ON they.network = own.network AND (they.ipv4 = ?2 OR they.ipv6 = ?2)
         JOIN containers ON containers.id = they.container
         WHERE own.container = ?1",
    )?;
    statement
        .query_row([asker, &address.to_string()], |row| row.get(0))
        .optional()
}
