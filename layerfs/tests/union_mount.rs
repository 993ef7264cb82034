//! The union as programs see it through a mount.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::Expect;
use layerfs::Store;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse;
use layerfs::fuse::MountOptions;
use layerfs::union::ChangeKind;

struct Mount {
    directory: tempfile::TempDir,
    store: Store,
    layers: Vec<layerfs::DiffId>,
    serving: Option<fuse::Serving>,
}

impl Mount {
    /// Mounts one layer: a small file, a large one, a hard-linked pair, a directory tree.
    fn new() -> Mount {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1_000_000_000);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        };
        add("etc/small", b"small\n");
        add("etc/other", b"other\n");
        add("usr/large", &[5; 1_000_000]);
        add("usr/share/doc/a/readme", b"read me\n");
        add("links/one", b"linked\n");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        link.set_mode(0o644);
        link.set_uid(0);
        link.set_gid(0);
        tar.append_link(&mut link, "links/two", "links/one")
            .unwrap();
        let tar = tar.into_inner().unwrap();
        let layers = vec![store.ingest(&tar[..], Expect::default()).unwrap().diff_id];
        fs::create_dir(directory.path().join("mnt")).unwrap();
        let mut mount = Mount {
            directory,
            store,
            layers,
            serving: None,
        };
        mount.mount();
        mount
    }

    fn union(&self) -> Union {
        let stack = self.store.stack(&self.layers).unwrap();
        let base = self.directory.path();
        let upper = Upper::open(&base.join("upper"), &base.join("work")).unwrap();
        Union::new(stack, Some(upper)).unwrap()
    }

    fn mount(&mut self) {
        let union = Arc::new(self.union());
        let at = self.directory.path().join("mnt");
        let mounted = fuse::mount(union, &at, &MountOptions::default()).unwrap();
        self.serving = Some(mounted.spawn().unwrap());
    }

    fn unmount(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.unmount().unwrap();
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("mnt").join(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(self.serving.take());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_and_outlives_the_mount() {
    let mut mount = Mount::new();
    let small = fs::metadata(mount.path("etc/small")).unwrap().ino();
    fs::write(mount.path("etc/small"), b"changed\n").unwrap();
    fs::write(mount.path("etc/new"), vec![1; 300_000]).unwrap();
    fs::create_dir(mount.path("etc/dir")).unwrap();
    fs::remove_file(mount.path("etc/other")).unwrap();
    std::os::unix::fs::symlink("small", mount.path("etc/link")).unwrap();
    for _ in 0..2 {
        assert_eq!(names(&mount.path("etc")), ["dir", "link", "new", "small"]);
        assert_eq!(fs::read(mount.path("etc/link")).unwrap(), b"changed\n");
        assert_eq!(fs::read(mount.path("etc/new")).unwrap(), vec![1; 300_000]);
        assert_eq!(fs::metadata(mount.path("etc/small")).unwrap().ino(), small);
        assert!(!mount.path("etc/other").exists());
        mount.unmount();
        mount.mount();
    }
    mount.unmount();
    assert!(mount.store.check().unwrap().is_empty());
}

#[test]
fn rename_of_a_lower_directory_keeps_its_children() {
    let mut mount = Mount::new();
    fs::rename(mount.path("usr/share/doc"), mount.path("usr/share/doc2")).unwrap();
    for _ in 0..2 {
        assert_eq!(names(&mount.path("usr/share")), ["doc2"]);
        assert_eq!(
            fs::read(mount.path("usr/share/doc2/a/readme")).unwrap(),
            b"read me\n"
        );
        mount.unmount();
        mount.mount();
    }
}

#[test]
fn metadata_changes_copy_no_data_and_later_writes_do() {
    let mount = Mount::new();
    let large = mount.path("usr/large");
    fs::set_permissions(&large, fs::Permissions::from_mode(0o600)).unwrap();
    let upper = mount.directory.path().join("upper/usr/large");
    assert_eq!(fs::metadata(&upper).unwrap().blocks(), 0);
    assert_eq!(fs::read(&large).unwrap(), vec![5; 1_000_000]);
    let file = fs::OpenOptions::new().write(true).open(&large).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 500_000).unwrap();
    drop(file);
    let content = fs::read(&large).unwrap();
    assert_eq!(
        (content.len(), content[499_999], content[500_000]),
        (1_000_000, 5, b'x')
    );
    assert_eq!(fs::metadata(&large).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn hard_links_stay_links_across_copy_up() {
    let mount = Mount::new();
    let (one, two) = (mount.path("links/one"), mount.path("links/two"));
    assert_eq!(fs::metadata(&one).unwrap().nlink(), 2);
    fs::write(&one, b"both\n").unwrap();
    assert_eq!(fs::read(&two).unwrap(), b"both\n");
    assert_eq!(
        fs::metadata(&one).unwrap().ino(),
        fs::metadata(&two).unwrap().ino()
    );
    assert_eq!(fs::metadata(&two).unwrap().nlink(), 2);
    fs::remove_file(&one).unwrap();
    assert_eq!(fs::read(&two).unwrap(), b"both\n");
    assert_eq!(fs::metadata(&two).unwrap().nlink(), 1);
}

#[test]
fn a_reader_keeps_the_lower_file_while_a_writer_changes_it() {
    let mount = Mount::new();
    let large = mount.path("usr/large");
    let reader = fs::File::open(&large).unwrap();
    let number = reader.metadata().unwrap().ino();
    fs::write(&large, b"new").unwrap();
    assert_eq!(fs::read(&large).unwrap(), b"new");
    assert_eq!(fs::metadata(&large).unwrap().ino(), number);
    drop(reader);
    assert_eq!(fs::read(&large).unwrap(), b"new");
}

#[test]
fn changes_are_told_without_a_mount() {
    let mut mount = Mount::new();
    fs::write(mount.path("etc/motd"), b"hi\n").unwrap();
    fs::remove_file(mount.path("etc/other")).unwrap();
    mount.unmount();
    let changes = mount.union().changes().unwrap();
    let told: Vec<(ChangeKind, String)> = changes
        .into_iter()
        .map(|change| (change.kind, String::from_utf8(change.path).unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (ChangeKind::Modified, "/etc".to_owned()),
            (ChangeKind::Added, "/etc/motd".to_owned()),
            (ChangeKind::Deleted, "/etc/other".to_owned()),
        ]
    );
}

/// Names below a directory with what they are and hold.
fn tree(root: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for name in names(&root.join(&directory)) {
            let path = directory.join(name);
            let stat = fs::symlink_metadata(root.join(&path)).unwrap();
            let content = match stat.is_file() {
                true => fs::read(root.join(&path)).unwrap(),
                false => Vec::new(),
            };
            found.push((path.display().to_string(), stat.mode(), content));
            if stat.is_dir() {
                directories.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_kernels_overlayfs_reads_the_upper() {
    let mut mount = Mount::new();
    // Every kind of change: made, written, hidden, opaque, renamed with children from below, metadata only.
    fs::write(mount.path("etc/new"), "new").unwrap();
    fs::write(mount.path("etc/small"), "changed").unwrap();
    fs::remove_file(mount.path("etc/other")).unwrap();
    fs::rename(mount.path("usr/share/doc"), mount.path("usr/manual")).unwrap();
    fs::write(mount.path("usr/manual/a/added"), "added").unwrap();
    fs::rename(mount.path("usr/manual/a"), mount.path("a")).unwrap();
    fs::remove_dir_all(mount.path("links")).unwrap();
    fs::create_dir(mount.path("links")).unwrap();
    fs::write(mount.path("links/fresh"), "fresh").unwrap();
    fs::set_permissions(mount.path("usr/large"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(mount.path("usr/large"), mount.path("usr/moved")).unwrap();
    let expected = tree(&mount.path(""));
    mount.unmount();

    let base = mount.directory.path();
    let (lower, kernel) = (base.join("lower"), base.join("kernel"));
    fs::create_dir(&kernel).unwrap();
    fs::create_dir(&lower).unwrap();
    let layer = mount.store.layer(&mount.layers[0]).unwrap();
    tar::Archive::new(layer.tar()).unpack(&lower).unwrap();
    let options = format!(
        "lowerdir={}:{},redirect_dir=follow,metacopy=on",
        base.join("upper").display(),
        lower.display()
    );
    let mounted = std::process::Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&kernel)
        .status()
        .unwrap();
    assert!(mounted.success());
    let found = tree(&kernel);
    let unmounted = std::process::Command::new("umount")
        .arg(&kernel)
        .status()
        .unwrap();
    assert!(unmounted.success());
    let shown = |tree: &[(String, u32, Vec<u8>)]| -> Vec<String> {
        tree.iter()
            .map(|(path, mode, content)| format!("{path} {mode:o} {}", content.len()))
            .collect()
    };
    assert_eq!(shown(&found), shown(&expected));
    assert!(found == expected, "contents differ");
}

/// Runs a script in the mount.
fn shell(mount: &Mount, script: &str) {
    let output = std::process::Command::new("bash")
        .args(["-ec", script])
        .current_dir(mount.path(""))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn attributes_and_acls_are_kept_and_bookkeeping_is_hidden() {
    let mount = Mount::new();
    shell(
        &mount,
        "setfattr -n user.a -v 1 etc/small; setfattr -n trusted.b -v 2 etc/small
         setfacl -m u:33:rw,g:50:r etc/small; getfacl -c etc/small | grep -q '^user:www-data:rw-'
         setfacl -d -m u:33:rwx etc; mkdir etc/inherits; getfacl -c etc/inherits | grep -q '^default:user:www-data:rwx'
         test $(getfattr -d -m - etc/small 2>/dev/null | grep -c =) = 3
         ! setfattr -n trusted.ply.origin -v x etc/small 2>/dev/null
         ! setfattr -n trusted.overlay.opaque -v y etc 2>/dev/null
         ! getfattr -d -m - etc | grep -E 'ply|overlay'",
    );
}

#[test]
fn renames_obey_their_flags() {
    use rustix::fs::CWD;
    use rustix::fs::RenameFlags;
    let mount = Mount::new();
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, mount.path(from), CWD, mount.path(to), flags)
    };
    let refused = rename("etc/small", "etc/other", RenameFlags::NOREPLACE);
    assert_eq!(refused, Err(rustix::io::Errno::EXIST));
    rename("etc/small", "usr/share/doc", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(mount.path("usr/share/doc")).unwrap(), b"small\n");
    assert_eq!(
        fs::read(mount.path("etc/small/a/readme")).unwrap(),
        b"read me\n"
    );
    rename("etc/other", "etc/kept", RenameFlags::empty()).unwrap();
    assert!(!mount.path("etc/other").exists());
    assert_eq!(names(&mount.path("etc")), ["kept", "small"]);
}

#[test]
fn files_have_holes_locks_and_shared_memory() {
    use rustix::fs::FallocateFlags;
    use rustix::fs::SeekFrom;
    let mount = Mount::new();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(mount.path("usr/large"))
        .unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 4096, 8192).unwrap();
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)).unwrap(), 4096);
    assert_eq!(
        rustix::fs::seek(&file, SeekFrom::Data(4096)).unwrap(),
        12288
    );
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 2_000_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2_000_000);

    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let other = fs::File::open(mount.path("usr/large")).unwrap();
    let refused = rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockShared);
    assert_eq!(refused, Err(rustix::io::Errno::WOULDBLOCK));

    // SAFETY: the file is the test's own and keeps its length while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    map[0] = 42;
    map.flush().unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&other, &mut byte, 0).unwrap();
    assert_eq!(byte, [42]);

    let target = fs::File::create(mount.path("copy")).unwrap();
    let copied = rustix::fs::copy_file_range(&file, Some(&mut 0), &target, None, 500_000).unwrap();
    assert!(copied > 0);
    fs::remove_file(mount.path("usr/large")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(
        file.metadata().unwrap().len(),
        2_000_000,
        "open files outlive their names"
    );
}

