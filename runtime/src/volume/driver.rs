//! The local driver: a directory of ours, or whatever `type`, `device` and `o` say, mounted for those who use it.

use std::collections::BTreeMap;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::mount::MountAttrFlags;

use super::VolumeError;
use super::directory::data_path;
use crate::sys;

/// Returns what is wrong with the options, if something is.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    const KNOWN: [&str; 3] = ["type", "device", "o"];
    if let Some(other) = options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("invalid option: {other:?}"));
    }
    if options.is_empty() {
        return Ok(());
    }
    let needed = ["device", "type"];
    if let Some(missing) = needed.iter().find(|name| !options.contains_key(**name)) {
        return Err(format!("missing required option: {missing:?}"));
    }
    Ok(())
}

fn flags_of(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let options = options.get("o").map_or("", String::as_str);
    options.split(',').filter(|option| !option.is_empty())
}

fn is_bind(options: &BTreeMap<String, String>) -> bool {
    flags_of(options).any(|option| matches!(option, "bind" | "rbind"))
}

/// Returns whether the volume's content is as short-lived as its mount.
pub(crate) fn is_tmpfs(options: &BTreeMap<String, String>) -> bool {
    options.get("type").is_some_and(|kind| kind == "tmpfs") && !is_bind(options)
}

/// Makes a mount of what a volume with these options shows, attached nowhere yet.
pub(crate) fn open(
    root: &Path,
    name: &str,
    options: &BTreeMap<String, String>,
) -> Result<OwnedFd, VolumeError> {
    let mountpoint = data_path(root, name);
    let device = options.get("device").map_or("", String::as_str);
    let opened = match options.is_empty() {
        true => clone_of(&mountpoint, false),
        false if is_bind(options) => bind(device, options),
        false => filesystem(device, options),
    };
    opened.map_err(|error| VolumeError::Mount {
        words: match options.is_empty() {
            true => crate::image::words(&error).to_string(),
            false => format!(
                "mount {device}:{}: {}",
                mountpoint.display(),
                crate::image::words(&error)
            ),
        },
        mountpoint,
    })
}

/// Returns a mount of a part of a volume: links in it lead no further than the volume.
pub(crate) fn part(whole: &OwnedFd, subpath: &Path) -> io::Result<OwnedFd> {
    let relative = subpath.strip_prefix("/").unwrap_or(subpath);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = sys::fds::open_resolved(whole, relative, flags, resolve)?;
    sys::mount::clone_tree(found.as_fd(), false)
}

fn clone_of(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    sys::mount::clone_tree(opened.as_fd(), recursive)
}

fn bind(device: &str, options: &BTreeMap<String, String>) -> io::Result<OwnedFd> {
    let is_recursive = flags_of(options).any(|option| option == "rbind");
    let mount = clone_of(Path::new(device), is_recursive)?;
    let attributes = attributes(options).0;
    sys::mount::set_attributes(mount.as_fd(), c"", attributes, 0, is_recursive)?;
    Ok(mount)
}

fn filesystem(device: &str, options: &BTreeMap<String, String>) -> io::Result<OwnedFd> {
    let kind = options.get("type").map_or("", String::as_str);
    let (attributes, parameters) = attributes(options);
    let mut resolved = vec![("source", device.to_owned())];
    for (key, value) in parameters {
        // The kernel takes addresses only; people write names.
        let is_host = key == "addr" && (kind.starts_with("nfs") || kind == "cifs");
        resolved.push((
            key,
            match is_host {
                true => address_of(value)?,
                false => value.to_owned(),
            },
        ));
    }
    let parameters: Vec<(&str, &str)> = resolved
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    sys::mount::filesystem(kind, &parameters, attributes)
}

/// Splits `o` in the mount's attributes and the filesystem's own parameters.
fn attributes(options: &BTreeMap<String, String>) -> (MountAttrFlags, Vec<(&str, &str)>) {
    let mut attributes = MountAttrFlags::empty();
    let mut parameters = Vec::new();
    for option in flags_of(options) {
        match option {
            "bind" | "rbind" | "rw" | "defaults" | "exec" | "suid" | "dev" => {}
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            parameter => parameters.push(parameter.split_once('=').unwrap_or((parameter, ""))),
        }
    }
    (attributes, parameters)
}

fn address_of(host: &str) -> io::Result<String> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let mut found = (host, 0).to_socket_addrs()?;
    let found = found.next().ok_or(io::ErrorKind::NotFound)?;
    Ok(found.ip().to_string())
}
