//! `RUN --mount=`: kept as it was written until its step, since its values may hold variables.

use super::ExpandError;
use super::Mistake;
use super::expand;
use super::expand::Lookup;

/// A `--mount` as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    text: String,
}

/// A `--mount` whose variables have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// What is mounted.
    pub kind: RunMountKind,
    /// Where, if it is said; a secret is at `/run/secrets/<id>` and an agent at `/run/buildkit/ssh_agent.0` by default.
    pub target: Option<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMountKind {
    /// A directory or file of the context, a stage or an image.
    Bind {
        /// The stage, image or named context; without it the build's context.
        from: Option<String>,
        /// The path within; without it the root.
        source: Option<String>,
        /// Whether it may be written; what is written is lost.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Which one; by default the target.
        id: Option<String>,
        /// Where its first contents come from.
        from: Option<String>,
        /// The path within `from`.
        source: Option<String>,
        /// Whether it may only be read.
        read_only: bool,
        /// Who else may have it meanwhile.
        sharing: CacheSharing,
        /// The mode it is made with; 755.
        mode: Option<u32>,
        /// The owner it is made with; 0.
        uid: Option<u32>,
        /// The group it is made with; 0.
        gid: Option<u32>,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes.
        size: Option<u64>,
    },
    /// A file that is in no layer.
    Secret {
        /// Which one of the build's; by default the target's last component.
        id: Option<String>,
        /// The variable that holds it, instead of or beside the file.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// The file's mode; 400.
        mode: Option<u32>,
        /// The file's owner; 0.
        uid: Option<u32>,
        /// The file's group; 0.
        gid: Option<u32>,
    },
    /// A socket of an agent.
    Ssh {
        /// Which one of the build's; `default`.
        id: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// The socket's mode; 600.
        mode: Option<u32>,
        /// The socket's owner; 0.
        uid: Option<u32>,
        /// The socket's group; 0.
        gid: Option<u32>,
    },
}

/// Who may have a cache's directory at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All at once.
    #[default]
    Shared,
    /// One; another one gets a new directory.
    Private,
    /// One; another one waits.
    Locked,
}

/// What is wrong with a `--mount` whose variables have values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// A variable in it.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// Its form.
    #[error(transparent)]
    Mistake(#[from] Mistake),
}

/// The fields of a mount, by name, each at most once.
struct Fields<'a> {
    kind: &'a str,
    fields: Vec<(String, Option<String>)>,
}

impl MountFlag {
    /// Keeps what was written; what is wrong whatever the variables' values is said at once.
    pub(super) fn new(text: String) -> Result<MountFlag, Mistake> {
        let flag = MountFlag { text };
        if !flag.text.contains('$') {
            flag.read(&|value: &str| Ok(value.to_owned()))
                .map_err(|error| match error {
                    MountError::Mistake(mistake) => mistake,
                    MountError::Expand(error) => Mistake::Word(error),
                })?;
        }
        Ok(flag)
    }

    /// Returns what was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Gives the variables in it their values.
    pub fn expand(&self, escape: char, lookup: Lookup<'_>) -> Result<RunMount, MountError> {
        self.read(&|value: &str| expand::word(value, escape, lookup))
    }

    fn read(
        &self,
        value: &dyn Fn(&str) -> Result<String, ExpandError>,
    ) -> Result<RunMount, MountError> {
        let mut fields = Vec::new();
        for field in split_fields(&self.text) {
            let (name, written) = match field.split_once('=') {
                Some((name, written)) => (name, Some(value(written)?)),
                None => (field.as_str(), None),
            };
            let name = match name.trim().to_ascii_lowercase().as_str() {
                "src" => "source".to_owned(),
                "dst" | "destination" => "target".to_owned(),
                "ro" => "readonly".to_owned(),
                "rw" => "readwrite".to_owned(),
                other => other.to_owned(),
            };
            let is_flag = matches!(name.as_str(), "readonly" | "readwrite" | "required");
            if written.is_none() && !is_flag {
                let words = format!("invalid field '{field}' must be a key=value pair");
                return Err(Mistake::Mount(words).into());
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Mistake::Mount(format!("duplicate key '{name}' in mount")).into());
            }
            fields.push((name, written));
        }
        Ok(mount(fields)?)
    }
}

/// Splits at commas outside of double quotes (RFC 4180).
fn split_fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is always one").push(other),
        }
    }
    fields
}

