//! `RUN --mount`: what a command is shown beside the stage's layers.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::agent::Forwarding;
use super::builder::Builder;
use super::cache::Kept;
use super::cache::Key;
use super::dockerfile::CacheSharing;
use super::dockerfile::MountFlag;
use super::dockerfile::RunMount;
use super::dockerfile::RunMountKind;
use super::error::StepError;
use super::files::with_tree;
use super::mount_cache;
use super::mount_cache::MountCache;
use super::options::SecretSource;
use super::select::Wanted;
use super::source::Source;
use super::state::State;
use super::step::Here;
use super::transfer::Request;
use super::transfer::Transfer;
use super::transfer::absolute;
use crate::archive;
use crate::archive::Unpack;
use crate::container::CreateOptions;
use crate::container::MountSpec;
use crate::sandbox::LayerTree;
use crate::sandbox::Secret;
use crate::sandbox::Shown;
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Tree;

/// The largest secret, BuildKit's.
const LARGEST_SECRET: u64 = 500 << 10;

/// A mount whose sources have been found.
pub(super) struct Mounted {
    /// Where, absolute.
    pub(super) target: String,
    what: What,
    /// What of it a result depends on.
    key: Vec<String>,
}

enum What {
    Tree(LayerTree),
    Tmpfs(Option<u64>),
    Cache(MountCache, bool),
    Secret(Option<Secret>, Option<(String, String)>),
    Agent(Forwarding),
    /// It is optional, and was not given.
    Nothing,
}

/// What must live as long as the command runs.
pub(super) enum Held {
    Cache { _cache: MountCache },
    Agent { _forwarding: Forwarding },
}

impl Mounted {
    pub(super) fn add_to(&self, key: &mut Key) {
        key.field("mount").fields(&self.key);
    }

    /// Puts the mount into what the container is to be.
    pub(super) fn give(
        self,
        options: &mut CreateOptions,
        shown: &mut Shown,
        env: &mut Vec<String>,
    ) -> Option<Held> {
        let mut bind = |source: &Path, read_only| {
            options.mounts.push(MountSpec {
                kind: "bind".to_owned(),
                source: source.to_string_lossy().into_owned(),
                target: self.target.clone(),
                read_only,
                ..MountSpec::default()
            });
        };
        match self.what {
            What::Tree(tree) => shown.trees.push(tree),
            What::Tmpfs(size) => {
                let size = size.map(|size| format!(",size={size}"));
                let parameters = format!("exec,mode=1777{}", size.unwrap_or_default());
                options.tmpfs.push(format!("{}:{parameters}", self.target));
            }
            What::Cache(cache, read_only) => {
                bind(&cache.data, read_only);
                return Some(Held::Cache { _cache: cache });
            }
            What::Secret(file, variable) => {
                shown.secrets.extend(file);
                env.extend(variable.map(|(name, value)| format!("{name}={value}")));
            }
            What::Agent(forwarding) => {
                bind(forwarding.socket(), false);
                if !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
                    env.push(format!("SSH_AUTH_SOCK={}", self.target));
                }
                return Some(Held::Agent {
                    _forwarding: forwarding,
                });
            }
            What::Nothing => {}
        }
        None
    }
}

/// Returns the stage or image that a mount says to come from, where no variable is in it.
pub(super) fn stated_source(mount: &MountFlag) -> Option<String> {
    let mut fields = mount.text().split(',');
    let from = fields.find_map(|field| field.trim().strip_prefix("from="))?;
    (!from.contains('$')).then(|| from.to_owned())
}

