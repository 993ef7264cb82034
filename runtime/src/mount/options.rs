//! The options of a union of plain directories, in the words of overlayfs (`overlayfs.rst`), fuse-overlayfs
//! (`fuse-overlayfs(1)`) and `mount(8)`.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use layerfs::fuse::IdMap;
use layerfs::fuse::IdRange;
use layerfs::fuse::MountOptions;

/// What is wrong with a list of options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Nothing goes by that name.
    #[error("unknown mount option: {0}")]
    Unknown(String),
    /// An option has a value that it cannot have, or none.
    #[error("invalid value {value:?} of mount option {name}: {reason}")]
    Value {
        /// The option.
        name: String,
        /// What it was given.
        value: String,
        /// What it wants.
        reason: &'static str,
    },
    /// An option that must be there is not.
    #[error("mount option {0} is missing")]
    Missing(&'static str),
}

/// A union of plain directories, as it was asked for.
#[derive(Clone, Debug)]
pub struct UnionOptions {
    /// The lower layers, highest first.
    pub lower: Vec<PathBuf>,
    /// The writable layer; without one nothing can be changed.
    pub upper: Option<PathBuf>,
    /// The work directory beside it.
    pub work: Option<PathBuf>,
    /// A change of a file's metadata leaves its data in the lower layer.
    pub metacopy: bool,
    /// Directories that lower layers have can be renamed.
    pub redirects: bool,
    /// Marks are attributes of users.
    pub user_attributes: bool,
    /// The rest.
    pub mount: MountOptions,
}

impl Default for UnionOptions {
    fn default() -> UnionOptions {
        UnionOptions {
            lower: Vec::new(),
            upper: None,
            work: None,
            metacopy: false,
            redirects: false,
            user_attributes: false,
            mount: MountOptions {
                source: "layerfs".to_owned(),
                subtype: "layerfs",
                setuid: true,
                devices: true,
                ..MountOptions::default()
            },
        }
    }
}

/// Words that say what is so anyway, or what this filesystem has no need to be told.
const WITHOUT_MEANING: [&str; 34] = [
    "defaults",
    "rw",
    "exec",
    "async",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nofail",
    "_netdev",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "allow_other",
    "allow_root",
    "default_permissions",
    "nonempty",
    "static_nlink",
    "clone_fd",
    "acl",
    "debug",
    "threaded",
];

impl UnionOptions {
    /// Reads lists of options with commas between them; a backslash takes a comma's, a colon's or a backslash's meaning.
    pub fn parse<'a>(
        lists: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<UnionOptions, OptionsError> {
        let mut options = UnionOptions::default();
        for list in lists {
            for option in split(list.as_bytes(), b',') {
                options.read(&option)?;
            }
        }
        if options.lower.is_empty() {
            return Err(OptionsError::Missing("lowerdir"));
        }
        if options.upper.is_some() && options.work.is_none() {
            return Err(OptionsError::Missing("workdir"));
        }
        Ok(options)
    }

    fn read(&mut self, option: &[u8]) -> Result<(), OptionsError> {
        let (name, value) = match option.iter().position(|&byte| byte == b'=') {
            Some(at) => (&option[..at], Some(&option[at + 1..])),
            None => (option, None),
        };
        let name = String::from_utf8_lossy(name).trim().to_owned();
        match value {
            None => self.read_word(&name),
            Some(value) => self.read_value(&name, value),
        }
    }

