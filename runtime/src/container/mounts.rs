//! What a container has mounted: `--mount`, `--volume`, `--volumes-from`, `--tmpfs` and the image's volumes, by
//! Docker's rules.
//!
//! What is written is first read into a [`MountSpec`], then checked as a whole. Of several on one place, a volume of
//! the image gives way to all, what another container has to whatever was asked for; two of the others are an error.

use std::collections::BTreeMap;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::Container;
use super::ContainerError;
use super::CreateOptions;
use crate::Engine;
use crate::image::Image;
use crate::sandbox::Bind;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::sandbox::Propagation;
use crate::sandbox::Recursion;
use crate::sandbox::VolumeMount;
use crate::volume;
use crate::volume::VolumeOptions;

/// A mount as it was asked for, not yet checked: Docker's `Mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSpec {
    /// `bind`, `volume`, `tmpfs`.
    pub kind: String,
    /// The host's path, or the volume's name; nothing for a volume without a name.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// How mounts propagate, of a `bind`; nothing is `rprivate`.
    pub propagation: String,
    /// What becomes of what is mounted below, of a `bind`.
    pub recursion: Recursion,
    /// Whether a directory is made if there is none, of a `bind`.
    pub create_source: bool,
    /// Whether a `volume` stays empty if it is.
    pub no_copy: bool,
    /// The part of a `volume` that is shown; nothing is all.
    pub subpath: String,
    /// A `volume`'s driver, if it is made.
    pub driver: String,
    /// Its driver's options then.
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels then.
    pub labels: BTreeMap<String, String>,
    /// Options of a `tmpfs`.
    pub tmpfs: Vec<String>,
    /// How it was written: `ro,z`.
    pub mode: String,
    /// Whether the `volume` is an anonymous one of a container that this one replaces: it goes with this one then.
    pub inherited: bool,
}

