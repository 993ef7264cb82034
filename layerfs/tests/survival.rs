//! The union at its limits: a full disk, a server that is killed, very many and very large files.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Store;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse;
use layerfs::fuse::MountOptions;

/// The size of the layer's large file.
const LARGE: usize = 24 << 20;

/// A directory of the test's own, under which things are mounted until it ends.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A small filesystem of its own for the upper.
    fn small_disk(&self, size: &str) -> PathBuf {
        let disk = self.path("disk");
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&disk)
            .status();
        assert!(mounted.unwrap().success());
        disk
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in ["mnt", "disk"] {
            let path = self.0.path().join(name);
            if path.exists() {
                let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 4096 % 251) as u8).collect()
}

fn ingest(place: &Place, tar: tar::Builder<Vec<u8>>) -> (Store, DiffId) {
    let store = Store::open(&place.path("store")).unwrap();
    let tar = tar.into_inner().unwrap();
    let layer = store.ingest(&tar[..], Expect::default()).unwrap().diff_id;
    (store, layer)
}

fn layer_of_files(place: &Place) -> (Store, DiffId) {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "large", &pattern(LARGE));
    add(&mut tar, "tree/small", b"small");
    for number in 0..50 {
        add(&mut tar, &format!("many/{number}"), &pattern(100_000));
    }
    ingest(place, tar)
}

fn union(store: &Store, layers: &[DiffId], base: &Path) -> Arc<Union> {
    let upper = Upper::open(&base.join("upper"), &base.join("work")).unwrap();
    Arc::new(Union::new(store.stack(layers).unwrap(), Some(upper)).unwrap())
}

fn mount(union: Arc<Union>, at: &Path) -> fuse::Serving {
    let mounted = fuse::mount(union, at, &MountOptions::default()).unwrap();
    mounted.spawn().unwrap()
}

fn used(directory: &Path) -> u64 {
    let stat = rustix::fs::statvfs(directory).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_copy_up_leaves_the_file_as_it_was() {
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    let disk = place.small_disk("8m");
    let serving = mount(union(&store, &[layer], &disk), &place.path("mnt"));
    let mnt = place.path("mnt");
    let before = used(&disk);

    let opened = File::options().append(true).open(mnt.join("large"));
    assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(fs::read(mnt.join("large")).unwrap(), pattern(LARGE));
    assert!(used(&disk) - before < 1 << 20, "the space is given back");
    let tmp = fs::read_dir(disk.join("work/tmp")).unwrap().count();
    assert!(tmp <= 1, "nothing but the whiteout that is kept");

    // What needs no data goes on, and an empty file needs none of the old.
    fs::rename(mnt.join("large"), mnt.join("tree/large")).unwrap();
    assert_eq!(fs::read(mnt.join("tree/large")).unwrap(), pattern(LARGE));
    fs::write(mnt.join("tree/large"), "short").unwrap();
    assert_eq!(fs::read(mnt.join("tree/large")).unwrap(), b"short");

    let mut full = File::create(mnt.join("full")).unwrap();
    let error = loop {
        if let Err(error) = full.write_all(&[7; 65536]) {
            break error;
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    drop(full);
    fs::remove_file(mnt.join("full")).unwrap();
    // The kernel forgets the file a moment after it is gone.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(error) = fs::write(mnt.join("tree/small"), "fits again") {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(
            std::time::Instant::now() < deadline,
            "the space is not given back"
        );
    }
    serving.unmount().unwrap();
}

#[test]
fn a_disk_that_cannot_be_written_any_more_is_said_so_and_read_on() {
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    let disk = place.small_disk("64m");
    let serving = mount(union(&store, &[layer], &disk), &place.path("mnt"));
    let mnt = place.path("mnt");
    fs::write(mnt.join("before"), "written").unwrap();
    let remount = |how: &str| {
        // The kernel tells the server a moment later that a file was closed.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let is_remounted = || {
            let mut command = Command::new("mount");
            command.args(["-o", &format!("remount,{how}")]).arg(&disk);
            command.output().unwrap().status.success()
        };
        while !is_remounted() {
            assert!(std::time::Instant::now() < deadline, "it stays busy");
        }
    };
    remount("ro");
    let refused = [
        fs::write(mnt.join("new"), ""),
        fs::write(mnt.join("tree/small"), "changed"),
        fs::create_dir(mnt.join("tree/new")),
        fs::remove_file(mnt.join("large")),
        fs::rename(mnt.join("tree"), mnt.join("moved")),
        fs::hard_link(mnt.join("large"), mnt.join("link")),
        fs::set_permissions(mnt.join("large"), fs::Permissions::from_mode(0o600)),
        fs::remove_file(mnt.join("before")),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        let error = result.expect_err("nothing can be changed").raw_os_error();
        assert_eq!(error, Some(libc::EROFS), "{at}");
    }
    assert_eq!(fs::read(mnt.join("before")).unwrap(), b"written");
    assert_eq!(fs::read(mnt.join("tree/small")).unwrap(), b"small");
    let mut held = File::open(mnt.join("before")).unwrap();
    let append = || File::options().append(true).open(mnt.join("before"));
    let refused = append().and_then(|mut file| file.write_all(b"lost"));
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
    remount("rw");
    append().unwrap().write_all(b" again").unwrap();
    let mut read = String::new();
    held.read_to_string(&mut read).unwrap();
    drop(held);
    assert_eq!(read, "written again");
    let left = fs::read_dir(disk.join("work/tmp")).unwrap().count();
    assert!(left <= 1, "nothing but the whiteout that is kept");
    fs::rename(mnt.join("tree"), mnt.join("moved")).unwrap();
    fs::write(mnt.join("moved/small"), "changed").unwrap();
    assert_eq!(fs::read(mnt.join("moved/small")).unwrap(), b"changed");
    let mut names: Vec<_> = fs::read_dir(&mnt)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["before", "large", "many", "moved"]);
    serving.unmount().unwrap();
}

