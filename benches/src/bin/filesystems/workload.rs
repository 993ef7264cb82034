//! What is measured.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use crate::contender::Mounted;
use crate::fixture::DEEP_FILES;
use crate::fixture::Fixture;
use crate::fixture::LARGE;
use crate::table::Measured;

/// One thing to do in a mounted union; those of a list are done in its order, in the same mount.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The line of the table.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) run: fn(&Mounted, &Fixture) -> Measured,
}

/// Reading what lower layers have.
pub(crate) const READ: &[Workload] = &[
    Workload {
        name: "walk, first after mount",
        run: |mounted, _| {
            drop_caches("2");
            walk(mounted)
        },
    },
    Workload {
        name: "server memory after it",
        run: |mounted, _| match mounted.server_memory() {
            Some(bytes) => Measured::Memory(bytes),
            None => Measured::Nothing,
        },
    },
    Workload {
        name: "walk, warm",
        run: |mounted, _| walk(mounted),
    },
    Workload {
        name: "20,000 stats, warm",
        run: |mounted, fixture| stat(mounted, fixture, ""),
    },
    Workload {
        name: "20,000 misses, warm",
        run: |mounted, fixture| {
            stat(mounted, fixture, ".none");
            stat(mounted, fixture, ".none")
        },
    },
    Workload {
        name: "5,000 small files, read first",
        run: read_small,
    },
    Workload {
        name: "5,000 small files, warm",
        run: read_small,
    },
    Workload {
        name: "walk, cold (host's caches too)",
        run: |mounted, _| {
            drop_caches("3");
            walk(mounted)
        },
    },
    Workload {
        name: "5,000 small files, cold",
        run: |mounted, fixture| {
            drop_caches("3");
            read_small(mounted, fixture)
        },
    },
    Workload {
        name: "sequential read, 256 MiB",
        run: |mounted, _| {
            sequential_read(mounted);
            sequential_read(mounted)
        },
    },
    Workload {
        name: "random read, 4 KiB x 50,000",
        run: random_read,
    },
    Workload {
        name: "mmap read, 256 MiB",
        run: mmap_read,
    },
];

