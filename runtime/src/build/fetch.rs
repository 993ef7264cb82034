//! `ADD` from elsewhere: addresses, and git repositories through the `git` program.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use layerfs::Digest;
use sha2::Digest as _;
use sha2::Sha256;

use super::builder::Builder;
use super::cancel::Cancel;
use super::error::StepError;
use super::source::Source;
use super::transfer::Content;
use super::transfer::Fetched;
use super::transfer::Loose;
use crate::Engine;
use crate::registry;
use crate::registry::Settings;

/// Git's variables of the repository that a build may be started in, and of the user's settings.
const OF_THE_USER: [&str; 11] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
];

/// An ssh that asks nothing and does not wait for a server that is silent.
const SSH: &str = "ssh -oBatchMode=yes -oConnectTimeout=60 -oServerAliveInterval=20";

/// How much is kept of what git says.
const MOST_WORDS: u64 = 64 << 10;

/// How long a checkout may take: time for a large repository, but not for ever.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How many digits of a commit's id say which it is.
const SHORTEST_COMMIT: usize = 7;

/// What an `ADD`'s source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A path of the context.
    Path,
    /// Something to fetch.
    Url,
    /// A git repository.
    Git,
}

/// Returns what a source is, as BuildKit tells them apart.
pub(super) fn kind(source: &str) -> Kind {
    let is_git_scheme = [
        "git://",
        "git+https://",
        "git+http://",
        "git+ssh://",
        "ssh://",
    ]
    .iter()
    .any(|scheme| source.starts_with(scheme));
    let is_web = source.starts_with("http://") || source.starts_with("https://");
    let repository = source.split('#').next().unwrap_or_default();
    let is_scp = source.starts_with("git@") && source.contains(':');
    match (is_git_scheme || is_scp, is_web) {
        (true, _) => Kind::Git,
        (_, true) if repository.ends_with(".git") => Kind::Git,
        (_, true) => Kind::Url,
        _ => Kind::Path,
    }
}

/// Opens what is at an address.
pub(super) fn open(url: &str, settings: &Settings) -> Result<impl Read + Send + use<>, StepError> {
    Ok(registry::download(url, settings)?)
}

/// Fetches a file.
pub(super) fn url(
    builder: &Builder<'_>,
    url: &str,
    checksum: Option<&str>,
    unpack: bool,
) -> Result<Loose, StepError> {
    let expected = match checksum {
        Some(text) => Some(
            text.parse::<Digest>()
                .map_err(|error| StepError::Word(format!("invalid checksum: {error}")))?,
        ),
        None => None,
    };
    let tmp = Arc::new(builder.engine.store().tmp_dir()?);
    let path = tmp.path().join("fetched");
    let fetched = registry::fetch(url, &builder.options.registry)?;
    let name = name(url, fetched.disposition.as_deref());
    let mtime = fetched.last_modified.as_deref().and_then(http_date);
    let (digest, size) = save(fetched.body, &path).map_err(StepError::io(&path))?;
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(StepError::Checksum {
            url: url.to_owned(),
            expected: expected.to_string(),
            found: digest.to_string(),
        });
    }
    let is_archive = |path: &Path| File::open(path).is_ok_and(super::compression::is_archive);
    let unpack = unpack && is_archive(&path);
    Ok(Loose {
        // Without one it needs the destination's.
        name: name.unwrap_or_default().into_bytes(),
        content: Content::Fetched(Fetched {
            path,
            size,
            digest,
            unpack,
            _held: tmp,
        }),
        mode: 0o600,
        // As with Docker, one that its server says nothing of has no time.
        mtime: mtime.or(Some(0)),
    })
}

/// Returns what a fetched file is called: the last component of its address, or what the server says.
fn name(url: &str, disposition: Option<&str>) -> Option<String> {
    let is_name =
        |name: &&str| !name.is_empty() && !name.contains('/') && !matches!(*name, "." | "..");
    let path = url.split(['?', '#']).next()?.split_once("://")?.1;
    let (_, path) = path.split_once('/')?;
    let from_path = path.rsplit('/').next().filter(is_name);
    let stated = disposition.and_then(|text| {
        let value = text
            .split(';')
            .find_map(|part| part.trim().strip_prefix("filename="))?;
        Some(value.trim_matches('"')).filter(is_name)
    });
    from_path.or(stated).map(str::to_owned)
}

/// Reads the date of an HTTP header (RFC 9110, 5.6.7, with the obsolete forms), seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let formats = [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    ];
    let read = |format| jiff::civil::DateTime::strptime(format, text.trim()).ok();
    let time = formats.into_iter().find_map(read)?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

fn save(mut from: impl Read, path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = io::BufWriter::new(File::create_new(path)?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        size += count as u64;
    }
    file.flush()?;
    Ok((Digest(hash.finalize().into()), size))
}