/// Runs as another user, without the superuser's rights over files.
fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            nix::unistd::setfsgid(nix::unistd::Gid::from_raw(uid));
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(uid));
            act()
        });
        acting.join().expect("the user's thread")
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn whoever_may_not_keep_them_takes_set_user_id_bits_away_by_writing() {
    use std::io::Write;
    let mount = Mount::new();
    let open = |path: &Path| fs::File::options().write(true).open(path).unwrap();
    for name in ["etc/small", "usr/large", "fresh"] {
        let path = mount.path(name);
        if name == "fresh" {
            fs::write(&path, "fresh").unwrap();
        }
        chmod(&path, 0o6777);
        as_user(1000, || open(&path).write_all(b"x").unwrap());
        assert_eq!(mode(&path), 0o777, "{name} written by a user");
        chmod(&path, 0o6777);
        open(&path).write_all(b"x").unwrap();
        assert_eq!(mode(&path), 0o6777, "{name} written by the superuser");
        as_user(1000, || drop(open(&path)));
        assert_eq!(mode(&path), 0o6777, "{name} opened by a user");
        as_user(1000, || open(&path).set_len(3).unwrap());
        assert_eq!(mode(&path), 0o777, "{name} truncated by a user");
        chmod(&path, 0o2677);
        as_user(1000, || open(&path).write_all(b"x").unwrap());
        assert_eq!(mode(&path), 0o677, "{name}, of a group that may execute it");
    }
}