/// A tar of so many empty files in one directory, made while it is read.
struct ManyFiles {
    header: tar::Header,
    next: usize,
    count: usize,
    block: std::io::Cursor<Vec<u8>>,
}

impl ManyFiles {
    fn new(count: usize) -> ManyFiles {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        ManyFiles {
            header,
            next: 0,
            count,
            block: std::io::Cursor::default(),
        }
    }
}

impl Read for ManyFiles {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.block.read(buffer)?;
        if read > 0 || self.next > self.count {
            return Ok(read);
        }
        self.block = std::io::Cursor::new(match self.next < self.count {
            true => {
                self.header.set_path(format!("many/{:07}", self.next))?;
                self.header.set_cksum();
                self.header.as_bytes().to_vec()
            }
            false => vec![0; 1024],
        });
        self.next += 1;
        self.block.read(buffer)
    }
}

#[test]
fn a_million_entries_in_one_directory_are_listed_found_and_changed() {
    let place = Place::new();
    let store = Store::open(&place.path("store")).unwrap();
    let count = 1_000_000;
    let tar = std::io::BufReader::new(ManyFiles::new(count));
    let layer = store.ingest(tar, Expect::default()).unwrap().diff_id;
    let serving = mount(union(&store, &[layer], place.0.path()), &place.path("mnt"));
    let directory = place.path("mnt").join("many");
    for number in (0..count).step_by(10_000) {
        fs::remove_file(directory.join(format!("{number:07}"))).unwrap();
        fs::write(directory.join(format!("new-{number}")), "new").unwrap();
    }
    let mut seen = vec![false; count];
    let mut new = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.parse::<usize>() {
            Ok(number) => assert!(!std::mem::replace(&mut seen[number], true), "{name} twice"),
            Err(_) => new += 1,
        }
    }
    assert_eq!(new, 100);
    for (number, seen) in seen.into_iter().enumerate() {
        assert_eq!(seen, number % 10_000 != 0, "{number}");
    }
    assert!(!directory.join("0010000").exists());
    assert!(directory.join("0999999").is_file());
    serving.unmount().unwrap();
}

/// The word and the places that make this test a server that is going to be killed.
const SERVER: &str = "PLY_TEST_SERVER";

#[test]
fn serve_until_killed() {
    let Some(base) = std::env::var_os(SERVER) else {
        return;
    };
    let base = Path::new(&base);
    let store = Store::open(&base.join("store")).unwrap();
    let layers = store.layers().unwrap();
    let mounted = fuse::mount(
        union(&store, &layers, base),
        &base.join("mnt"),
        &MountOptions::default(),
    );
    mounted.unwrap().run().unwrap();
}