impl Builder<'_> {
    /// Finds what a command's mounts show.
    pub(super) fn run_mounts(
        &self,
        here: &Here<'_>,
        flags: &[MountFlag],
        state: &State,
    ) -> Result<Vec<Mounted>, StepError> {
        let mut agents = 0;
        let mut all = Vec::new();
        for flag in flags {
            let lookup = |name: &str| state.variable(name);
            let mount = flag
                .expand(self.dockerfile.directives.escape, &lookup)
                .map_err(|error| StepError::Word(error.to_string()))?;
            let target = |default: &str| {
                let text = mount.target.as_deref().unwrap_or(default);
                let names = absolute(state.working_dir(), text);
                let path = super::files::join(&names);
                format!("/{}", String::from_utf8_lossy(&path))
            };
            all.push(self.run_mount(here, &mount, &target, agents)?);
            agents += usize::from(matches!(mount.kind, RunMountKind::Ssh { .. }));
        }
        Ok(all)
    }

    fn run_mount(
        &self,
        here: &Here<'_>,
        mount: &RunMount,
        target: &dyn Fn(&str) -> String,
        number: usize,
    ) -> Result<Mounted, StepError> {
        match &mount.kind {
            RunMountKind::Bind {
                from,
                source,
                writable,
            } => {
                let target = target("/");
                let source = source.as_deref().unwrap_or("/");
                let tree = self.tree(here, from.as_deref(), source, &target, *writable)?;
                Ok(Mounted {
                    key: [
                        vec![
                            "bind".to_owned(),
                            target.clone(),
                            tree.path.display().to_string(),
                        ],
                        vec![writable.to_string()],
                        tree.layers.clone(),
                    ]
                    .concat(),
                    target,
                    what: What::Tree(tree),
                })
            }
            RunMountKind::Tmpfs { size } => {
                let target = target("/tmp");
                Ok(Mounted {
                    key: vec!["tmpfs".to_owned(), target.clone()],
                    target,
                    what: What::Tmpfs(*size),
                })
            }
            RunMountKind::Cache { .. } => self.cache_mount(here, mount, target("/cache")),
            RunMountKind::Secret { .. } => self.secret(mount, target),
            RunMountKind::Ssh {
                id,
                required,
                mode,
                uid,
                gid,
            } => {
                let id = id.as_deref().unwrap_or("default");
                let target = target(&format!("/run/buildkit/ssh_agent.{number}"));
                let what = match self.options.agents.get(id) {
                    Some(agent) => {
                        let owner = (uid.unwrap_or(0), gid.unwrap_or(0));
                        let made =
                            Forwarding::new(self.engine, agent, mode.unwrap_or(0o600), owner);
                        What::Agent(made.map_err(StepError::io(agent))?)
                    }
                    None if *required => {
                        return Err(StepError::NotGiven {
                            kind: "ssh",
                            id: id.to_owned(),
                        });
                    }
                    None => What::Nothing,
                };
                Ok(Mounted {
                    key: vec!["ssh".to_owned(), id.to_owned(), target.clone()],
                    target,
                    what,
                })
            }
        }
    }

    fn secret(
        &self,
        mount: &RunMount,
        target: &dyn Fn(&str) -> String,
    ) -> Result<Mounted, StepError> {
        let RunMountKind::Secret {
            id,
            env,
            required,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            unreachable!("called for secrets only");
        };
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = match (id, &mount.target) {
            (Some(id), _) => id.clone(),
            (None, Some(target)) => base(target),
            (None, None) => env.clone().unwrap_or_default(),
        };
        let target = target(&format!("/run/secrets/{}", base(&id)));
        let key = vec![
            "secret".to_owned(),
            id.clone(),
            target.clone(),
            env.clone().unwrap_or_default(),
        ];
        let content = match self.options.secrets.get(&id) {
            Some(source) => read_secret(source)?,
            None => None,
        };
        let what = match content {
            None if *required => return Err(StepError::NotGiven { kind: "secret", id }),
            None => What::Nothing,
            Some(content) => {
                let variable = env.as_ref().map(|name| {
                    let value = String::from_utf8_lossy(&content).into_owned();
                    (name.clone(), value)
                });
                // With a variable, a file is only made where one is asked for.
                let wants_file = env.is_none() || mount.target.is_some();
                let file = wants_file.then(|| Secret {
                    target: PathBuf::from(&target),
                    content,
                    mode: mode.unwrap_or(0o400),
                    uid: uid.unwrap_or(0),
                    gid: gid.unwrap_or(0),
                });
                What::Secret(file, variable)
            }
        };
        Ok(Mounted { target, what, key })
    }

    fn cache_mount(
        &self,
        here: &Here<'_>,
        mount: &RunMount,
        target: String,
    ) -> Result<Mounted, StepError> {
        let RunMountKind::Cache {
            id,
            from,
            source,
            read_only,
            sharing,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            unreachable!("called for caches only");
        };
        let id = id.clone().unwrap_or_else(|| target.clone());
        let made = mount_cache::Made {
            mode: mode.unwrap_or(0o755),
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
        };
        let begins_with = match from {
            Some(from) => Some(self.source(from, here.stage, here.step)?),
            None => None,
        };
        let path = source.as_deref().unwrap_or("/").as_bytes();
        let fill = |data: &Path| match &begins_with {
            Some(source) => copy_into(source, path, data),
            None => Ok(()),
        };
        let root = self.engine.root();
        let cache = mount_cache::take(root, &id, *sharing, made, &fill)
            .map_err(StepError::io(root.join("cache/mounts")))?;
        let sharing = match sharing {
            CacheSharing::Shared => "shared",
            CacheSharing::Private => "private",
            CacheSharing::Locked => "locked",
        };
        Ok(Mounted {
            key: vec![
                "cache".to_owned(),
                id,
                target.clone(),
                sharing.to_owned(),
                read_only.to_string(),
            ],
            target,
            what: What::Cache(cache, *read_only),
        })
    }

    /// Returns a bind mount's tree. Of a context a layer is made first, so that what the ignore file leaves out is not
    /// there, and nothing the command does reaches the host's files.
    fn tree(
        &self,
        here: &Here<'_>,
        from: Option<&str>,
        path: &str,
        target: &str,
        writable: bool,
    ) -> Result<LayerTree, StepError> {
        let source = match from {
            Some(from) => self.source(from, here.stage, here.step)?,
            None => Arc::clone(&self.context),
        };
        let (layers, path) = match &source.layers {
            Some(layers) if source.ignore.is_none() => (layers.clone(), path.to_owned()),
            _ => self.context_layer(&source, path)?,
        };
        Ok(LayerTree {
            layers: layers.iter().map(ToString::to_string).collect(),
            path: PathBuf::from(path),
            target: PathBuf::from(target),
            writable,
        })
    }

    /// Makes a layer of a part of a context; returns it and where the part is in it.
    fn context_layer(
        &self,
        source: &Arc<Source>,
        path: &str,
    ) -> Result<(Vec<layerfs::DiffId>, String), StepError> {
        let is_file = {
            let names = super::files::clean(path.as_bytes()).unwrap_or_default();
            with_tree!(&source.files, tree => {
                let path = super::files::join(&names);
                tree.resolve(&path, Last::Follow)
                    .and_then(|node| tree.stat(&node))
                    .is_ok_and(|stat| stat.kind != layerfs::Kind::Directory)
            })
        };
        let transfer = Transfer::prepare(Request {
            verb: "RUN",
            source: Arc::clone(source),
            paths: &[path.to_owned()],
            loose: Vec::new(),
            destination: "/",
            working_dir: "/",
            wanted: Wanted {
                latest: self.latest,
                ..Wanted::default()
            },
            excluded: None,
            parents: false,
            unpack: false,
        })?;
        let mut key = Key::new("context");
        key.field(transfer.key().0);
        let key = key.digest();
        // Whatever is asked of results: this is the context itself.
        let layer = match self.engine.kept_step(&key)? {
            Some(kept) => {
                self.served.lock().push(key);
                kept.layer
            }
            None => {
                let nothing = Source::layers(self.engine, &[])?;
                let layer = transfer.layer(self.engine, &nothing.files)?;
                let kept = Kept {
                    layer,
                    created: self.now(),
                };
                self.engine.keep_step(&key, &kept, "context")?;
                layer
            }
        };
        let base = path.trim_end_matches('/').rsplit('/').next();
        let shown = match (is_file, base) {
            (true, Some(name)) => format!("/{name}"),
            _ => "/".to_owned(),
        };
        Ok((layer.into_iter().collect(), shown))
    }

    /// Returns the layers that hold all of a source.
    pub(super) fn layers_of(
        &self,
        source: &Arc<Source>,
    ) -> Result<Vec<layerfs::DiffId>, StepError> {
        match &source.layers {
            Some(layers) => Ok(layers.clone()),
            None => Ok(self.context_layer(source, "/")?.0),
        }
    }
}