#[test]
fn a_writer_from_before_takes_set_user_id_bits_away_when_it_closes() {
    use std::io::Write;
    let mount = Mount::new();
    let path = mount.path("usr/large");
    chmod(&path, 0o777);
    let open = || fs::File::options().write(true).open(&path).unwrap();
    let (mut writes, looks_on) = as_user(1000, || (open(), open()));
    chmod(&path, 0o4777);
    drop(looks_on);
    assert_eq!(mode(&path), 0o4777, "nothing was written");
    as_user(1000, || writes.write_all(b"x").unwrap());
    let refused = std::process::Command::new(&path).spawn();
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ETXTBSY), "still open");
    drop(writes);
    assert_eq!(mode(&path), 0o777);
}

#[test]
fn what_is_executed_is_not_truncated() {
    use std::os::unix::fs::OpenOptionsExt;
    let mount = Mount::new();
    shell(&mount, "cp \"$(command -v sleep)\" program");
    let path = mount.path("program");
    let size = fs::metadata(&path).unwrap().len();
    let truncate = |access: i32| {
        let mut how = fs::File::options();
        how.read(access != libc::O_WRONLY)
            .write(access != libc::O_RDONLY);
        how.custom_flags(libc::O_TRUNC).open(&path).map(drop)
    };
    let mut program = std::process::Command::new(&path)
        .arg("1000")
        .spawn()
        .unwrap();
    for access in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
        let refused = truncate(access).map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(libc::ETXTBSY)), "{access}");
    }
    assert_eq!(program.try_wait().unwrap(), None);
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
    program.kill().unwrap();
    program.wait().unwrap();
    // The kernel does not wait for the answer when it closes a file.
    let allowed = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        truncate(libc::O_RDONLY).is_ok()
    });
    assert!(allowed);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}