/// Makes a mount of its fields.
fn mount(mut fields: Vec<(String, Option<String>)>) -> Result<RunMount, Mistake> {
    let position = fields.iter().position(|(name, _)| name == "type");
    let kind = position.and_then(|position| fields.swap_remove(position).1);
    let kind = kind.unwrap_or_else(|| "bind".to_owned());
    let mut fields = Fields {
        kind: &kind,
        fields,
    };
    let target = fields.text("target");
    let mount = match kind.as_str() {
        "bind" => RunMountKind::Bind {
            from: fields.text("from"),
            source: fields.text("source"),
            writable: fields.writable()?.unwrap_or_default(),
        },
        "cache" => RunMountKind::Cache {
            id: fields.text("id"),
            from: fields.text("from"),
            source: fields.text("source"),
            read_only: !fields.writable()?.unwrap_or(true),
            sharing: fields.sharing()?,
            mode: fields.mode()?,
            uid: fields.number("uid")?,
            gid: fields.number("gid")?,
        },
        "tmpfs" => RunMountKind::Tmpfs {
            size: fields.size()?,
        },
        "secret" => RunMountKind::Secret {
            id: fields.text("id").or_else(|| fields.text("source")),
            env: fields.text("env"),
            required: fields.flag("required")?.unwrap_or_default(),
            mode: fields.mode()?,
            uid: fields.number("uid")?,
            gid: fields.number("gid")?,
        },
        "ssh" => RunMountKind::Ssh {
            id: fields.text("id"),
            required: fields.flag("required")?.unwrap_or_default(),
            mode: fields.mode()?,
            uid: fields.number("uid")?,
            gid: fields.number("gid")?,
        },
        other => return Err(Mistake::Mount(format!("unsupported mount type {other:?}"))),
    };
    fields.finish()?;
    let needs_target = match &mount {
        RunMountKind::Bind { .. } | RunMountKind::Cache { .. } | RunMountKind::Tmpfs { .. } => true,
        RunMountKind::Secret { id, .. } => id.is_none(),
        RunMountKind::Ssh { .. } => false,
    };
    match needs_target && target.is_none() {
        true => Err(Mistake::Mount(format!("{kind} mount needs a target"))),
        false => Ok(RunMount {
            kind: mount,
            target,
        }),
    }
}

impl Fields<'_> {
    fn take(&mut self, name: &str) -> Option<Option<String>> {
        let position = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(position).1)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).flatten().filter(|text| !text.is_empty())
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Mistake> {
        match self.take(name) {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(invalid(name, &value)),
            },
        }
    }

    fn writable(&mut self) -> Result<Option<bool>, Mistake> {
        let read_only = self.flag("readonly")?;
        let read_write = self.flag("readwrite")?;
        Ok(read_write.or(read_only.map(|read_only| !read_only)))
    }

    fn number(&mut self, name: &str) -> Result<Option<u32>, Mistake> {
        let text = self.text(name);
        let number = |text: String| text.parse().map_err(|_| invalid(name, &text));
        text.map(number).transpose()
    }

    fn mode(&mut self) -> Result<Option<u32>, Mistake> {
        let mode = |text: String| match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(mode),
            _ => Err(invalid("mode", &text)),
        };
        self.text("mode").map(mode).transpose()
    }

    fn sharing(&mut self) -> Result<CacheSharing, Mistake> {
        match self.text("sharing").as_deref() {
            None | Some("shared") => Ok(CacheSharing::Shared),
            Some("private") => Ok(CacheSharing::Private),
            Some("locked") => Ok(CacheSharing::Locked),
            Some(other) => Err(Mistake::Mount(format!(
                "unsupported sharing value {other:?}"
            ))),
        }
    }

    /// Reads bytes, with a unit as `docker run --memory` takes it.
    fn size(&mut self) -> Result<Option<u64>, Mistake> {
        let size = |text: String| {
            let lower = text.to_ascii_lowercase();
            let digits = lower.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
            let shift = match lower[digits.len()..].trim_end_matches('b') {
                "" => Some(0),
                "k" => Some(10),
                "m" => Some(20),
                "g" => Some(30),
                "t" => Some(40),
                _ => None,
            };
            let number: Option<u64> = digits.parse().ok();
            let size = number
                .zip(shift)
                .and_then(|(number, shift)| number.checked_mul(1 << shift));
            size.ok_or_else(|| invalid("size", &text))
        };
        self.text("size").map(size).transpose()
    }

    /// Refuses what nobody has taken.
    fn finish(self) -> Result<(), Mistake> {
        match self.fields.into_iter().next() {
            Some((name, _)) => {
                let kind = self.kind;
                let words = format!("unexpected key '{name}' for mount type '{kind}'");
                Err(Mistake::Mount(words))
            }
            None => Ok(()),
        }
    }
}

fn invalid(name: &str, value: &str) -> Mistake {
    Mistake::Mount(format!("invalid value for {name}: {value}"))
}
