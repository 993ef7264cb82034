//! What containers and images take on the disk: `ps --size`, `system df`.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;

use super::Container;
use super::ContainerError;
use super::ContainerFilter;
use crate::Engine;
use crate::image::Image;
use crate::image::ImageFilter;
use crate::sys::fds::open_resolved;

/// What there is, and what a prune would take away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub total: usize,
    /// How many are used: images by containers, containers by running.
    pub active: usize,
    /// Bytes of them all; what several share counts once.
    pub size: u64,
    /// Bytes of those that are not used.
    pub reclaimable: u64,
}

impl Engine {
    /// Returns the bytes that a container's own changes take. /etc/hostname is not its own: it lies in its upper, where
    /// Docker would mount a file of the engine's.
    pub fn container_size(&self, container: &Container) -> u64 {
        let mut seen = HashSet::new();
        let upper = self.container_dir(&container.id).join("upper");
        size_of(&upper, &mut seen).saturating_sub(size_of_hostname(&upper))
    }

    /// Returns what images and containers take.
    pub fn disk_usage(&self) -> Result<(Usage, Usage), ContainerError> {
        let containers = self.containers(true, &ContainerFilter::default())?;
        let images = self.images(&ImageFilter::default())?;
        Ok((
            self.of_images(&images, &containers)?,
            self.of_containers(&containers),
        ))
    }

    fn of_containers(&self, containers: &[Container]) -> Usage {
        let mut usage = Usage {
            total: containers.len(),
            ..Usage::default()
        };
        for container in containers {
            let size = self.container_size(container);
            usage.size += size;
            match container.state.status.is_alive() {
                true => usage.active += 1,
                false => usage.reclaimable += size,
            }
        }
        usage
    }

    fn of_images(
        &self,
        images: &[Image],
        containers: &[Container],
    ) -> Result<Usage, ContainerError> {
        let mut usage = Usage {
            total: images.len(),
            ..Usage::default()
        };
        // Each layer's size, and whether a container needs it.
        let mut layers: HashMap<String, (u64, bool)> = HashMap::new();
        for image in images {
            let id = image.id.to_string();
            let is_used = containers
                .iter()
                .any(|container| container.config.image_id == id);
            usage.active += usize::from(is_used);
            for layer in &image.layers {
                let size = self.store().layer(layer)?.content_size();
                let entry = layers.entry(layer.to_string()).or_insert((size, false));
                entry.1 |= is_used;
            }
        }
        usage.size = layers.values().map(|(size, _)| size).sum();
        let unused = layers.values().filter(|(_, is_used)| !is_used);
        usage.reclaimable = unused.map(|(size, _)| size).sum();
        Ok(usage)
    }
}

/// Adds up the files below a directory; several names of one file count once, and holes nothing. Containers may change it
/// meanwhile: links are not followed, and what cannot be reached (any more, or by a path that is too long) is not counted.
pub(crate) fn size_of(directory: &Path, seen: &mut HashSet<u64>) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(directory, flags, Mode::empty()) else {
        return 0;
    };
    let mut size = 0;
    let mut left = vec![b".".to_vec()];
    while let Some(path) = left.pop() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(opened) = open_resolved(&root, &*path, flags, resolve) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&opened) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => left.push([&path, &b"/"[..], name.to_bytes()].concat()),
                FileType::RegularFile if stat.st_nlink == 1 || seen.insert(stat.st_ino) => {
                    size += taken(&stat);
                }
                _ => {}
            }
        }
    }
    size
}

/// Returns the bytes of /etc/hostname in an upper.
fn size_of_hostname(upper: &Path) -> u64 {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let stat = rustix::fs::open(upper, flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|root| open_resolved(&root, "etc/hostname", flags, resolve))
        .and_then(|file| Ok(rustix::fs::fstat(file)?));
    match stat {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => taken(&stat),
        _ => 0,
    }
}

/// Returns the bytes of a file, or those of its blocks if there are holes.
fn taken(stat: &Stat) -> u64 {
    const BLOCK: u64 = 512;
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    number(stat.st_size).min(number(stat.st_blocks) * BLOCK)
}
