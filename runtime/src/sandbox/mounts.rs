//! The mounts that make a container's root: /proc, /sys, /dev, files of ours, what was asked for, masks.
//!
//! All runs in the container's own mount namespace before `pivot_root`, so host paths still lead to the host; every
//! target is a descriptor resolved beneath the root, and no path a container made is followed on the host
//! (CVE-2021-30465, CVE-2019-19921).

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::StatxFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::ThreadNameSpaceType;

use crate::sys;

use super::Bind;
use super::Device;
use super::MASKED;
use super::Mount;
use super::MountSource;
use super::Plan;
use super::Propagation;
use super::READ_ONLY;
use super::Recursion;
use super::Secret;
use super::TreeMount;
use super::Whose;
use super::root;
use super::root::Make;
use super::root::Root;

mod of_build;

/// A step that failed, for the words of the error.
pub(super) type Failed = (String, io::Error);

fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failed {
    let what = what.into();
    move |error| (what, error)
}

const HARDENED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// The filesystems of the kernel's that the later steps need open.
pub(super) struct Kernel {
    pub(super) proc: OwnedFd,
    sys: OwnedFd,
    dev: OwnedFd,
    pub(super) pts: OwnedFd,
}

/// Mounts /proc, /sys and /dev.
pub(super) fn kernel_filesystems(
    root: &Root,
    plan: &Plan,
    shm: Option<OwnedFd>,
) -> Result<Kernel, Failed> {
    let proc = sys::mount::filesystem("proc", &[], HARDENED).map_err(step("mount proc"))?;
    attach(&proc, root, "proc")?;
    let dev = sys::mount::filesystem(
        "tmpfs",
        &[("mode", "755"), ("size", "65536k")],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    )
    .map_err(step("mount /dev"))?;
    attach(&dev, root, "dev")?;
    let read_only = match plan.privileged {
        true => MountAttrFlags::empty(),
        false => RDONLY,
    };
    let sys =
        sys::mount::filesystem("sysfs", &[], HARDENED | read_only).map_err(step("mount sysfs"))?;
    attach(&sys, root, "sys")?;
    let pts = devices(&dev, plan, shm)?;
    let kernel = Kernel {
        proc,
        sys,
        dev,
        pts,
    };
    cgroups(&kernel.sys, &plan.cgroups, read_only)?;
    if plan.namespaces.net.is_own() {
        sysctls(&kernel.proc);
    }
    for (name, value) in &plan.sysctls {
        set_parameter(&kernel.proc, name, value).map_err(step(format!("set {name}")))?;
    }
    Ok(kernel)
}

fn attach(mount: &OwnedFd, root: &Root, name: &str) -> Result<(), Failed> {
    root.real_directory(name)
        .and_then(|target| sys::mount::attach(mount.as_fd(), target.as_fd()))
        .map_err(step(format!("mount /{name}")))
}

/// The nodes every container has.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Fills /dev; returns the container's own devpts.
fn devices(dev: &OwnedFd, plan: &Plan, shm: Option<OwnedFd>) -> Result<OwnedFd, Failed> {
    for (name, major, minor) in NODES {
        node(dev, name, major, minor).map_err(step(format!("make /dev/{name}")))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)
            .map_err(|error| (format!("make /dev/{name}"), error.into()))?;
    }
    let pts = sys::mount::filesystem(
        "devpts",
        &[
            ("newinstance", ""),
            ("ptmxmode", "0666"),
            ("mode", "0620"),
            ("gid", "5"),
        ],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
    .map_err(step("mount devpts"))?;
    below(dev, "pts", &pts)?;
    let own = |size: u64| {
        let size = size.to_string();
        sys::mount::filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], HARDENED)
            .map_err(step("mount /dev/shm"))
    };
    if let Some(shm) = shm.map_or_else(|| plan.shm_size.map(own).transpose(), |it| Ok(Some(it)))? {
        below(dev, "shm", &shm)?;
    }
    match sys::mount::filesystem("mqueue", &[], HARDENED) {
        Ok(mqueue) => below(dev, "mqueue", &mqueue)?,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
        Err(error) => return Err(("mount mqueue".to_owned(), error)),
    }
    Ok(pts)
}