fn read_secret(source: &SecretSource) -> Result<Option<Vec<u8>>, StepError> {
    use std::io::Read as _;
    match source {
        SecretSource::Env(name) => {
            Ok(std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec))
        }
        SecretSource::File(path) => {
            let mut content = Vec::new();
            fs::File::open(path)
                .and_then(|file| file.take(LARGEST_SECRET + 1).read_to_end(&mut content))
                .map_err(StepError::io(path))?;
            if content.len() as u64 > LARGEST_SECRET {
                let large = io::Error::other(format!("larger than {LARGEST_SECRET} bytes"));
                return Err(StepError::io(path)(large));
            }
            Ok(Some(content))
        }
    }
}

/// Copies what a path of a source leads to into a directory of the host's.
fn copy_into(source: &Source, path: &[u8], data: &Path) -> io::Result<()> {
    let root = fs::File::open(data)?;
    let into = HostTree::of_container(root.into(), None);
    let directory = into.resolve(b"", Last::Follow)?;
    let options = Unpack {
        owner: None,
        follow_in: None,
        ..Unpack::default()
    };
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            with_tree!(&source.files, tree => {
                let node = tree.resolve(path, Last::Follow)?;
                archive::pack(tree, &node, b"", io::BufWriter::new(writer)).map(drop)
            })
        });
        let unpacked = archive::unpack(&into, &directory, reader, &options);
        match packing.join() {
            Ok(packed) => packed?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        unpacked.map(drop).map_err(io::Error::other)
    })
}