    fn read_word(&mut self, word: &str) -> Result<(), OptionsError> {
        let mount = &mut self.mount;
        match word {
            "" => {}
            "ro" => mount.read_only = true,
            "suid" => mount.setuid = true,
            "nosuid" => mount.setuid = false,
            "dev" => mount.devices = true,
            "nodev" => mount.devices = false,
            "noexec" => mount.noexec = true,
            "noacl" => mount.acl = false,
            "volatile" => mount.durable = false,
            "userxattr" => self.user_attributes = true,
            "squash_to_root" => {
                mount.owners.users = IdMap::Squashed(0);
                mount.owners.groups = IdMap::Squashed(0);
            }
            known if WITHOUT_MEANING.contains(&known) => {}
            // For programs that read the mount table (mount(8), "x-*").
            comment if comment.starts_with("x-") || comment.starts_with("X-") => {}
            known if VALUES.contains(&known) => return Err(invalid(known, "", "it needs a value")),
            unknown => return Err(OptionsError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }

    fn read_value(&mut self, name: &str, bytes: &[u8]) -> Result<(), OptionsError> {
        let value = String::from_utf8_lossy(bytes).into_owned();
        let path = || PathBuf::from(OsString::from_vec(unescaped(bytes)));
        let mount = &mut self.mount;
        match name {
            "lowerdir" => self.lower = directories(name, bytes)?,
            "lowerdir+" => self.lower.push(path()),
            "upperdir" => self.upper = Some(path()),
            "workdir" => self.work = Some(path()),
            "uidmapping" => mount.owners.users = IdMap::Ranges(ranges(name, &value)?),
            "gidmapping" => mount.owners.groups = IdMap::Ranges(ranges(name, &value)?),
            "squash_to_uid" => mount.owners.users = IdMap::Squashed(number(name, &value)?),
            "squash_to_gid" => mount.owners.groups = IdMap::Squashed(number(name, &value)?),
            "fsync" => mount.durable = one_of(name, &value, &[("0", false), ("1", true)])?,
            "metacopy" => self.metacopy = one_of(name, &value, &ON_OR_OFF)?,
            "redirect_dir" => {
                self.redirects = one_of(
                    name,
                    &value,
                    &[
                        ("on", true),
                        ("off", false),
                        ("follow", false),
                        ("nofollow", false),
                    ],
                )?;
            }
            "xino" => {
                one_of(name, &value, &[("on", ()), ("off", ()), ("auto", ())])?;
            }
            "index" | "nfs_export" => {
                one_of(name, &value, &ON_OR_OFF)?;
            }
            "uuid" => {
                one_of(
                    name,
                    &value,
                    &[("on", ()), ("off", ()), ("auto", ()), ("null", ())],
                )?;
            }
            "fsname" => mount.source = value,
            "context" => mount.context = Some(value.trim_matches('"').to_owned()),
            "timeout" | "writeback" | "threaded" | "max_threads" | "max_idle_threads"
            | "comment" | "subtype" => {}
            comment if comment.starts_with("x-") || comment.starts_with("X-") => {}
            unknown => return Err(OptionsError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }
}

/// The options that have a value.
const VALUES: [&str; 14] = [
    "lowerdir",
    "lowerdir+",
    "upperdir",
    "workdir",
    "uidmapping",
    "gidmapping",
    "squash_to_uid",
    "squash_to_gid",
    "fsync",
    "metacopy",
    "redirect_dir",
    "xino",
    "fsname",
    "context",
];

const ON_OR_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];

fn invalid(name: &str, value: &str, reason: &'static str) -> OptionsError {
    OptionsError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        reason,
    }
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, OptionsError> {
    let found = known.iter().find(|(word, _)| *word == value);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| invalid(name, value, "no such choice"))
}

fn number(name: &str, value: &str) -> Result<u32, OptionsError> {
    value
        .parse()
        .map_err(|_| invalid(name, value, "not a number of 32 bits"))
}

/// Reads `0:1000:1:1:100000:65536`: the first number shown, the first one stored and how many, again and again.
fn ranges(name: &str, value: &str) -> Result<Vec<IdRange>, OptionsError> {
    let numbers = value.split(':').map(|part| number(name, part));
    let numbers: Vec<u32> = numbers.collect::<Result<_, _>>()?;
    if !numbers.len().is_multiple_of(3) {
        return Err(invalid(name, value, "not triples of numbers"));
    }
    let range = |triple: &[u32]| IdRange {
        shown: triple[0],
        stored: triple[1],
        count: triple[2],
    };
    Ok(numbers.chunks_exact(3).map(range).collect())
}

fn directories(name: &str, value: &[u8]) -> Result<Vec<PathBuf>, OptionsError> {
    let shown = || String::from_utf8_lossy(value).into_owned();
    let parts = split(value, b':');
    if parts.iter().any(Vec::is_empty) {
        return Err(invalid(name, &shown(), "a directory without a name"));
    }
    let paths = parts.iter().map(|part| unescaped(part));
    Ok(paths
        .map(|path| PathBuf::from(OsString::from_vec(path)))
        .collect())
}

/// Splits at a byte that has no backslash before it and is not between double quotes; what is escaped stays so, but for
/// the separator itself.
fn split(list: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let (mut is_escaped, mut is_quoted) = (false, false);
    for &byte in list {
        let last = parts.len() - 1;
        let part = &mut parts[last];
        match byte {
            _ if is_escaped => {
                if byte != separator {
                    part.push(b'\\');
                }
                part.push(byte);
                is_escaped = false;
            }
            b'\\' => is_escaped = true,
            b'"' => {
                is_quoted = !is_quoted;
                part.push(byte);
            }
            byte if byte == separator && !is_quoted => parts.push(Vec::new()),
            byte => part.push(byte),
        }
    }
    if is_escaped {
        let last = parts.len() - 1;
        parts[last].push(b'\\');
    }
    parts
}

/// Takes the backslashes away that keep a colon or a backslash from its meaning.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&&next)) if next == b':' || next == b'\\' => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<UnionOptions, OptionsError> {
        UnionOptions::parse([OsStr::new(list)])
    }

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn directories_are_separated_by_colons_and_options_by_commas() {
        let options = parse("lowerdir=/a:b/c,upperdir=/u,workdir=/w").unwrap();
        assert_eq!(options.lower, paths(&["/a", "b/c"]));
        assert_eq!(options.upper, Some("/u".into()));
        assert_eq!(options.work, Some("/w".into()));
        assert!(!options.metacopy && !options.redirects && options.mount.durable);
    }