/// Joins the IPC namespace of another container and returns a mount of its /dev/shm, or of the host's.
pub(super) fn shared_memory(plan: &Plan) -> Result<Option<OwnedFd>, Failed> {
    let failed = || step("share /dev/shm");
    let open = || -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dev = rustix::fs::open("/dev", flags | OFlags::NOFOLLOW, Mode::empty())?;
        let shm = root::beneath(&dev, Path::new("shm"))?;
        sys::mount::clone_tree(shm.as_fd(), false)
    };
    match &plan.namespaces.ipc {
        Whose::Own => Ok(None),
        Whose::Host => open().map(Some).map_err(failed()),
        Whose::Of(pidfd) => {
            // A mount is cloned where it is: there, and back.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let joined = rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|own| {
                    let both = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                        | ThreadNameSpaceType::MOUNT;
                    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), both)?;
                    let shm = open();
                    let mounts = LinkNameSpaceType::Mount;
                    rustix::thread::move_into_link_name_space(own.as_fd(), Some(mounts))?;
                    shm
                });
            joined.map(Some).map_err(failed())
        }
    }
}

/// Makes the nodes of the host's devices that the container has.
pub(super) fn devices_of_host(root: &Root, kernel: &Kernel, plan: &Plan) -> Result<(), Failed> {
    for device in &plan.devices {
        let what = format!("make {}", device.path.display());
        one_device(root, kernel, device).map_err(step(what))?;
    }
    Ok(())
}

fn one_device(root: &Root, kernel: &Kernel, device: &Device) -> io::Result<()> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = root.find_or_make(parent, Make::Directory)?;
    // What the defaults have made is as good.
    if rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        let is_ours = rustix::fs::fstat(&parent)?.st_dev == rustix::fs::fstat(&kernel.dev)?.st_dev;
        return match is_ours {
            true => Ok(()),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        };
    }
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    let kind = FileType::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&parent, name, kind, mode, device.number) {
        Err(Errno::PERM) => return show_node(&device.host, &parent, Path::new(name), mode),
        made => made?,
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(
        &parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    Ok(rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?)
}

/// Shows the host's node where nodes may not be made.
fn show_node(host: &Path, parent: &OwnedFd, name: &Path, mode: Mode) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, mode)?;
    let shown = clone_of(host, false)?;
    let target = root::beneath(parent, name)?;
    sys::mount::attach(shown.as_fd(), target.as_fd())
}

fn node(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> io::Result<()> {
    let mode = Mode::from(0o666);
    let device = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, device) {
        Err(Errno::PERM) => show_node(&Path::new("/dev").join(name), dev, Path::new(name), mode),
        // The mode is what the caller's umask left of it.
        made => {
            made?;
            Ok(rustix::fs::chmodat(
                dev,
                name,
                mode,
                rustix::fs::AtFlags::empty(),
            )?)
        }
    }
}

/// Attaches `mount` on a directory made in `directory`.
fn below(directory: &OwnedFd, name: &str, mount: &OwnedFd) -> Result<(), Failed> {
    let made = rustix::fs::mkdirat(directory, name, Mode::from(0o755));
    made.map_err(io::Error::from)
        .and_then(|()| root::beneath(directory, Path::new(name)))
        .and_then(|target| sys::mount::attach(mount.as_fd(), target.as_fd()))
        .map_err(step(format!("mount /dev/{name}")))
}