/// Changing things.
pub(crate) const WRITE: &[Workload] = &[
    Workload {
        name: "create 5,000 files",
        run: |mounted, _| {
            let root = mounted.root.join("made");
            fs::create_dir(&root).expect("a directory");
            each(5000, |number| {
                let mut file = File::create(root.join(format!("file-{number}"))).expect("a file");
                file.write_all(b"content").expect("space");
            })
        },
    },
    Workload {
        name: "rename 5,000 files",
        run: |mounted, _| {
            let root = mounted.root.join("made");
            each(5000, |number| {
                let from = root.join(format!("file-{number}"));
                fs::rename(from, root.join(format!("renamed-{number}"))).expect("a rename");
            })
        },
    },
    Workload {
        name: "chmod 5,000 files",
        run: |mounted, _| {
            let root = mounted.root.join("made");
            each(5000, |number| {
                let permissions = fs::Permissions::from_mode(0o600);
                let path = root.join(format!("renamed-{number}"));
                fs::set_permissions(path, permissions).expect("a chmod");
            })
        },
    },
    Workload {
        name: "unlink 5,000 files",
        run: |mounted, _| {
            let root = mounted.root.join("made");
            each(5000, |number| {
                fs::remove_file(root.join(format!("renamed-{number}"))).expect("an unlink");
            })
        },
    },
    Workload {
        name: "mkdir and rmdir, 2,000",
        run: |mounted, _| {
            let root = mounted.root.join("made");
            each(2000, |number| {
                fs::create_dir(root.join(format!("d{number}"))).expect("a directory");
                fs::remove_dir(root.join(format!("d{number}"))).expect("it goes");
            })
        },
    },
    Workload {
        name: "untar",
        run: |mounted, fixture| {
            let root = mounted.root.join("made");
            let start = Instant::now();
            let mut tar = Command::new("tar");
            run(tar.arg("-C").arg(&root).arg("-xf").arg(&fixture.tar));
            Measured::Time(start.elapsed())
        },
    },
    Workload {
        name: "rm -rf of what was untarred",
        run: |mounted, _| remove(&mounted.root.join("made")),
    },
    Workload {
        name: "rm -rf of a lower tree",
        run: |mounted, _| remove(&mounted.root.join("usr/share/doc")),
    },
    Workload {
        name: "chmod 2,000 small lower files",
        run: |mounted, fixture| {
            let files = lower_files(mounted, fixture, 0);
            each(files.len(), |number| {
                let permissions = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&files[number], permissions).expect("a chmod");
            })
        },
    },
    Workload {
        name: "append to 2,000 small lower files",
        run: |mounted, fixture| {
            let files = lower_files(mounted, fixture, 1);
            each(files.len(), |number| append(&files[number]))
        },
    },
    Workload {
        name: "append to 32 lower files of 1 MiB",
        run: |mounted, _| {
            let root = mounted.root.join("large");
            each(32, |number| append(&root.join(format!("1M-{number}"))))
        },
    },
    Workload {
        name: "chmod a lower file of 1 GiB",
        run: |mounted, _| {
            each(1, |_| {
                let permissions = fs::Permissions::from_mode(0o600);
                let path = mounted.root.join("large/1G");
                fs::set_permissions(path, permissions).expect("a chmod");
            })
        },
    },
    Workload {
        name: "append to a lower file of 256 MiB",
        run: |mounted, _| each(1, |_| append(&mounted.root.join("large/256M"))),
    },
    Workload {
        name: "sequential write, 256 MiB",
        run: |mounted, _| {
            let path = mounted.root.join("written");
            let block = vec![1; 128 << 10];
            let mut file = File::create(path).expect("a file");
            each((LARGE >> 17) as usize, |_| {
                file.write_all(&block).expect("space");
            })
        },
    },
    Workload {
        name: "random write, 4 KiB x 20,000",
        run: |mounted, _| {
            let path = mounted.root.join("written");
            let file = File::options().write(true).open(path).expect("the file");
            let mut state = 7;
            each(20_000, |_| {
                let at = random(&mut state) % (LARGE >> 12);
                file.write_all_at(&[2; 4096], at << 12).expect("space");
            })
        },
    },
    Workload {
        name: "mmap write, 64 MiB",
        run: |mounted, _| {
            let path = mounted.root.join("written");
            let file = File::options().read(true).write(true).open(path);
            let file = file.expect("the file");
            let length = 64 << 20;
            // SAFETY: nobody else has this file.
            let map = unsafe { memmap2::MmapOptions::new().len(length).map_mut(&file) };
            let mut map = map.expect("a map");
            each(length >> 12, |page| map[page << 12] = 3)
        },
    },
    Workload {
        name: "write 4 KiB and fsync, 200 times",
        run: |mounted, _| {
            let mut file = File::create(mounted.root.join("synced")).expect("a file");
            each(200, |_| {
                file.write_all(&[4; 4096]).expect("space");
                file.sync_data().expect("a disk");
            })
        },
    },
];

/// A program is compiled.
pub(crate) const BUILD: &[Workload] = &[Workload {
    name: "C build, 40 files",
    run: |mounted, _| {
        let root = mounted.root.join("project");
        fs::create_dir(&root).expect("a directory");
        let mut makefile = String::from("OBJECTS =");
        for number in 0..40 {
            let text = format!(
                "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
                 #include <sys/stat.h>\nint f{number}(int x) {{ printf(\"%d\", x); return x + {number}; }}\n"
            );
            fs::write(root.join(format!("f{number}.c")), text).expect("a file");
            makefile += &format!(" f{number}.o");
        }
        fs::write(
            root.join("main.c"),
            "int f1(int); int main(void) { return f1(-1); }\n",
        )
        .expect("a file");
        makefile += "\nprogram: main.o $(OBJECTS)\n\tcc -o $@ $^\n";
        fs::write(root.join("Makefile"), makefile).expect("a file");
        let start = Instant::now();
        run(Command::new("make").arg("-s").arg("-j2").current_dir(&root));
        Measured::Time(start.elapsed())
    },
}];