/// Returns whether a path is relative and none of its `..` leads out, as it is written.
fn is_within(path: &str) -> bool {
    let mut depth = 0_usize;
    for component in Path::new(path).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

impl MountSpec {
    /// Checks the whole; whether a source is there is another matter.
    fn mount(&self) -> Result<Mount, String> {
        let kind = &self.kind;
        self.checked()
            .map_err(|why| format!("invalid mount config for type {kind:?}: {why}"))
    }

    fn checked(&self) -> Result<Mount, String> {
        let source = match self.kind.as_str() {
            "bind" | "volume" | "tmpfs" if self.target.is_empty() => {
                return Err("field Target must not be empty".to_owned());
            }
            "bind" => MountSource::Bind(self.bind()?),
            "volume" => MountSource::Volume(self.volume()?),
            "tmpfs" if !self.source.is_empty() => {
                return Err("field Source must not be specified".to_owned());
            }
            "tmpfs" => MountSource::Tmpfs(self.tmpfs.join(",")),
            _ => return Err("mount type unknown".to_owned()),
        };
        Ok(Mount {
            source,
            target: clean_target(&self.target)?,
            read_only: self.read_only,
            mode: self.mode.clone(),
        })
    }

    fn bind(&self) -> Result<Bind, String> {
        if self.source.is_empty() {
            return Err("field Source must not be empty".to_owned());
        }
        if !self.source.starts_with('/') {
            return Err(not_absolute(&self.source));
        }
        let propagation = match self.propagation.as_str() {
            "" => Propagation::default(),
            word => Propagation::parse(word)
                .ok_or_else(|| format!("invalid propagation mode: {word}"))?,
        };
        Ok(Bind {
            path: PathBuf::from(&self.source),
            propagation,
            recursion: self.recursion,
            create: self.create_source,
        })
    }

    fn volume(&self) -> Result<VolumeMount, String> {
        let subpath = Some(&self.subpath).filter(|path| !path.is_empty());
        if subpath.is_some_and(|path| !is_within(path)) {
            return Err("subpath must be a relative path within the volume".to_owned());
        }
        let mut labels = self.labels.clone();
        if self.source.is_empty() {
            labels.insert(volume::ANONYMOUS_LABEL.to_owned(), String::new());
        }
        Ok(VolumeMount {
            name: match self.source.as_str() {
                "" => volume::anonymous_name(),
                name => name.to_owned(),
            },
            anonymous: self.source.is_empty() || self.inherited,
            no_copy: self.no_copy,
            subpath: subpath.map(PathBuf::from),
            driver_opts: self.driver_opts.clone(),
            labels,
        })
    }

    /// Refuses a volume that cannot be made.
    fn check_volume(&self) -> Result<(), ContainerError> {
        if self.kind == "volume" && !self.source.is_empty() {
            let options = VolumeOptions {
                name: None,
                driver: self.driver.clone(),
                driver_opts: self.driver_opts.clone(),
                labels: BTreeMap::new(),
            };
            volume::check_options(&self.source, &options)?;
        }
        Ok(())
    }
}

fn not_absolute(path: &str) -> String {
    format!("invalid mount path: '{path}' mount path must be absolute")
}

/// Returns the target without `.`, `..` and double slashes.
fn clean_target(target: &str) -> Result<PathBuf, String> {
    if !target.starts_with('/') {
        return Err(not_absolute(target));
    }
    let clean = cleaned(target);
    match clean.parent() {
        Some(_) => Ok(clean),
        None => Err("invalid specification: destination can't be '/'".to_owned()),
    }
}

fn cleaned(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Reads `--mount`'s argument: `type=bind,source=/a,target=/b,readonly`.
pub fn parse_mount(text: &str) -> Result<MountSpec, String> {
    let mut spec = MountSpec {
        kind: "volume".to_owned(),
        ..MountSpec::default()
    };
    let mut groups: Vec<&str> = Vec::new();
    for field in csv_fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let of_kind = ["bind-", "volume-", "tmpfs-"];
        groups.extend(of_kind.iter().filter(|it| key.starts_with(**it)));
        read_field(&mut spec, &field, &key, value)?;
    }
    if spec.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let own = format!("{}-", spec.kind);
    if let Some(group) = groups.into_iter().find(|group| *group != own) {
        let kind = &spec.kind;
        return Err(format!(
            "cannot mix '{group}*' options with mount type '{kind}'"
        ));
    }
    let requires = |what: &str| {
        let recursion = match spec.recursion {
            Recursion::Writable => "writable",
            _ => "readonly",
        };
        Err(format!(
            "option 'bind-recursive={recursion}' requires '{what}' to be specified in conjunction"
        ))
    };
    match spec.recursion {
        Recursion::Writable | Recursion::Readonly if !spec.read_only => requires("readonly"),
        Recursion::Readonly if spec.propagation != "rprivate" => {
            requires("bind-propagation=rprivate")
        }
        _ => Ok(spec),
    }
}

fn read_field(
    spec: &mut MountSpec,
    field: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let invalid = |value: &str| format!("invalid value for {key}: {value}");
    let switch = || match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(invalid(value)),
    };
    match key {
        "readonly" | "ro" => {
            spec.read_only = switch()?;
            return Ok(());
        }
        "volume-nocopy" => {
            spec.no_copy = switch()?;
            return Ok(());
        }
        "bind-nonrecursive" => {
            spec.recursion = match switch()? {
                true => Recursion::Disabled,
                false => Recursion::Enabled,
            };
            return Ok(());
        }
        _ => {}
    }
    let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
    let pair = || {
        let (name, value) = value.split_once('=').unwrap_or((value, ""));
        (name.to_owned(), value.to_owned())
    };
    match key {
        "type" => spec.kind = value.to_ascii_lowercase(),
        "source" | "src" => spec.source = value.to_owned(),
        "target" | "dst" | "destination" => spec.target = value.to_owned(),
        "consistency" => {}
        "bind-propagation" => spec.propagation = value.to_owned(),
        "bind-recursive" => {
            spec.recursion = match value {
                "enabled" => Recursion::Enabled,
                "disabled" => Recursion::Disabled,
                "writable" => Recursion::Writable,
                "readonly" => Recursion::Readonly,
                _ => {
                    return Err(format!(
                        "{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                        invalid(value)
                    ));
                }
            };
        }
        "volume-subpath" => spec.subpath = value.to_owned(),
        "volume-driver" => spec.driver = value.to_owned(),
        "volume-opt" => spec.driver_opts.extend([pair()]),
        "volume-label" => spec.labels.extend([pair()]),
        "tmpfs-size" => {
            let size = crate::byte_size::parse(value).ok_or_else(|| invalid(value))?;
            spec.tmpfs.push(format!("size={size}"));
        }
        "tmpfs-mode" => {
            u32::from_str_radix(value, 8).map_err(|_| invalid(value))?;
            spec.tmpfs.push(format!("mode={value}"));
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// Splits at commas; a field in double quotes may contain some, and two double quotes for one.
fn csv_fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (part, after) = rest
                    .split_once('"')
                    .ok_or_else(|| format!("a quote is not closed in '{text}'"))?;
                field.push_str(part);
                rest = match after.strip_prefix('"') {
                    Some(after) => after,
                    None => {
                        rest = after;
                        break;
                    }
                };
                field.push('"');
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(format!("a quote within a field in '{text}'"));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Reads `--volume`'s argument: `target`, or `source:target[:mode]`.
fn parse_volume(text: &str, driver: &str) -> Result<MountSpec, ContainerError> {
    let invalid = |words: String| Err(ContainerError::Invalid(words));
    let fields: Vec<&str> = text.split(':').collect();
    if text.is_empty() {
        return invalid("invalid empty volume spec".to_owned());
    }
    if fields.len() > 3 {
        return invalid(format!("invalid volume specification: '{text}'"));
    }
    if fields.iter().any(|field| field.is_empty()) {
        return invalid(format!(
            "invalid spec: {text}: empty section between colons"
        ));
    }
    let mut spec = MountSpec::default();
    match fields.as_slice() {
        // A relative place is the root's.
        [target] => spec.target = format!("/{target}"),
        [source, target, mode @ ..] => {
            spec.source = (*source).to_owned();
            spec.target = (*target).to_owned();
            spec.mode = mode.first().map_or("", |mode| *mode).to_owned();
        }
        [] => {}
    }
    if fields.len() == 1 && clean_target(&spec.target).is_err() {
        return invalid(format!(
            "invalid volume specification: '{text}': destination can't be '/'"
        ));
    }
    spec.kind = match spec.source.starts_with('/') {
        true => "bind".to_owned(),
        false => "volume".to_owned(),
    };
    if spec.kind == "volume" {
        spec.driver = driver.to_owned();
    }
    spec.create_source = true;
    read_mode(&mut spec).map_err(|why| {
        ContainerError::Invalid(match why {
            BadMode::Word => format!("invalid mode: {}", spec.mode),
            BadMode::Field(field) => format!(
                "invalid volume specification: '{text}': invalid mount config for type {:?}: field {field} must not be \
                 specified",
                spec.kind
            ),
        })
    })?;
    Ok(spec)
}

/// What is wrong with a mode: a word, or a field that mounts of its kind do not have.
enum BadMode {
    Word,
    Field(&'static str),
}

/// Reads the words of a mode, each kind of them once at most.
fn read_mode(spec: &mut MountSpec) -> Result<(), BadMode> {
    let (mut access, mut label, mut propagation, mut copy) = (0, 0, 0, 0);
    for word in spec.mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" | "rw" => {
                access += 1;
                spec.read_only = word == "ro";
            }
            "z" | "Z" => label += 1,
            "nocopy" => {
                copy += 1;
                spec.no_copy = true;
            }
            "consistent" | "cached" | "delegated" => {}
            word if Propagation::parse(word).is_some() => {
                propagation += 1;
                spec.propagation = word.to_owned();
            }
            _ => return Err(BadMode::Word),
        }
    }
    match (spec.kind.as_str(), propagation, copy) {
        _ if [access, label, propagation, copy]
            .iter()
            .any(|count| *count > 1) =>
        {
            Err(BadMode::Word)
        }
        ("volume", 1, _) => Err(BadMode::Field("BindOptions")),
        ("bind", _, 1) => Err(BadMode::Field("VolumeOptions")),
        _ => Ok(()),
    }
}

/// The words of `--tmpfs`, and the beginnings of those that have a value.
const TMPFS_WORDS: [&str; 19] = [
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "sync",
    "async",
    "defaults",
];
const TMPFS_VALUES: [&str; 8] = [
    "size=",
    "mode=",
    "uid=",
    "gid=",
    "nr_inodes=",
    "nr_blocks=",
    "mpol=",
    "huge=",
];

fn parse_tmpfs(text: &str) -> Result<Mount, ContainerError> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let bad = options
        .split(',')
        .filter(|word| !word.is_empty())
        .find(|word| {
            let has_value = TMPFS_VALUES.iter().any(|name| word.starts_with(name));
            !has_value && !TMPFS_WORDS.contains(word)
        });
    if let Some(word) = bad {
        return Err(ContainerError::Invalid(format!(
            "invalid tmpfs option [{word:?}]"
        )));
    }
    Ok(Mount {
        source: MountSource::Tmpfs(options.to_owned()),
        target: clean_target(target).map_err(ContainerError::Invalid)?,
        read_only: false,
        mode: String::new(),
    })
}