/// Shows the container its own cgroups, and only the hierarchies in which it has one of its own.
fn cgroups(
    sysfs: &OwnedFd,
    (unified, v1): &(bool, Vec<String>),
    read_only: MountAttrFlags,
) -> Result<(), Failed> {
    let failed = || step("mount /sys/fs/cgroup");
    let target = root::beneath(sysfs, Path::new("fs/cgroup"));
    let Ok(target) = target else {
        return Ok(());
    };
    if v1.is_empty() {
        if *unified {
            let mount =
                sys::mount::filesystem("cgroup2", &[], HARDENED | read_only).map_err(failed())?;
            sys::mount::attach(mount.as_fd(), target.as_fd()).map_err(failed())?;
        }
        return Ok(());
    }
    let parent = sys::mount::filesystem("tmpfs", &[("mode", "755")], HARDENED).map_err(failed())?;
    sys::mount::attach(parent.as_fd(), target.as_fd()).map_err(failed())?;
    for controller in v1 {
        let mount = sys::mount::filesystem("cgroup", &[(controller, "")], HARDENED | read_only)
            .map_err(failed())?;
        below(&parent, controller, &mount)?;
    }
    sys::mount::set_attributes(parent.as_fd(), c"", read_only, 0, false).map_err(failed())
}

/// Sets one of the kernel's parameters: `net.ipv4.ip_forward`.
fn set_parameter(proc: &OwnedFd, name: &str, value: &str) -> io::Result<()> {
    let path = format!("sys/{}", name.replace('.', "/"));
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = sys::fds::open_resolved(proc, path.as_str(), flags, resolve)?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// Lets any user of the container ping and bind low ports, as Docker does in a network namespace of its own.
fn sysctls(proc: &OwnedFd) {
    for (name, value) in [
        ("sys/net/ipv4/ping_group_range", "0 2147483647"),
        ("sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ] {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(proc, name, flags, Mode::empty()) {
            let _ = rustix::io::write(&file, value.as_bytes());
        }
    }
}

/// Binds the files of ours and what was asked for, outer targets first.
pub(super) fn asked_for(root: &Root, kernel: &Kernel, plan: &Plan) -> Result<(), Failed> {
    for (at, (source, target)) in plan.files.iter().enumerate() {
        if plan.mounts.iter().any(|mount| mount.target == *target) {
            continue;
        }
        let failed = || step(format!("mount {}", target.display()));
        let opened = plan.opened.as_ref().and_then(|opened| opened.files.get(at));
        match opened {
            Some(tree) => one(root, target, tree),
            None => open_file(source).and_then(|tree| one(root, target, &tree)),
        }
        .map_err(failed())?;
    }
    let mut asked: Vec<Asked<'_>> = Vec::new();
    asked.extend(plan.mounts.iter().enumerate().map(|(at, mount)| {
        let opened = plan.sources.get(at).and_then(Option::as_ref);
        Asked::Mount(mount, opened)
    }));
    asked.extend(plan.trees.iter().map(Asked::Tree));
    asked.extend(plan.secrets.iter().map(Asked::Secret));
    asked.sort_by_key(|asked| asked.target().components().count());
    for asked in asked {
        let mounted = match asked {
            Asked::Mount(mount, Some(tree)) => one(root, &mount.target, tree),
            Asked::Mount(mount, None) => match &mount.source {
                MountSource::Tmpfs(options) => tmpfs(options).and_then(|tree| {
                    restrict(&tree, mount.read_only, false)?;
                    one(root, &mount.target, &tree)
                }),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            Asked::Tree(tree) => of_build::tree(root, tree),
            Asked::Secret(secret) => of_build::secret(root, &kernel.dev, secret),
        };
        mounted.map_err(step(format!("mount {}", asked.target().display())))?;
    }
    Ok(())
}

/// One of the mounts that were asked for.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Mount(&'a Mount, Option<&'a OwnedFd>),
    Tree(&'a TreeMount),
    Secret(&'a Secret),
}

impl Asked<'_> {
    fn target(&self) -> &Path {
        match self {
            Asked::Mount(mount, _) => &mount.target,
            Asked::Tree(mount) => &mount.tree.target,
            Asked::Secret(secret) => &secret.target,
        }
    }
}

/// Opens a file of ours, attached nowhere yet.
pub(crate) fn open_file(source: &Path) -> io::Result<OwnedFd> {
    let tree = clone_of(source, false)?;
    let none = MountAttrFlags::empty();
    sys::mount::set_attributes(tree.as_fd(), c"", none, libc::MS_PRIVATE, false)?;
    Ok(tree)
}

/// Opens what a bind mount shows, attached nowhere yet. Must be called where the host's mounts are: a copy of a mount
/// that is shared with others is shared with them too, until it is told otherwise.
pub(crate) fn open_source(bind: &Bind, read_only: bool) -> io::Result<OwnedFd> {
    let is_recursive = bind.recursion != Recursion::Disabled;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::openat(CWD, &bind.path, flags, Mode::empty())?;
    check_propagation(&source, bind)?;
    let tree = sys::mount::clone_tree(source.as_fd(), is_recursive)?;
    let becomes = match bind.propagation {
        Propagation::Private | Propagation::RPrivate => Some(libc::MS_PRIVATE),
        Propagation::Slave | Propagation::RSlave => Some(libc::MS_SLAVE),
        Propagation::Shared | Propagation::RShared => None,
    };
    if let Some(kind) = becomes {
        let none = MountAttrFlags::empty();
        sys::mount::set_attributes(tree.as_fd(), c"", none, kind, is_recursive)?;
    }
    let spares_below = matches!(bind.recursion, Recursion::Writable | Recursion::Disabled);
    restrict(&tree, read_only, !spares_below)?;
    Ok(tree)
}

/// Makes sure that the mount a source is on takes part in what it is to take part in, as Docker does.
fn check_propagation(source: &OwnedFd, bind: &Bind) -> io::Result<()> {
    let propagation = bind.propagation;
    if !propagation.is_shared() && !propagation.is_slave() {
        return Ok(());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let flags = AtFlags::EMPTY_PATH;
    let id = rustix::fs::statx(source, "", flags, StatxFlags::MNT_ID)?.stx_mnt_id;
    let id = id.to_string();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(&id));
    let mut fields = line.unwrap_or_default().split(' ').skip(4);
    let on = fields.next().unwrap_or_default();
    let mut tags = fields.skip(1).take_while(|field| *field != "-");
    let (fits, what) = match propagation.is_shared() {
        true => (tags.any(|tag| tag.starts_with("shared:")), "a shared mount"),
        false => (
            tags.any(|tag| tag.starts_with("shared:") || tag.starts_with("master:")),
            "a shared or slave mount",
        ),
    };
    match fits {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "path {} is mounted on {on} but it is not {what}",
            bind.path.display()
        ))),
    }
}