    #[test]
    fn a_backslash_keeps_colons_and_commas_in_a_path() {
        let options = parse(r"lowerdir=/a\:b:/c\,d:/e\\f,upperdir=/u\:1,workdir=/w").unwrap();
        assert_eq!(options.lower, paths(&["/a:b", "/c,d", r"/e\f"]));
        assert_eq!(options.upper, Some("/u:1".into()));
    }

    #[test]
    fn a_quoted_context_keeps_its_commas() {
        let options = parse(r#"lowerdir=/a,context="system_u:object_r:x:s0:c1,c2",ro"#).unwrap();
        let label = options.mount.context.as_deref();
        assert_eq!(label, Some("system_u:object_r:x:s0:c1,c2"));
        assert!(options.mount.read_only);
    }

    #[test]
    fn numbers_are_mapped_by_triples() {
        let options = parse("lowerdir=/a,uidmapping=0:1000:1:1:100000:65536").unwrap();
        let range = |shown, stored, count| IdRange {
            shown,
            stored,
            count,
        };
        let wanted = IdMap::Ranges(vec![range(0, 1000, 1), range(1, 100_000, 65536)]);
        assert_eq!(options.mount.owners.users, wanted);
        assert_eq!(options.mount.owners.groups, IdMap::Same);
    }

    #[test]
    fn the_culprit_is_named() {
        for (list, words) in [
            ("upperdir=/u", "mount option lowerdir is missing"),
            ("lowerdir=/a,upperdir=/u", "mount option workdir is missing"),
            ("lowerdir=/a,frobnicate", "unknown mount option: frobnicate"),
            ("lowerdir=/a,frob=1", "unknown mount option: frob"),
            (
                "lowerdir=/a,metacopy=maybe",
                "invalid value \"maybe\" of mount option metacopy: no such choice",
            ),
            (
                "lowerdir=/a::/b",
                "invalid value \"/a::/b\" of mount option lowerdir: a directory without a name",
            ),
            (
                "lowerdir=/a,uidmapping=0:1",
                "invalid value \"0:1\" of mount option uidmapping: not triples of numbers",
            ),
            (
                "lowerdir=/a,squash_to_uid=-1",
                "invalid value \"-1\" of mount option squash_to_uid: not a number of 32 bits",
            ),
            (
                "lowerdir",
                "invalid value \"\" of mount option lowerdir: it needs a value",
            ),
        ] {
            assert_eq!(parse(list).unwrap_err().to_string(), words, "{list}");
        }
    }
}