/// What another container has, for `--volumes-from`.
pub(super) struct Donor {
    mounts: Vec<Mount>,
    read_only: bool,
}

impl Engine {
    /// Finds the containers that `--volumes-from` names.
    pub(super) fn volumes_from(&self, texts: &[String]) -> Result<Vec<Donor>, ContainerError> {
        let one = |text: &String| {
            let (name, mode) = text.split_once(':').unwrap_or((text, ""));
            let mut spec = MountSpec {
                mode: mode.to_owned(),
                ..MountSpec::default()
            };
            if name.is_empty() || read_mode(&mut spec).is_err() {
                return Err(ContainerError::Invalid(match name {
                    "" => format!("invalid volumes-from specification: {text:?}"),
                    _ => format!("invalid mode: {mode}"),
                }));
            }
            let container: Container = self.container(name)?;
            Ok(Donor {
                mounts: container.config.mounts,
                read_only: spec.read_only,
            })
        };
        texts.iter().map(one).collect()
    }
}

/// Returns what the container has mounted.
pub(super) fn mounts(
    options: &CreateOptions,
    of_image: &[String],
    from: Vec<Donor>,
) -> Result<Vec<Mount>, ContainerError> {
    let mut found = BTreeMap::new();
    for one in from {
        for mut mount in one.mounts {
            mount.read_only |= one.read_only;
            if let MountSource::Volume(volume) = &mut mount.source {
                volume.no_copy = true;
            }
            if !matches!(mount.source, MountSource::Tmpfs(_)) {
                found.insert(mount.target.clone(), mount);
            }
        }
    }
    let mut anonymous = Vec::new();
    let mut asked = BTreeMap::new();
    let mut add = |mount: Mount| match asked.insert(mount.target.clone(), mount) {
        Some(before) => Err(ContainerError::Invalid(format!(
            "Duplicate mount point: {}",
            before.target.display()
        ))),
        None => Ok(()),
    };
    for text in &options.volumes {
        let spec = parse_volume(text, &options.volume_driver)?;
        let mount = spec.mount().map_err(|why| {
            ContainerError::Invalid(format!("invalid volume specification: '{text}': {why}"))
        })?;
        spec.check_volume()?;
        match spec.source.is_empty() {
            true => anonymous.push(mount),
            false => add(mount)?,
        }
    }
    let mut tmpfs = Vec::new();
    for text in &options.tmpfs {
        let mount = parse_tmpfs(text)?;
        add(mount.clone())?;
        tmpfs.push(mount);
    }
    for spec in &options.mounts {
        let mount = spec.mount().map_err(ContainerError::Invalid)?;
        spec.check_volume()?;
        if let MountSource::Bind(bind) = &mount.source
            && !bind.create
            && !bind.path.exists()
        {
            return Err(ContainerError::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                bind.path.display()
            )));
        }
        // A tmpfs on the same place lies over it.
        if !tmpfs.iter().any(|tmpfs| tmpfs.target == mount.target) {
            add(mount)?;
        }
    }
    found.extend(asked);
    for target in of_image {
        let spec = MountSpec {
            kind: "volume".to_owned(),
            target: format!("/{target}"),
            driver: options.volume_driver.clone(),
            ..MountSpec::default()
        };
        let mount = spec.mount().map_err(|why| {
            ContainerError::Invalid(format!("invalid volume specification: '{target}': {why}"))
        })?;
        anonymous.push(mount);
    }
    for mount in anonymous {
        found.entry(mount.target.clone()).or_insert(mount);
    }
    Ok(found.into_values().collect())
}

