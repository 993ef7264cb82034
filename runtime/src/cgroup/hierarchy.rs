//! Where the host mounts its cgroup hierarchies.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The mount points of the host's hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Of v2.
    pub(super) unified: Option<PathBuf>,
    /// Of v1, by controller; several may share one.
    pub(super) v1: BTreeMap<String, PathBuf>,
}

impl Hierarchies {
    /// Reads the calling process's mounts.
    pub(super) fn of_host() -> Hierarchies {
        Hierarchies::parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
    }

    /// Returns the groups that container `id` has.
    pub(super) fn groups(&self, id: &str) -> impl Iterator<Item = PathBuf> {
        let roots = self.unified.iter().chain(self.v1.values());
        roots.filter_map(move |root| group(root, id))
    }

    /// Returns the container's group of a v1 controller, if it has one.
    pub(super) fn v1_group(&self, controller: &str, id: &str) -> Option<PathBuf> {
        group(self.v1.get(controller)?, id)
    }

    /// Returns the container's group of v2, if it has one.
    pub(super) fn unified_group(&self, id: &str) -> Option<PathBuf> {
        group(self.unified.as_ref()?, id)
    }

    fn parse(mounts: &str) -> Hierarchies {
        const CONTROLLERS: [&str; 9] = [
            "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids",
        ];
        let mut found = Hierarchies::default();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let &[_, target, kind, options, ..] = fields.as_slice() else {
                continue;
            };
            match kind {
                "cgroup2" if found.unified.is_none() => found.unified = Some(target.into()),
                "cgroup" => {
                    for option in options.split(',').filter(|name| CONTROLLERS.contains(name)) {
                        found
                            .v1
                            .entry(option.to_owned())
                            .or_insert_with(|| target.into());
                    }
                }
                _ => {}
            }
        }
        found
    }
}

fn group(root: &Path, id: &str) -> Option<PathBuf> {
    Some(root.join(super::PARENT).join(id)).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_on_v1_beside_an_empty_v2_are_all_found() {
        let found = Hierarchies::parse(
            "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n",
        );
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(found.v1.len(), 2);
        assert_eq!(
            found.v1["cpuacct"],
            PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")
        );
    }

    #[test]
    fn a_unified_host_has_no_v1() {
        let found = Hierarchies::parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(found.unified, Some("/sys/fs/cgroup".into()));
        assert!(found.v1.is_empty());
    }
}
