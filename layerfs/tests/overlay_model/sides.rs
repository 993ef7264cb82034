//! The same layers under the kernel's overlayfs and under ours.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Namespace;
use layerfs::Stack;
use layerfs::Store;
use layerfs::Union;
use layerfs::Upper;
use layerfs::UpperOptions;
use layerfs::fuse;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::XattrFlags;

use crate::operations::Random;
use crate::operations::apply;
use crate::operations::operation;
use crate::tree::Links;
use crate::tree::tree;

/// What the union is put over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Layers that were taken into a store.
    Store,
    /// The directories themselves; metacopies and redirects are written or not.
    Directories { metacopy: bool, redirects: bool },
}

/// A mount that is taken away whatever happens.
pub(crate) struct Kernel(PathBuf);

impl Drop for Kernel {
    fn drop(&mut self) {
        let path = CString::new(self.0.as_os_str().as_bytes()).expect("a path");
        let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Kernel {
    /// Mounts the kernel's overlayfs on `point`.
    fn mount(
        lowers: &[PathBuf],
        upper: Option<(&Path, &Path)>,
        extra: &str,
        point: &Path,
    ) -> Kernel {
        let names: Vec<String> = lowers
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let mut options = format!("lowerdir={},{extra}", names.join(":"));
        if let Some((upper, work)) = upper {
            options.push_str(&format!(
                ",upperdir={},workdir={}",
                upper.display(),
                work.display()
            ));
        }
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(point)
            .status()
            .expect("mount runs");
        assert!(status.success(), "{options}");
        Kernel(point.to_owned())
    }
}

pub(crate) struct Sides {
    directory: tempfile::TempDir,
    over: Over,
    store: Store,
    layers: Vec<DiffId>,
    /// Highest first.
    lowers: Vec<PathBuf>,
    kernel: Option<Kernel>,
}

impl Sides {
    /// Makes up to three layers by random operations and mounts the kernel's side over them.
    pub(crate) fn new(random: &mut Random, over: Over) -> Sides {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let store = Store::open(&at("store")).expect("a store");
        let mut layers = Vec::new();
        let mut lowers = Vec::new();
        for number in 0..1 + random.below(3) {
            let lower = at(&format!("lower{number}"));
            fs::create_dir(&lower).expect("a directory");
            for _ in 0..random.below(25) {
                let operation = operation(random);
                if operation.makes_layers() {
                    let _ = apply(&lower, &operation, &mut None);
                }
            }
            if number > 0 {
                hide_some(random, &lower);
            }
            if over == Over::Store {
                layers.push(ingest(&store, &lower));
            }
            lowers.insert(0, lower);
        }
        for name in [
            "upper",
            "work",
            "kernel-upper",
            "kernel-work",
            "kernel",
            "ours",
        ] {
            fs::create_dir(at(name)).expect("a directory");
        }
        let mut sides = Sides {
            directory,
            over,
            store,
            layers,
            lowers,
            kernel: None,
        };
        let options = match over {
            Over::Store => "redirect_dir=on,index=on,metacopy=off",
            Over::Directories { metacopy: true, .. } => "redirect_dir=on,index=on,metacopy=on",
            Over::Directories {
                redirects: true, ..
            } => "redirect_dir=on,index=on,metacopy=off",
            Over::Directories { .. } => "redirect_dir=off,index=on,metacopy=off",
        };
        let (upper, work) = (sides.path("kernel-upper"), sides.path("kernel-work"));
        let upper = Some((upper.as_path(), work.as_path()));
        sides.kernel = Some(Kernel::mount(
            &sides.lowers,
            upper,
            options,
            &sides.path("kernel"),
        ));
        sides
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn mount(&self) -> fuse::Serving {
        let (upper, work) = (self.path("upper"), self.path("work"));
        match self.over {
            Over::Store => {
                let stack = self.store.stack(&self.layers).expect("a stack");
                let upper = Upper::open(&upper, &work).expect("an upper");
                serve(stack, Some(upper), &self.path("ours"))
            }
            Over::Directories {
                metacopy,
                redirects,
            } => {
                let options = UpperOptions {
                    namespace: Namespace::Trusted,
                    metacopy,
                    redirects,
                    foreign: true,
                };
                directories(
                    &self.lowers,
                    Some((&upper, &work, options)),
                    &self.path("ours"),
                )
            }
        }
    }

    pub(crate) fn differences(&self, links: Links) -> Vec<String> {
        let (kernel, ours) = (
            tree(&self.path("kernel"), links),
            tree(&self.path("ours"), links),
        );
        let mut words = Vec::new();
        for path in kernel.keys().chain(ours.keys()) {
            if kernel.get(path) != ours.get(path) {
                words.push(format!(
                    "{}\n  kernel {:?}\n  ours   {:?}",
                    path.display(),
                    kernel.get(path),
                    ours.get(path)
                ));
            }
        }
        words.dedup();
        words
    }

    /// Lets each side show what the other one wrote, first as its upper, then as a lower layer.
    pub(crate) fn exchange(&mut self) -> Vec<String> {
        self.kernel = None;
        let (ours, kernels) = (self.path("upper"), self.path("kernel-upper"));
        let mut words = Vec::new();
        let extra = "redirect_dir=on,metacopy=on,index=off";
        let options = UpperOptions {
            namespace: Namespace::Trusted,
            metacopy: true,
            redirects: true,
            foreign: true,
        };
        let point = self.path("ours");
        for (name, upper, work) in [
            ("our upper", &ours, "other-work-1"),
            ("the kernel's upper", &kernels, "other-work-2"),
        ] {
            let (kernel_work, our_work) = (self.path(work), self.path(&format!("{work}-ours")));
            fs::create_dir(&kernel_work).expect("a directory");
            let writable = Some((upper.as_path(), kernel_work.as_path()));
            let kernel = Kernel::mount(&self.lowers, writable, extra, &self.path("kernel"));
            let serving = directories(&self.lowers, Some((upper, &our_work, options)), &point);
            words.extend(self.compared(name));
            serving.unmount().expect("unmounted");
            drop(kernel);
            let mut lowers = self.lowers.clone();
            lowers.insert(0, upper.clone());
            let extra = "redirect_dir=on,metacopy=on";
            let kernel = Kernel::mount(&lowers, None, extra, &self.path("kernel"));
            let serving = directories(&lowers, None, &point);
            words.extend(self.compared(&format!("{name} as a lower layer")));
            serving.unmount().expect("unmounted");
            drop(kernel);
        }
        words
    }

    fn compared(&self, name: &str) -> Vec<String> {
        let differences = self.differences(Links::Ignored);
        (differences.into_iter())
            .map(|words| format!("{name}: {words}"))
            .collect()
    }
}

/// Makes whiteouts and opaque directories, which the layers' two dialects both have.
fn hide_some(random: &mut Random, lower: &Path) {
    for name in ["a", "b", "c", "d"] {
        let path = lower.join(name);
        let there = fs::symlink_metadata(&path);
        if random.below(5) == 0 && there.is_err() {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            rustix::fs::mknodat(CWD, path, kind, mode, 0).expect("a whiteout");
        } else if random.below(5) == 0 && there.is_ok_and(|stat| stat.is_dir()) {
            let opaque = "trusted.overlay.opaque";
            rustix::fs::setxattr(path, opaque, b"y", XattrFlags::empty()).expect("an attribute");
        }
    }
}

fn ingest(store: &Store, lower: &Path) -> DiffId {
    let tar = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--format=pax",
            "-C",
        ])
        .arg(lower)
        .args(["-c", "."])
        .output()
        .expect("tar runs");
    assert!(tar.status.success());
    let ingested = store.ingest(&tar.stdout[..], Expect::default());
    ingested.expect("a layer").diff_id
}

/// Mounts the union of plain directories.
pub(crate) fn directories(
    lowers: &[PathBuf],
    upper: Option<(&Path, &Path, UpperOptions)>,
    point: &Path,
) -> fuse::Serving {
    let stack = Stack::of_directories(lowers, Namespace::Trusted).expect("a stack");
    let upper = upper
        .map(|(upper, work, options)| Upper::open_with(upper, work, options).expect("an upper"));
    serve(Arc::new(stack), upper, point)
}

fn serve(stack: Arc<Stack>, upper: Option<Upper>, point: &Path) -> fuse::Serving {
    let union = Arc::new(Union::new(stack, upper).expect("a union"));
    let mounted = fuse::mount(union, point, &fuse::MountOptions::default());
    mounted.and_then(fuse::Mounted::spawn).expect("a mount")
}
