//! Who the command runs as, by the container's own /etc/passwd and /etc/group.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// A user as the kernel and the command's environment know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The supplementary groups; the primary group is always one (CVE-2022-36109).
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// A name that the files do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnknownIdentity {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
}

/// The most that is read of either file.
const LONGEST: u64 = 4 << 20;

/// Reads a file of the container's (the calling process is in its root); one that is not there, or that is no plain
/// file and might never end, is empty.
pub(super) fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        let _ = file.take(LONGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Finds who `user[:group]` is; numbers need no entry.
pub(super) fn resolve(
    spec: &str,
    add: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, UnknownIdentity> {
    let (user, primary) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| {
            fields.len() >= 4 && (fields[0] == user || (is_number(user) && fields[2] == user))
        });
    let (name, uid, mut gid, home) = match &entry {
        Some(fields) => (
            fields[0],
            fields[2]
                .parse()
                .map_err(|_| UnknownIdentity::User(user.to_owned()))?,
            fields[3].parse().unwrap_or(0),
            fields.get(5).copied().unwrap_or("/"),
        ),
        None => {
            let uid = user
                .parse()
                .map_err(|_| UnknownIdentity::User(user.to_owned()))?;
            ("", uid, 0, "/")
        }
    };
    let mut groups = Vec::new();
    match primary {
        Some(primary) => gid = find_group(primary, group)?,
        // The user's own groups count only where no group was named.
        None if !name.is_empty() => groups.extend(groups_of(name, group)),
        None => {}
    }
    groups.insert(0, gid);
    for name in add {
        groups.push(find_group(name, group)?);
    }
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn find_group(name: &str, group: &str) -> Result<u32, UnknownIdentity> {
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && fields[0] == name)
        .and_then(|fields| fields[2].parse().ok())
        .or_else(|| name.parse().ok())
        .ok_or_else(|| UnknownIdentity::Group(name.to_owned()))
}

fn groups_of<'a>(user: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    group.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let members = fields.get(3)?;
        members
            .split(',')
            .any(|member| member == user)
            .then(|| fields[2].parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\nbroken\n77:x:5:6::/odd:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nssl:x:101:web,root\naudio:x:29:web\n";

    fn of(spec: &str) -> Result<Identity, UnknownIdentity> {
        resolve(spec, &[], PASSWD, GROUP)
    }

    #[test]
    fn no_user_is_root_with_root_s_groups() {
        let root = of("").expect("root");
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.groups, [0, 101]);
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let web = of("web").expect("web");
        assert_eq!((web.uid, web.gid, web.home.as_str()), (33, 33, "/var/www"));
        assert_eq!(web.groups, [33, 101, 29]);
        assert_eq!(of("33"), of("web"));
    }

    #[test]
    fn a_named_group_replaces_the_user_s_own() {
        let web = of("web:ssl").expect("web");
        assert_eq!((web.gid, web.groups), (101, vec![101]));
        assert_eq!(of("web:7").expect("web").gid, 7);
    }

    #[test]
    fn a_number_needs_no_entry_but_a_name_does() {
        let odd = of("1234").expect("a number");
        assert_eq!((odd.uid, odd.gid, odd.home.as_str()), (1234, 0, "/"));
        assert_eq!(
            of("nosuchuser").expect_err("no such user").to_string(),
            "unable to find user nosuchuser: no matching entries in passwd file"
        );
        assert_eq!(
            of("web:nosuch").expect_err("no such group").to_string(),
            "unable to find group nosuch: no matching entries in group file"
        );
    }

    #[test]
    fn added_groups_come_last_and_once() {
        let add = ["audio".to_owned(), "7".to_owned(), "ssl".to_owned()];
        let web = resolve("web", &add, PASSWD, GROUP).expect("web");
        assert_eq!(web.groups, [33, 101, 29, 7]);
    }
}