/// Starts this very program as a server of the layers in a process of its own.
fn serve(place: &Place) -> std::process::Child {
    let mnt = place.path("mnt");
    let outside = fs::metadata(place.0.path()).unwrap().dev();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_until_killed"])
        .env(SERVER, place.0.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while fs::metadata(&mnt).map_or(outside, |meta| meta.dev()) == outside {
        assert!(std::time::Instant::now() < deadline, "not mounted");
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_server_killed_at_any_moment_leaves_the_old_or_the_new() {
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    store.stack(&[layer]).unwrap();
    let whole = pattern(100_000);
    for round in 0..12u64 {
        let mut server = serve(&place);
        let mnt = place.path("mnt");
        let changing = std::thread::spawn({
            let mnt = mnt.clone();
            move || -> std::io::Result<()> {
                for number in 0..50 {
                    let (from, to) = (
                        mnt.join(format!("many/{number}")),
                        mnt.join(format!("many/moved-{number}")),
                    );
                    let (from, to) = if from.exists() {
                        (from, to)
                    } else {
                        (to, from)
                    };
                    let mut file = File::options().append(true).open(&from)?;
                    file.write_all(b"!")?;
                    fs::rename(&from, &to)?;
                    fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
                    fs::create_dir(mnt.join(format!("tree/{round}-{number}")))?;
                    fs::rename(mnt.join("tree"), mnt.join("forest"))?;
                    fs::rename(mnt.join("forest"), mnt.join("tree"))?;
                }
                Ok(())
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(3 + 5 * round));
        server.kill().unwrap();
        server.wait().unwrap();
        let _ = changing.join().unwrap();
        rustix::mount::unmount(&mnt, rustix::mount::UnmountFlags::DETACH).unwrap();

        let serving = mount(union(&store, &[layer], place.0.path()), &mnt);
        for number in 0..50 {
            let names = [format!("many/{number}"), format!("many/moved-{number}")];
            let there: Vec<_> = names
                .iter()
                .filter(|name| mnt.join(name).exists())
                .collect();
            assert_eq!(there.len(), 1, "{names:?}: under one of its names");
            let content = fs::read(mnt.join(there[0])).unwrap();
            assert!(content.starts_with(&whole), "{}: no byte lost", there[0]);
            assert!(content[whole.len()..].iter().all(|&byte| byte == b'!'));
        }
        let trees = ["tree", "forest"].map(|name| mnt.join(name).exists());
        assert!(trees[0] != trees[1], "{trees:?}");
        let tree = mnt.join(if trees[0] { "tree" } else { "forest" });
        assert_eq!(fs::read(tree.join("small")).unwrap(), b"small");
        if trees[1] {
            fs::rename(mnt.join("forest"), mnt.join("tree")).unwrap();
        }
        serving.unmount().unwrap();
        assert!(fs::read_dir(place.path("work/tmp")).unwrap().count() <= 1);
    }
}

#[test]
fn ten_thousand_files_are_open_at_once() {
    let (soft, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    let count = 10_000;
    // Both ends of a passed-through file are this process's.
    if hard < 2 * count + 500 {
        eprintln!("no more than {hard} open files here");
        return;
    }
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let serving = mount(union(&store, &[layer], place.0.path()), &place.path("mnt"));
    let mnt = place.path("mnt");
    let files: Vec<File> = (0..count)
        .map(|number| {
            let options = &mut File::options();
            let options = options.read(true).write(true).create_new(true);
            let file = options.open(mnt.join(format!("tree/{number}"))).unwrap();
            file.write_all_at(number.to_string().as_bytes(), 0).unwrap();
            file
        })
        .collect();
    for (number, file) in files.iter().enumerate() {
        let mut buffer = [0; 8];
        let length = file.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer[..length], number.to_string().as_bytes());
    }
    drop(files);
    serving.unmount().unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

#[test]
fn a_directory_read_while_names_come_and_go_shows_each_other_name_once() {
    let place = Place::new();
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..3000 {
        add(&mut tar, &format!("d/lower-{number}"), b"");
    }
    let (store, layer) = ingest(&place, tar);
    let serving = mount(union(&store, &[layer], place.0.path()), &place.path("mnt"));
    let directory = place.path("mnt").join("d");
    for number in 0..3000 {
        fs::write(directory.join(format!("upper-{number}")), "").unwrap();
    }
    // Every third name goes, or goes and comes again, while the directory is read.
    let mut seen = std::collections::HashMap::new();
    let opened = File::open(&directory).unwrap();
    let mut reader = rustix::fs::Dir::read_from(&opened).unwrap();
    let mut next = 0;
    for entry in reader.by_ref() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap().to_owned();
        if !name.starts_with('.') && !name.starts_with("new") {
            *seen.entry(name).or_insert(0) += 1;
        }
        if next < 3000 {
            for kind in ["lower", "upper"] {
                let path = directory.join(format!("{kind}-{next}"));
                fs::remove_file(&path).unwrap();
                if next % 2 == 0 {
                    fs::write(&path, "again").unwrap();
                }
            }
            fs::write(directory.join(format!("new-{next}")), "").unwrap();
            next += 3;
        }
    }
    for number in 0..3000 {
        for kind in ["lower", "upper"] {
            let count = seen.get(&format!("{kind}-{number}")).copied().unwrap_or(0);
            let stayed = number % 3 != 0;
            assert!(count <= 1, "{kind}-{number} was seen {count} times");
            assert!(count == 1 || !stayed, "{kind}-{number} was lost");
        }
    }
    drop((reader, opened));
    serving.unmount().unwrap();
}

#[test]
fn a_position_in_a_directory_leads_back_to_the_same_name() {
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    let serving = mount(union(&store, &[layer], place.0.path()), &place.path("mnt"));
    let directory = place.path("mnt").join("many");
    for number in 0..500 {
        fs::write(directory.join(format!("upper-{number}")), "").unwrap();
    }
    let opened = File::open(&directory).unwrap();
    let mut reader = rustix::fs::Dir::read_from(&opened).unwrap();
    let mut positions = Vec::new();
    let mut before = 0;
    for entry in reader.by_ref() {
        let entry = entry.expect("a name");
        let meta = rustix::fs::statat(&opened, entry.file_name(), rustix::fs::AtFlags::empty());
        if entry.file_name() != c".." {
            assert_eq!(meta.unwrap().st_ino, entry.ino(), "{:?}", entry.file_name());
        }
        positions.push((before, entry.file_name().to_owned()));
        before = entry.offset() as u64;
    }
    assert_eq!(positions.len(), 552);
    for (position, name) in positions.iter().step_by(7).rev() {
        reader.seek(*position as i64).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().file_name(), &**name);
    }
    drop((reader, opened));
    serving.unmount().unwrap();
}

#[test]
fn a_hundred_gibibytes_of_hole_take_no_space() {
    let place = Place::new();
    let (store, layer) = layer_of_files(&place);
    let serving = mount(union(&store, &[layer], place.0.path()), &place.path("mnt"));
    let path = place.path("mnt").join("sparse");
    let size = 100 << 30;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"end", size - 3).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    assert!(file.metadata().unwrap().blocks() < 100);
    let found = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(found >= size - 65536, "data at {found}");
    let mut end = [0; 3];
    file.read_exact_at(&mut end, size - 3).unwrap();
    assert_eq!(&end, b"end");
    drop(file);
    serving.unmount().unwrap();
}

#[test]
fn five_hundred_layers_show_the_uppermost_of_each_file() {
    let place = Place::new();
    let store = Store::open(&place.path("store")).unwrap();
    let layers: Vec<DiffId> = (0..512)
        .map(|layer| {
            let mut tar = tar::Builder::new(Vec::new());
            add(&mut tar, "d/common", format!("{layer}").as_bytes());
            add(&mut tar, &format!("d/only-{layer}"), b"");
            if layer % 2 == 1 {
                add(&mut tar, &format!("d/.wh.only-{}", layer - 1), b"");
            }
            let tar = tar.into_inner().unwrap();
            store.ingest(&tar[..], Expect::default()).unwrap().diff_id
        })
        .collect();
    let serving = mount(union(&store, &layers, place.0.path()), &place.path("mnt"));
    let directory = place.path("mnt").join("d");
    assert_eq!(fs::read(directory.join("common")).unwrap(), b"511");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1 + 256);
    assert!(!directory.join("only-0").exists());
    fs::write(directory.join("only-0"), "upper").unwrap();
    fs::remove_file(directory.join("only-511")).unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1 + 256);
    serving.unmount().unwrap();
}