/// Looks all names of a deep directory up for the first time.
pub(crate) fn look_up(mounted: &Mounted, _: &Fixture, names: &str) -> Measured {
    let root = mounted.root.join("d");
    drop_caches("2");
    let _ = fs::symlink_metadata(&root);
    each(DEEP_FILES, |number| {
        let _ = fs::symlink_metadata(root.join(format!("{names}-{number}")));
    })
}

fn each(count: usize, mut act: impl FnMut(usize)) -> Measured {
    let start = Instant::now();
    for number in 0..count {
        act(number);
    }
    Measured::Time(start.elapsed())
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().expect("a program");
    assert!(status.success(), "{command:?}");
}

/// `2` drops names and inodes, `3` what was read from the disk too.
fn drop_caches(what: &str) {
    if what == "3" {
        rustix::fs::sync();
    }
    fs::write("/proc/sys/vm/drop_caches", what).expect("root");
}

fn walk(mounted: &Mounted) -> Measured {
    let start = Instant::now();
    let mut todo = vec![mounted.root.clone()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("a file");
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Measured::Time(start.elapsed())
}

fn stat(mounted: &Mounted, fixture: &Fixture, suffix: &str) -> Measured {
    let paths: Vec<_> = (fixture.paths.iter())
        .map(|path| {
            let mut path = mounted.root.join(path).into_os_string();
            path.push(suffix);
            path
        })
        .collect();
    each(paths.len(), |number| {
        let _ = fs::symlink_metadata(&paths[number]);
    })
}

fn read_small(mounted: &Mounted, fixture: &Fixture) -> Measured {
    let mut buffer = vec![0; 64 << 10];
    each(fixture.small_files.len(), |number| {
        let path = mounted.root.join(&fixture.small_files[number]);
        let mut file = File::open(path).expect("a file");
        while file.read(&mut buffer).expect("its bytes") > 0 {}
    })
}

fn large(mounted: &Mounted) -> File {
    File::open(mounted.root.join("large/256M")).expect("the file")
}

fn sequential_read(mounted: &Mounted) -> Measured {
    let mut file = large(mounted);
    let mut buffer = vec![0; 128 << 10];
    each((LARGE >> 17) as usize, |_| {
        file.read_exact(&mut buffer).expect("its bytes");
    })
}

fn random_read(mounted: &Mounted, _: &Fixture) -> Measured {
    let file = large(mounted);
    let mut buffer = [0; 4096];
    let mut state = 5;
    each(50_000, |_| {
        let at = random(&mut state) % (LARGE >> 12);
        file.read_exact_at(&mut buffer, at << 12).expect("a block");
    })
}

fn mmap_read(mounted: &Mounted, _: &Fixture) -> Measured {
    let file = large(mounted);
    // SAFETY: nobody changes the file.
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("a map");
    let mut sum = 0u64;
    let measured = each((LARGE >> 12) as usize, |page| {
        sum += u64::from(map[page << 12]);
    });
    std::hint::black_box(sum);
    measured
}

/// Every fifth small file, beginning with the one of that number, that is still there.
fn lower_files(mounted: &Mounted, fixture: &Fixture, from: usize) -> Vec<std::path::PathBuf> {
    let doc = Path::new("usr/share/doc");
    let files = (fixture.small_files.iter()).filter(|path| !path.starts_with(doc));
    files
        .skip(from)
        .step_by(2)
        .take(2000)
        .map(|path| mounted.root.join(path))
        .collect()
}

fn append(path: &Path) {
    let file = File::options().append(true).open(path);
    let mut file = file.expect("the file");
    file.write_all(b"more").expect("space");
}

fn remove(path: &Path) -> Measured {
    let start = Instant::now();
    run(Command::new("rm").arg("-rf").arg(path));
    Measured::Time(start.elapsed())
}