fn restrict(tree: &OwnedFd, read_only: bool, recursive: bool) -> io::Result<()> {
    match read_only {
        true => sys::mount::set_attributes(tree.as_fd(), c"", RDONLY, 0, recursive),
        false => Ok(()),
    }
}

/// Returns a mount of what is at a path of the host's, attached nowhere yet.
fn clone_of(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::openat(CWD, source, flags, Mode::empty())?;
    sys::mount::clone_tree(source.as_fd(), recursive)
}

fn one(root: &Root, target: &Path, tree: &OwnedFd) -> io::Result<()> {
    let is_directory = sys::fds::is_directory(tree)?;
    let make = match is_directory {
        true => Make::Directory,
        false => Make::File,
    };
    let target = root.find_or_make(target, make)?;
    if sys::fds::is_directory(&target)? != is_directory {
        return Err(io::Error::other(
            "not a directory: are you trying to mount a directory onto a file (or vice-versa)? Check if the specified \
             host path exists and is the expected type",
        ));
    }
    sys::mount::attach(tree.as_fd(), target.as_fd())
}

/// Makes a tmpfs from `mount(8)`'s options; the defaults are Docker's: nosuid, nodev, noexec.
fn tmpfs(options: &str) -> io::Result<OwnedFd> {
    let mut attributes = HARDENED;
    let mut parameters = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" | "defaults" => {}
            "ro" => attributes |= RDONLY,
            "exec" => attributes.remove(MountAttrFlags::MOUNT_ATTR_NOEXEC),
            "suid" => attributes.remove(MountAttrFlags::MOUNT_ATTR_NOSUID),
            "dev" => attributes.remove(MountAttrFlags::MOUNT_ATTR_NODEV),
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            parameter => parameters.push(parameter.split_once('=').unwrap_or((parameter, ""))),
        }
    }
    sys::mount::filesystem("tmpfs", &parameters, attributes)
}

