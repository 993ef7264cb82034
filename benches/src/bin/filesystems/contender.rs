//! The filesystems that are compared, and mounting them.

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Store;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse::MountOptions;

use crate::fixture::Fixture;

/// The word that makes this program serve a union instead.
pub(crate) const SERVE: &str = "--serve";

/// A union filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// ply's union over ingested layers.
    Ply,
    /// The kernel's, over unpacked layers.
    Overlayfs,
    /// Podman's, over the same unpacked layers.
    FuseOverlayfs,
}

impl Contender {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Contender; 3] = [
        Contender::Ply,
        Contender::Overlayfs,
        Contender::FuseOverlayfs,
    ];

    /// Returns the name that the table shows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Ply => "ply",
            Contender::Overlayfs => "overlayfs",
            Contender::FuseOverlayfs => "fuse-overlayfs",
        }
    }
}

/// A mounted union with a fresh upper. Dropping it unmounts.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where its root is.
    pub(crate) root: PathBuf,
    server: Option<Child>,
    state: PathBuf,
}

impl Mounted {
    /// Mounts the fixture's layers under a fresh upper.
    pub(crate) fn new(fixture: &Fixture, contender: Contender, dir: &Path) -> Mounted {
        let state = dir.join("state");
        let [root, upper, work] = ["root", "upper", "work"].map(|name| state.join(name));
        for path in [&root, &upper, &work] {
            std::fs::create_dir_all(path).expect("a directory");
        }
        let server = match contender {
            Contender::Ply => Some(spawn(
                Command::new(std::env::current_exe().expect("this program"))
                    .arg(SERVE)
                    .args([&fixture.store, &root, &upper, &work])
                    .args(fixture.layers.iter().map(DiffId::to_string)),
            )),
            Contender::Overlayfs => {
                mount_overlayfs(fixture, &root, &upper, &work).expect("overlayfs");
                None
            }
            Contender::FuseOverlayfs => {
                let lower: Vec<String> = (fixture.directories.iter().rev())
                    .map(|path| path.display().to_string())
                    .collect();
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    lower.join(":"),
                    upper.display(),
                    work.display()
                );
                Some(spawn(
                    Command::new("fuse-overlayfs")
                        .args(["-f", "-o", &options])
                        .arg(&root),
                ))
            }
        };
        let outside = device(dir);
        tests::eventually("the union is mounted", || device(&root) != outside);
        Mounted {
            root,
            server,
            state,
        }
    }

    /// Returns how much memory of its own the server has.
    pub(crate) fn server_memory(&self) -> Option<u64> {
        let pid = self.server.as_ref()?.id();
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(kib("Rss:")? << 10)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::empty());
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
        unmounted.expect("nothing is open in it");
        std::fs::remove_dir_all(&self.state).expect("the state goes");
    }
}

fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(path).ok()?.dev())
}

fn spawn(command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    tests::end_with_this_thread(quiet)
        .spawn()
        .expect("a server")
}

/// Mounts by the new calls, since five hundred paths do not fit into the old one's page.
fn mount_overlayfs(
    fixture: &Fixture,
    root: &Path,
    upper: &Path,
    work: &Path,
) -> rustix::io::Result<()> {
    use rustix::mount;
    let context = mount::fsopen("overlay", mount::FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    for directory in fixture.directories.iter().rev() {
        mount::fsconfig_set_string(context, "lowerdir+", directory)?;
    }
    mount::fsconfig_set_string(context, "upperdir", upper)?;
    mount::fsconfig_set_string(context, "workdir", work)?;
    mount::fsconfig_create(context)?;
    let mounted = mount::fsmount(
        context,
        mount::FsMountFlags::FSMOUNT_CLOEXEC,
        mount::MountAttrFlags::empty(),
    )?;
    let flags = mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mount::move_mount(mounted.as_fd(), c"", rustix::fs::CWD, root, flags)
}

/// Serves a union: store, target, upper, work directory, layers.
pub(crate) fn serve(arguments: &[String]) {
    let [store, target, upper, work, layers @ ..] = arguments else {
        panic!("{SERVE} is not for people");
    };
    let store = Store::open(Path::new(store)).expect("the store");
    let layers: Vec<DiffId> = layers
        .iter()
        .map(|layer| DiffId(layer.parse().expect("a diff ID")))
        .collect();
    let stack = store.stack(&layers).expect("the stack");
    let upper = Upper::open(Path::new(upper), Path::new(work)).expect("the upper");
    let union = Arc::new(Union::new(stack, Some(upper)).expect("the union"));
    let options = MountOptions {
        setuid: true,
        devices: true,
        ..MountOptions::default()
    };
    let mounted = layerfs::fuse::mount(union, Path::new(target), &options).expect("the mount");
    mounted.run().expect("the server");
}
