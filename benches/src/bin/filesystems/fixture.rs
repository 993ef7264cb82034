//! The layers that are mounted: unpacked for the others, ingested for ply.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Store;
use tests::must;

/// How many files there are to be looked up, whatever the number of layers.
pub(crate) const DEEP_FILES: usize = 4000;

/// The size of the file that is read from end to end.
pub(crate) const LARGE: u64 = 256 << 20;
/// The size of the file that is copied up.
pub(crate) const HUGE: u64 = 1 << 30;

/// Layers of one tree.
#[derive(Debug)]
pub(crate) struct Fixture {
    /// The layers unpacked, lowest first.
    pub(crate) directories: Vec<PathBuf>,
    /// The store of the ingested ones.
    pub(crate) store: PathBuf,
    /// The same layers there.
    pub(crate) layers: Vec<DiffId>,
    /// Small files of the tree, by their paths from its root.
    pub(crate) small_files: Vec<PathBuf>,
    /// All paths.
    pub(crate) paths: Vec<PathBuf>,
    /// A tar of some thousand files.
    pub(crate) tar: PathBuf,
}

impl Fixture {
    /// Debian's base, a `/usr/share` and some large files: three layers.
    pub(crate) fn distribution(dir: &Path) -> Fixture {
        let dir = dir.join("distribution");
        let layers = dir.join("layers");
        let [base, share, large] = ["base", "share", "large"].map(|name| layers.join(name));
        for path in [&base, &share.join("usr"), &large.join("large")] {
            fs::create_dir_all(path).expect("a directory");
        }
        let debian = tests::debian_tar().display().to_string();
        must("tar", &["-C", &show(&base), "-xf", &debian]);
        must("cp", &["-a", "/usr/share", &show(&share.join("usr"))]);
        let large_dir = large.join("large");
        noise(&large_dir.join("256M"), LARGE);
        noise(&large_dir.join("1G"), HUGE);
        for number in 0..32 {
            noise(&large_dir.join(format!("1M-{number}")), 1 << 20);
        }
        let tar = dir.join("files.tar");
        must(
            "tar",
            &[
                "-C",
                "/usr/share",
                "-cf",
                &show(&tar),
                "doc",
                "perl",
                "zoneinfo",
            ],
        );
        let mut fixture = Fixture::ingest(&dir, vec![base, share, large]);
        fixture.tar = tar;
        fixture.list();
        fixture
    }

    /// A directory of always the same files, each in one of `depth` layers.
    pub(crate) fn deep(dir: &Path, depth: usize) -> Fixture {
        let dir = dir.join(format!("depth-{depth}"));
        let directories: Vec<PathBuf> = (0..depth)
            .map(|layer| {
                let path = dir.join("layers").join(layer.to_string());
                fs::create_dir_all(path.join("d")).expect("a directory");
                for number in (layer..DEEP_FILES).step_by(depth) {
                    File::create(path.join(format!("d/file-{number}"))).expect("a file");
                }
                path
            })
            .collect();
        Fixture::ingest(&dir, directories)
    }

    fn ingest(dir: &Path, directories: Vec<PathBuf>) -> Fixture {
        let path = dir.join("store");
        let store = Store::open(&path).expect("a store");
        let layers: Vec<DiffId> = directories
            .iter()
            .map(|directory| {
                let tar = dir.join("layer.tar");
                must("tar", &["-C", &show(directory), "-cf", &show(&tar), "."]);
                let blob = File::open(&tar).expect("the tar");
                let ingested = store.ingest(blob, Expect::default()).expect("a layer");
                fs::remove_file(tar).expect("the tar goes");
                ingested.diff_id
            })
            .collect();
        store.stack(&layers).expect("the stack");
        Fixture {
            directories,
            store: path,
            layers,
            small_files: Vec::new(),
            paths: Vec::new(),
            tar: PathBuf::new(),
        }
    }

    /// Picks the paths that are visited, always the same ones.
    fn list(&mut self) {
        let share = &self.directories[1];
        let mut todo = vec![share.join("usr/share")];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                let meta = fs::symlink_metadata(&path).expect("a file");
                let shown = path.strip_prefix(share).expect("within").to_owned();
                if meta.is_dir() {
                    todo.push(path);
                } else if meta.is_file() && meta.len() <= 64 << 10 {
                    self.small_files.push(shown.clone());
                }
                self.paths.push(shown);
            }
        }
        self.paths.sort();
        self.small_files.sort();
        let every = (self.small_files.len() / 5000).max(1);
        self.small_files = self.small_files.iter().step_by(every).cloned().collect();
        let every = (self.paths.len() / 20_000).max(1);
        self.paths = self.paths.iter().step_by(every).cloned().collect();
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Writes a file that neither compresses nor has holes.
fn noise(path: &Path, size: u64) {
    let mut file = File::create(path).expect("a file");
    let mut state = size | 1;
    let mut block = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("space");
    }
}
