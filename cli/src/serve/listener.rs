//! Where clients come in: Unix and TCP sockets, our own or systemd's.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Mode;

use super::socket::Socket;
use super::tls;
use crate::command_error::CommandError;
use crate::sys;

/// Who may use a Unix socket of ours: its owner and its group.
const MODE: u32 = 0o660;

/// The groups that may, the first that the host knows.
const GROUPS: [&str; 2] = ["ply", "docker"];

/// The first descriptor that systemd passes, `sd_listen_fds(3)`.
const FIRST_PASSED: i32 = 3;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `unix://PATH`
    Unix(PathBuf),
    /// `tcp://HOST:PORT`
    Tcp(String),
    /// `fd://`: on what systemd has opened.
    Passed,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let invalid = || format!("unable to parse docker host `{text}`");
        match text.split_once("://").ok_or_else(invalid)? {
            ("unix", path) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            ("tcp", rest) => {
                let rest = rest.trim_end_matches('/');
                match rest.rsplit_once(':') {
                    Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                        Ok(Address::Tcp(rest.to_owned()))
                    }
                    _ => Err(invalid()),
                }
            }
            ("fd", _) => Ok(Address::Passed),
            _ => Err(invalid()),
        }
    }
}

/// A socket that clients connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: Kind,
    made: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener, Option<Arc<rustls::ServerConfig>>),
}

impl Listener {
    /// Listens on a Unix socket that its group may use.
    pub(crate) fn unix(path: &Path, group: Option<&str>) -> Result<Listener, CommandError> {
        let failed = |error: io::Error| {
            CommandError::failed(format_args!(
                "cannot listen on {}: {}",
                path.display(),
                crate::words::of(&error)
            ))
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        remove_stale(path).map_err(failed)?;
        let before = rustix::process::umask(Mode::from_raw_mode(!MODE & 0o777));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = Listener {
            kind: Kind::Unix(bound.map_err(failed)?),
            made: Some(path.to_owned()),
        };
        if let Some(group) = group_of(group)? {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
        }
        Ok(listener)
    }

    /// Listens on a TCP socket.
    pub(crate) fn tcp(
        address: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Listener, CommandError> {
        let bound = TcpListener::bind(address).map_err(|error| {
            CommandError::failed(format_args!(
                "cannot listen on {address}: {}",
                crate::words::of(&error)
            ))
        })?;
        Ok(Listener {
            kind: Kind::Tcp(bound, tls),
            made: None,
        })
    }

    /// Takes over the sockets that systemd has opened for us.
    pub(crate) fn passed() -> Result<Vec<Listener>, CommandError> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let count = match number("LISTEN_PID") == Some(std::process::id()) {
            true => number("LISTEN_FDS").unwrap_or(0),
            false => 0,
        };
        if count == 0 {
            return Err(CommandError::failed(
                "no sockets found via socket activation: make sure the service was started by systemd",
            ));
        }
        let take = |at: u32| {
            let socket = sys::passed_descriptor(FIRST_PASSED + at as i32)?;
            Listener::of(socket)
        };
        let taken: io::Result<Vec<Listener>> = (0..count).map(take).collect();
        taken.map_err(|error| {
            CommandError::failed(format_args!(
                "cannot use the sockets of socket activation: {}",
                crate::words::of(&error)
            ))
        })
    }

    fn of(socket: OwnedFd) -> io::Result<Listener> {
        let kind = match rustix::net::sockopt::socket_domain(&socket)? {
            rustix::net::AddressFamily::UNIX => Kind::Unix(socket.into()),
            // Who may connect there is the unit's to say, but a certificate is ours to ask for.
            _ => return Err(io::Error::other("only Unix sockets are taken")),
        };
        Ok(Listener { kind, made: None })
    }

    /// Returns where it listens, as Docker logs it.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(String::new, |path| path.display().to_string())
            }
            Kind::Tcp(listener, _) => listener
                .local_addr()
                .map_or_else(|_| String::new(), |address| address.to_string()),
        }
    }

    /// Takes a Unix socket that we have made away. One that a server that was killed has left is taken away by the next.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.made {
            let _ = fs::remove_file(path);
        }
    }

    /// Waits for a client.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        match &self.kind {
            Kind::Unix(listener) => Ok(Socket::new(listener.accept()?.0)),
            Kind::Tcp(listener, tls) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                match tls {
                    Some(config) => Ok(Socket::new(tls::terminate(config.clone(), stream)?)),
                    None => Ok(Socket::new(stream)),
                }
            }
        }
    }
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::other("another server listens there")),
        Err(_) => fs::remove_file(path),
    }
}

/// Returns the number of the group that may use the socket.
fn group_of(asked: Option<&str>) -> Result<Option<u32>, CommandError> {
    let find = |name: &str| {
        let found = nix::unistd::Group::from_name(name).ok().flatten();
        found.map(|group| group.gid.as_raw())
    };
    match asked {
        None => Ok(GROUPS.into_iter().find_map(find)),
        Some(name) => match find(name).or_else(|| name.parse().ok()) {
            Some(group) => Ok(Some(group)),
            None => Err(CommandError::failed(format_args!("group {name} not found"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_docker_s() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(
            read("unix:///run/x.sock"),
            Ok(Address::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            read("tcp://127.0.0.1:0"),
            Ok(Address::Tcp("127.0.0.1:0".into()))
        );
        assert_eq!(
            read("tcp://[::1]:2376/"),
            Ok(Address::Tcp("[::1]:2376".into()))
        );
        assert_eq!(read("fd://"), Ok(Address::Passed));
        for bad in [
            "",
            "x",
            "unix://x",
            "tcp://",
            "tcp://x",
            "tcp://:99999",
            "http://x:1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