/// Hides and write-protects what of /proc and /sys tells on or reaches the host.
pub(super) fn mask(kernel: &Kernel) -> Result<(), Failed> {
    let null = root::beneath(&kernel.dev, Path::new("null")).map_err(step("open /dev/null"))?;
    is_null(&null).map_err(step("open /dev/null"))?;
    let empty = sys::mount::filesystem(
        "tmpfs",
        &[("mode", "755"), ("size", "0k")],
        HARDENED | RDONLY,
    )
    .map_err(step("mount a mask"))?;
    for path in MASKED {
        let Some(target) = kernel.find(path) else {
            continue;
        };
        let source = match sys::fds::is_directory(&target).map_err(step(*path))? {
            true => sys::mount::clone_tree(empty.as_fd(), false),
            false => sys::mount::clone_tree(null.as_fd(), false),
        };
        source
            .and_then(|source| sys::mount::attach(source.as_fd(), target.as_fd()))
            .map_err(step(format!("mask {path}")))?;
    }
    for path in READ_ONLY {
        let Some(target) = kernel.find(path) else {
            continue;
        };
        sys::mount::clone_tree(target.as_fd(), true)
            .and_then(|copy| {
                sys::mount::set_attributes(copy.as_fd(), c"", RDONLY, 0, true)?;
                sys::mount::attach(copy.as_fd(), target.as_fd())
            })
            .map_err(step(format!("protect {path}")))?;
    }
    Ok(())
}

impl Kernel {
    /// Opens a path of /proc or /sys if there is one.
    fn find(&self, path: &str) -> Option<OwnedFd> {
        let (base, rest) = match path.strip_prefix("/proc/") {
            Some(rest) => (&self.proc, rest),
            None => (&self.sys, path.strip_prefix("/sys/")?),
        };
        root::beneath(base, Path::new(rest)).ok()
    }

    /// Opens the container's own /dev/null to read.
    pub(super) fn null(&self) -> Result<OwnedFd, Failed> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dev, "null", flags, Mode::empty())
            .map_err(|error| step("open /dev/null")(error.into()))
    }

    /// Shows the terminal as /dev/console.
    pub(super) fn console(&self, terminal: BorrowedFd<'_>) -> Result<(), Failed> {
        let failed = || step("mount /dev/console");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.dev, "console", flags, Mode::from(0o620));
        made.map_err(|error| failed()(error.into()))?;
        root::beneath(&self.dev, Path::new("console"))
            .and_then(|target| {
                let copy = sys::mount::clone_tree(terminal, false)?;
                sys::mount::attach(copy.as_fd(), target.as_fd())
            })
            .map_err(failed())
    }
}

/// Makes sure that what masks a file is the null device (CVE-2025-31133).
fn is_null(null: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(null)?;
    let is = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    match is {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Makes the root the process's own and lets go of the host's.
pub(super) fn pivot(root: &Root) -> Result<(), Failed> {
    let failed = || step("pivot_root");
    rustix::process::fchdir(root.as_fd()).map_err(|error| failed()(error.into()))?;
    rustix::process::pivot_root(".", ".").map_err(|error| failed()(error.into()))?;
    // The old root lies on the new one: taking it away uncovers it.
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
        .map_err(|error| failed()(error.into()))?;
    rustix::process::chdir("/").map_err(|error| failed()(error.into()))
}

/// Makes the root, and nothing mounted on it, read-only.
pub(super) fn protect_root() -> Result<(), Failed> {
    let path = CString::from(c"/");
    sys::mount::set_attributes(CWD, &path, RDONLY, 0, false).map_err(step("make / read-only"))
}