/// Returns the places of volumes that nobody names: those of the image and of `--volume`.
pub(super) fn volume_places(options: &CreateOptions, of_image: &[String]) -> Vec<String> {
    let asked = options.volumes.iter().filter(|text| !text.contains(':'));
    let mut places: Vec<String> = of_image
        .iter()
        .chain(asked)
        .map(|place| cleaned(place).to_string_lossy().into_owned())
        .collect();
    places.sort();
    places.dedup();
    places
}

/// Returns the places of the image's volumes.
pub(super) fn of_image(image: &Image) -> Vec<String> {
    let volumes = image.raw_config["config"]["Volumes"].as_object();
    volumes
        .into_iter()
        .flat_map(|volumes| volumes.keys().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(options: &CreateOptions) -> Result<Vec<Mount>, String> {
        mounts(options, &[], Vec::new()).map_err(|error| error.to_string())
    }

    fn volume(text: &str) -> Result<(PathBuf, bool), String> {
        let options = CreateOptions {
            volumes: vec![text.to_owned()],
            ..CreateOptions::default()
        };
        let mount = all(&options)?.remove(0);
        Ok((mount.target, mount.read_only))
    }

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        assert_eq!(volume("/a:/b"), Ok(("/b".into(), false)));
        assert_eq!(volume("/a:/b/../c/:ro"), Ok(("/c".into(), true)));
        assert_eq!(volume("named:/b:ro,z,nocopy"), Ok(("/b".into(), true)));
        assert_eq!(volume("/b"), Ok(("/b".into(), false)));
        assert_eq!(volume("b"), Ok(("/b".into(), false)));
        for (text, words) in [
            ("a:/b:ro:z:q", "invalid volume specification: 'a:/b:ro:z:q'"),
            ("", "invalid empty volume spec"),
            (":/x", "invalid spec: :/x: empty section between colons"),
            ("v1:", "invalid spec: v1:: empty section between colons"),
            ("/a:/b:rx", "invalid mode: rx"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:shared,slave", "invalid mode: shared,slave"),
            (
                "v1:/b:shared",
                "invalid volume specification: 'v1:/b:shared': invalid mount config for type \"volume\": field \
                 BindOptions must not be specified",
            ),
            (
                "/a:/b:nocopy",
                "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field \
                 VolumeOptions must not be specified",
            ),
            (
                "v1:data",
                "invalid volume specification: 'v1:data': invalid mount config for type \"volume\": invalid mount \
                 path: 'data' mount path must be absolute",
            ),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: \
                 destination can't be '/'",
            ),
        ] {
            assert_eq!(volume(text), Err(words.to_owned()), "{text}");
        }
        let words = volume("bad/name:/b").expect_err("no name");
        assert!(words.starts_with("create bad/name: \"bad/name\" includes invalid"));
        assert!(volume("/").is_err());
    }

    #[test]
    fn two_mounts_on_one_place_are_refused_and_anonymous_ones_give_way() {
        let options = |volumes: &[&str], tmpfs: &[&str]| CreateOptions {
            volumes: volumes.iter().map(|it| (*it).to_owned()).collect(),
            tmpfs: tmpfs.iter().map(|it| (*it).to_owned()).collect(),
            ..CreateOptions::default()
        };
        for (volumes, tmpfs) in [
            (&["/tmp:/b", "/etc:/b/"][..], &[][..]),
            (&["/tmp:/b"], &["/b"]),
            (&[], &["/b", "/b"]),
        ] {
            assert_eq!(
                all(&options(volumes, tmpfs)),
                Err("Duplicate mount point: /b".to_owned())
            );
        }
        let found = all(&options(&["/b", "/etc:/b"], &[])).expect("mounts");
        assert!(matches!(
            &found[..],
            [Mount {
                source: MountSource::Bind(_),
                ..
            }]
        ));
        let images = ["/b".to_owned(), "/c".to_owned()];
        let found = mounts(&options(&["v1:/b"], &[]), &images, Vec::new()).expect("mounts");
        let names: Vec<bool> = found
            .iter()
            .map(|mount| matches!(&mount.source, MountSource::Volume(volume) if volume.anonymous))
            .collect();
        assert_eq!(names, [false, true]);
    }

    #[test]
    fn what_another_container_has_gives_way_to_what_is_asked_for() {
        let mount = |target: &str| Mount {
            source: MountSource::Volume(VolumeMount {
                name: "theirs".to_owned(),
                ..VolumeMount::default()
            }),
            target: target.into(),
            read_only: false,
            mode: String::new(),
        };
        let from = Donor {
            mounts: vec![mount("/a"), mount("/b")],
            read_only: true,
        };
        let options = CreateOptions {
            volumes: vec!["ours:/b".into()],
            ..CreateOptions::default()
        };
        let found = mounts(&options, &[], vec![from]).expect("mounts");
        let found: Vec<(&str, bool)> = found
            .iter()
            .map(|mount| match &mount.source {
                MountSource::Volume(volume) => (volume.name.as_str(), mount.read_only),
                _ => ("", false),
            })
            .collect();
        assert_eq!(found, [("theirs", true), ("ours", false)]);
    }

    #[test]
    fn mounts_are_read_key_by_key() {
        let mount = |text: &str| parse_mount(text)?.mount();
        let bind = mount("type=bind,src=/a,dst=/b/../c,ro,bind-propagation=rslave").expect("bind");
        let MountSource::Bind(source) = &bind.source else {
            panic!("no bind: {bind:?}");
        };
        assert_eq!(
            (source.path.as_path(), source.propagation),
            (Path::new("/a"), Propagation::RSlave)
        );
        assert_eq!((bind.target, bind.read_only), ("/c".into(), true));
        let tmpfs = mount("type=tmpfs,target=/t,tmpfs-size=64MB,tmpfs-mode=1770").expect("tmpfs");
        assert_eq!(
            tmpfs.source,
            MountSource::Tmpfs("size=67108864,mode=1770".into())
        );
        let volume = mount(
            "src=v1,dst=/v,volume-nocopy,volume-label=a=b,volume-opt=type=nfs,\"volume-opt=o=addr=1,rw\",\
             volume-subpath=a/b",
        );
        let volume = volume.expect("volume");
        let MountSource::Volume(volume) = volume.source else {
            panic!("no volume");
        };
        assert!(volume.no_copy && !volume.anonymous);
        assert_eq!(volume.driver_opts["o"], "addr=1,rw");
        assert_eq!(volume.labels["a"], "b");
        assert_eq!(volume.subpath, Some("a/b".into()));
    }

    #[test]
    fn bad_mounts_are_told_by_what_is_wrong_with_them() {
        for (text, words) in [
            ("", "EOF"),
            ("type=bind,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            ("type=bind,src=/a", "target is required"),
            ("dst=/x,foo", "invalid field 'foo' must be a key=value pair"),
            ("dst=/x,ro=maybe", "invalid value for ro: maybe"),
            (
                "dst=/b,tmpfs-size=1m",
                "cannot mix 'tmpfs-*' options with mount type 'volume'",
            ),
            (
                "type=bind,src=/a,dst=/b,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
            ),
            (
                "dst=/b,\"volume-opt=o",
                "a quote is not closed in 'dst=/b,\"volume-opt=o'",
            ),
        ] {
            assert_eq!(parse_mount(text), Err(words.to_owned()), "{text}");
        }
        for (text, words) in [
            (
                "type=bind,dst=/b",
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                "type=bind,src=a,dst=/b",
                "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
            ),
            (
                "type=bind,src=/a,dst=b",
                "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=x",
                "invalid mount config for type \"bind\": invalid propagation mode: x",
            ),
            (
                "type=tmpfs,src=/a,dst=/b",
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                "type=nosuch,dst=/b",
                "invalid mount config for type \"nosuch\": mount type unknown",
            ),
            (
                "type=volume,dst=/",
                "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
            ),
        ] {
            let spec = parse_mount(text).expect("readable");
            assert_eq!(spec.mount().map(drop), Err(words.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_has_options_of_its_own() {
        assert!(parse_tmpfs("/x:size=1m,mode=1777,noexec").is_ok());
        for (text, words) in [
            (
                "rel",
                "invalid mount path: 'rel' mount path must be absolute",
            ),
            ("/", "invalid specification: destination can't be '/'"),
            ("/x:foo", "invalid tmpfs option [\"foo\"]"),
        ] {
            let error = parse_tmpfs(text).expect_err("not a tmpfs");
            assert_eq!(error.to_string(), words);
        }
    }
}