/// Checks a git repository out for `ADD`.
pub(super) fn git(
    builder: &Builder<'_>,
    address: &str,
    checksum: Option<&str>,
    keep_git_dir: bool,
) -> Result<Loose, StepError> {
    let wanted = Checkout {
        commit: checksum,
        keep_git_dir,
        cancel: &builder.options.cancel,
    };
    let source = Arc::new(checkout(builder.engine, address, wanted)?);
    let digest = super::select::tree_digest(&source)?;
    let name = address.split('#').next().unwrap_or_default();
    Ok(Loose {
        name: name.as_bytes().to_vec(),
        content: Content::Tree(source, digest),
        mode: 0o755,
        mtime: None,
    })
}

/// How a repository is checked out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkout<'a> {
    /// What the commit's id begins with.
    commit: Option<&'a str>,
    keep_git_dir: bool,
    /// What ends it early.
    cancel: &'a Cancel,
}

impl<'a> Checkout<'a> {
    /// Whatever commit it is, without git's own directory.
    pub(super) fn tree(cancel: &'a Cancel) -> Checkout<'a> {
        Checkout {
            commit: None,
            keep_git_dir: false,
            cancel,
        }
    }
}

/// Checks `repository#ref:directory` out.
pub(super) fn checkout(
    engine: &Engine,
    address: &str,
    wanted: Checkout<'_>,
) -> Result<Source, StepError> {
    let (repository, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let repository = match repository.strip_prefix("git+") {
        Some(repository) => repository.to_owned(),
        None if repository.starts_with("github.com/") => format!("https://{repository}"),
        None => repository.to_owned(),
    };
    let reference = if reference.is_empty() {
        "HEAD"
    } else {
        reference
    };
    if repository.starts_with('-') || reference.starts_with('-') {
        return Err(git_failed(format!("invalid repository: {address}")));
    }
    let tmp = engine.store().tmp_dir()?;
    let tree = tmp.path().join("tree");
    std::fs::create_dir(&tree).map_err(StepError::io(&tree))?;
    let deadline = Instant::now() + PATIENCE;
    let git = |arguments: &[&str]| run_git(&tree, arguments, deadline, wanted.cancel);
    git(&["init", "-q"])?;
    git(&["remote", "add", "--", "origin", &repository])?;
    let fetch = ["fetch", "-q", "--no-tags"];
    let of_reference = ["--", "origin", reference];
    let shallow = [&fetch[..], &["--depth=1"], &of_reference].concat();
    // A server of plain files gives nothing that is shallow.
    let fetched = git(&shallow).or_else(|_| git(&[&fetch[..], &of_reference].concat()));
    match fetched {
        Ok(_) => git(&["checkout", "-q", "FETCH_HEAD"])?,
        // A commit that the server does not give alone.
        Err(error) if reference.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            git(&["fetch", "-q", "origin"]).map_err(|_| error)?;
            git(&["checkout", "-q", reference])?
        }
        Err(error) => return Err(error),
    };
    if let Some(expected) = wanted.commit {
        let found = git(&["rev-parse", "HEAD"])?;
        let is_id = expected.len() >= SHORTEST_COMMIT;
        if !is_id || !found.starts_with(&expected.to_ascii_lowercase()) {
            return Err(StepError::Checksum {
                url: address.to_owned(),
                expected: expected.to_owned(),
                found: found.trim().to_owned(),
            });
        }
    }
    if tree.join(".gitmodules").symlink_metadata().is_ok() {
        let update = ["submodule", "update", "-q", "--init", "--recursive"];
        git(&[&update[..], &["--depth=1"]].concat())?;
    }
    if !wanted.keep_git_dir {
        let git_dir = tree.join(".git");
        layerfs::store::remove_tree(&git_dir).map_err(StepError::io(&git_dir))?;
    }
    let names = super::files::clean(directory.as_bytes())
        .ok_or_else(|| git_failed(format!("invalid subdirectory: {directory}")))?;
    let below = String::from_utf8_lossy(&super::files::join(&names)).into_owned();
    // Resolved within the checkout: a link in it leads nowhere else.
    let flags =
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(&tree, flags, rustix::fs::Mode::empty())
        .map_err(io::Error::from)
        .map_err(StepError::io(&tree))?;
    let directory = match below.as_str() {
        "" => root,
        below => crate::sys::fds::open_resolved(
            &root,
            below,
            flags,
            rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(StepError::io(below))?,
    };
    Ok(Source::checkout(tmp, directory))
}

/// Runs git; returns what it says.
///
/// Nothing of the user's is read that could ask or execute: no configuration of theirs or the system's, with its filters and
/// credential helpers, no hooks, no passwords; ssh asks nothing, unless `GIT_SSH_COMMAND` says which is to be used. Nothing of
/// the host's can be fetched: only from servers. What it says is kept up to [`MOST_WORDS`], and it is ended at
/// the deadline.
fn run_git(
    tree: &Path,
    arguments: &[&str],
    deadline: Instant,
    cancel: &Cancel,
) -> Result<String, StepError> {
    let mut command = Command::new("git");
    for setting in [
        "core.hooksPath=/dev/null",
        "init.defaultBranch=master",
        "advice.detachedHead=false",
        // Nothing goes on in the background.
        "gc.auto=0",
        "maintenance.auto=false",
        // A server that says nothing for a minute is not waited for.
        "http.lowSpeedLimit=1",
        "http.lowSpeedTime=60",
    ] {
        command.args(["-c", setting]);
    }
    for variable in OF_THE_USER {
        command.env_remove(variable);
    }
    let is_chosen = ["GIT_SSH_COMMAND", "GIT_SSH"]
        .into_iter()
        .any(|variable| std::env::var_os(variable).is_some());
    if !is_chosen {
        command.env("GIT_SSH_COMMAND", SSH);
    }
    command
        .arg("-C")
        .arg(tree)
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ALLOW_PROTOCOL", "git:http:https:ssh")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its helpers end with it.
        .process_group(0);
    let failed = |error: io::Error| git_failed(crate::image::words(&error));
    let mut child = crate::sys::process::of_ours(&mut command)
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (ended, out, err) = std::thread::scope(|scope| {
        let (out, err) = (
            scope.spawn(|| beginning(out)),
            scope.spawn(|| beginning(err)),
        );
        let ended = wait(&mut child, deadline, cancel);
        (ended, out.join(), err.join())
    });
    let text = |joined: std::thread::Result<Vec<u8>>| match joined {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let (out, err) = (text(out), text(err));
    match ended?.success() {
        true => Ok(out),
        false => Err(git_failed(crate::image::printable(err.trim()))),
    }
}

/// Reads all that a program says, of which the beginning is kept.
fn beginning(from: Option<impl Read>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let mut first = from.by_ref().take(MOST_WORDS);
        // What cannot be read is as good as not said.
        let _ = first.read_to_end(&mut kept);
        let _ = io::copy(&mut from, &mut io::sink());
    }
    kept
}

/// Waits for a program that leads a process group; ends the whole group when the build is canceled or it takes too long.
fn wait(child: &mut Child, deadline: Instant, cancel: &Cancel) -> Result<ExitStatus, StepError> {
    let failed = |error: io::Error| git_failed(crate::image::words(&error));
    let mut pause = Duration::from_millis(1);
    let refused = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        if cancel.is_canceled() {
            break StepError::Canceled;
        }
        if Instant::now() >= deadline {
            break git_failed("it takes too long".to_owned());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    // It has not been waited for: the number is still its own.
    let _ = crate::sys::process::kill(-child.id().cast_signed(), libc::SIGKILL);
    child.wait().map_err(failed)?;
    Err(refused)
}

fn git_failed(words: String) -> StepError {
    StepError::Program {
        program: "git",
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_kept_in_part_and_its_time_is_bounded() {
        let much = io::repeat(b'x').take(1 << 20);
        assert_eq!(beginning(Some(much)).len() as u64, MOST_WORDS);
        let cancel = Cancel::default();
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("1000").process_group(0).spawn()
        };
        let mut child = sleep().expect("it runs");
        let late = wait(&mut child, Instant::now(), &cancel);
        assert!(late.is_err_and(|error| error.to_string().contains("too long")));
        cancel.cancel();
        let mut child = sleep().expect("it runs");
        let canceled = wait(&mut child, Instant::now() + PATIENCE, &cancel);
        assert!(matches!(canceled, Err(StepError::Canceled)));
    }

    #[test]
    fn sources_are_told_apart() {
        for (source, expected) in [
            ("dir/file", Kind::Path),
            ("https://example.org/a.tar.gz", Kind::Url),
            ("https://example.org/a.git", Kind::Git),
            ("https://example.org/a.git#v1:sub", Kind::Git),
            ("git@example.org:a/b.git", Kind::Git),
            ("git://example.org/a", Kind::Git),
        ] {
            assert_eq!(kind(source), expected, "{source}");
        }
    }

    #[test]
    fn fetched_files_are_called_by_their_address() {
        let named = |url: &str| name(url, None);
        assert_eq!(named("http://h/a/b.txt?x=/y").as_deref(), Some("b.txt"));
        assert_eq!(named("http://h/"), None);
        assert_eq!(named("http://h"), None);
        let stated = "attachment; filename=\"c.txt\"";
        assert_eq!(name("http://h/a/", Some(stated)).as_deref(), Some("c.txt"));
        assert_eq!(name("http://h/a/", Some("filename=../x")), None);
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date, Some(784_111_777));
        assert_eq!(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), date);
        assert_eq!(http_date("Sun Nov  6 08:49:37 1994"), date);
        assert_eq!(http_date("yesterday"), None);
    }
}
