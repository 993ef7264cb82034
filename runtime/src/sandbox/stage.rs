//! The init stage: from the clone to the command's exec.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::DumpableBehavior;
use rustix::process::Signal;

use crate::sys;

use super::Capabilities;
use super::Plan;
use super::Process;
use super::Stdio;
use super::Whose;
use super::identity;
use super::identity::Identity;
use super::message;
use super::mounts;
use super::mounts::Kernel;
use super::program;
use super::program::Unrunnable;
use super::reaper;
use super::root::Root;
use super::terminal;

/// Why the command cannot be: an exit code and words.
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) words: String,
}

const ENGINE_FAILED: u8 = 125;

impl From<mounts::Failed> for Failure {
    fn from((step, error): mounts::Failed) -> Failure {
        Failure {
            code: ENGINE_FAILED,
            words: format!(
                "unable to start container process: {step}: {}",
                crate::image::words(&error)
            ),
        }
    }
}

impl From<Unrunnable> for Failure {
    fn from(Unrunnable(code, words): Unrunnable) -> Failure {
        Failure {
            code,
            words: format!("unable to start container process: {words}"),
        }
    }
}

pub(super) fn failed<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> Failure {
    move |error| (step.to_owned(), error.into()).into()
}

/// Runs the stage; ends in the command, or tells the monitor why not.
pub(super) fn run(plan: Plan, monitor: OwnedFd) -> ! {
    let code = match contain(&plan, &monitor) {
        Ok(never) => match never {},
        Err(failure) => {
            tell_failure(&monitor, &failure);
            failure.code
        }
    };
    sys::process::exit_immediately(i32::from(code))
}

pub(super) fn tell_failure(monitor: &OwnedFd, failure: &Failure) {
    let mut bytes = vec![message::FAILED, failure.code];
    bytes.extend_from_slice(failure.words.as_bytes());
    bytes.truncate(message::LONGEST);
    let _ = sys::fds::send(monitor, &bytes, &[]);
}

fn contain(plan: &Plan, monitor: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    die_with_the_monitor()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("prctl"))?;
    wait_for_go(monitor)?;
    if plan.opened.is_some() {
        become_root()?;
    }
    if plan.namespaces.cgroup.is_own() {
        // Only now is the stage in its cgroups, and the namespace's root is where its maker is.
        // SAFETY: only CLONE_FILES would matter to others' descriptors.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
            .map_err(failed("unshare"))?;
    }
    if let Whose::Of(pidfd) = &plan.namespaces.net {
        let kind = rustix::thread::ThreadNameSpaceType::NETWORK;
        rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kind)
            .map_err(failed("join the container's network"))?;
    }
    let shm = mounts::shared_memory(plan)?;
    sys::mount::make_root_private().map_err(failed("make mounts private"))?;
    let root = match &plan.opened {
        Some(opened) => Root::attach(&opened.root),
        None => Root::open(&plan.root),
    };
    let root = root.map_err(failed("open the root"))?;
    let kernel = mounts::kernel_filesystems(&root, plan, shm)?;
    mounts::devices_of_host(&root, &kernel, plan)?;
    mounts::asked_for(&root, &kernel, plan)?;
    if plan.has_masks {
        mounts::mask(&kernel)?;
    }
    adjust_oom_score(plan, &kernel)?;
    use_all_processors();
    rustix::process::setsid().map_err(failed("setsid"))?;
    let (master, streams) = streams(plan, &kernel)?;
    mounts::pivot(&root)?;
    name_host(plan)?;
    hand_root_over(monitor, &kernel, master)?;
    let identity = identify(&plan.process).map_err(|failure| Failure {
        code: ENGINE_FAILED,
        ..failure
    })?;
    make_working_dir(&plan.process.working_dir)?;
    if plan.read_only {
        mounts::protect_root()?;
    }
    drop((root, kernel));
    let reaper_for = plan.init.then_some(&plan.stdio);
    become_command(&plan.process, &streams, &identity, reaper_for)
}

/// Ends the stage: the calling process is in the container's root and becomes the command.
pub(super) fn become_command(
    process: &Process,
    streams: &[OwnedFd; 3],
    identity: &Identity,
    reaper_for: Option<&Stdio>,
) -> Result<std::convert::Infallible, Failure> {
    connect_streams(streams, identity)?;
    limit(process)?;
    rustix::process::umask(Mode::from(0o022));
    become_identity(process, identity)?;
    enter_working_dir(&process.working_dir)?;
    execute(process, identity, reaper_for)
}

/// Becomes the first user of a user namespace: until then the process is nobody in it.
pub(super) fn become_root() -> Result<(), Failure> {
    rustix::thread::set_thread_groups(&[]).map_err(failed("setgroups"))?;
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("setgid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("setuid"))?;
    die_with_the_monitor()
}

pub(super) fn die_with_the_monitor() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("prctl"))
}

/// Waits until the monitor serves the filesystem and has counted the stage among the container's processes.
pub(super) fn wait_for_go(monitor: &OwnedFd) -> Result<(), Failure> {
    let mut byte = [0];
    let received = rustix::io::retry_on_intr(|| rustix::io::read(monitor, &mut byte));
    match received {
        Ok(1) if byte[0] == message::GO => Ok(()),
        // The monitor is dead: nobody hears.
        _ => sys::process::exit_immediately(i32::from(ENGINE_FAILED)),
    }
}

/// Gives up what the starter was bound to: which processors there are is the cgroup's to say.
fn use_all_processors() {
    let mut all = rustix::thread::CpuSet::new();
    for number in 0..rustix::thread::CpuSet::MAX_CPU {
        all.set(number);
    }
    // What is not granted is no reason not to run.
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

fn adjust_oom_score(plan: &Plan, kernel: &Kernel) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let score = plan.oom_score_adj.unwrap_or(0);
    let set = rustix::fs::openat(&kernel.proc, "self/oom_score_adj", flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, score.to_string().as_bytes()));
    match set {
        // Only what was asked for must be: a user namespace may not be let.
        Err(error) if plan.oom_score_adj.is_some() => Err(failed("set oom_score_adj")(error)),
        _ => Ok(()),
    }
}

/// Makes the command's standard streams; with a terminal, its master too.
fn streams(plan: &Plan, kernel: &Kernel) -> Result<(Option<OwnedFd>, [OwnedFd; 3]), Failure> {
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(failed("dup"));
    match &plan.stdio {
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let stdin = match stdin {
                Some(stdin) => copy(stdin)?,
                None => kernel.null()?,
            };
            Ok((None, [stdin, copy(stdout)?, copy(stderr)?]))
        }
        Stdio::Terminal { rows, columns } => {
            let (master, terminal) = terminal::open(kernel.pts.as_fd(), (*rows, *columns))
                .map_err(failed("open a terminal"))?;
            kernel.console(terminal.as_fd())?;
            Ok((Some(master), [copy(&terminal)?, copy(&terminal)?, terminal]))
        }
    }
}

fn name_host(plan: &Plan) -> Result<(), Failure> {
    if plan.namespaces.uts.is_own() {
        rustix::system::sethostname(plan.hostname.as_bytes()).map_err(failed("sethostname"))?;
        if !plan.domainname.is_empty() {
            rustix::system::setdomainname(plan.domainname.as_bytes())
                .map_err(failed("setdomainname"))?;
        }
    }
    if plan.namespaces.net.is_own() {
        sys::net::loopback_up().map_err(failed("bring lo up"))?;
    }
    Ok(())
}

/// Gives the monitor descriptors of the container's root, devpts and null device, and the terminal's master if it has
/// one.
fn hand_root_over(
    monitor: &OwnedFd,
    kernel: &Kernel,
    master: Option<OwnedFd>,
) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(failed("open /"))?;
    let null = kernel.null()?;
    let fds: Vec<BorrowedFd<'_>> = [root.as_fd(), kernel.pts.as_fd(), null.as_fd()]
        .into_iter()
        .chain(master.as_ref().map(AsFd::as_fd))
        .collect();
    sys::fds::send(monitor, &[message::ROOT], &fds).map_err(failed("send the root"))?;
    Ok(())
}

pub(super) fn identify(process: &Process) -> Result<Identity, Failure> {
    let passwd = identity::read("/etc/passwd");
    let group = identity::read("/etc/group");
    identity::resolve(&process.user, &process.group_add, &passwd, &group).map_err(|unknown| {
        Failure {
            code: 126,
            words: unknown.to_string(),
        }
    })
}

/// Makes the working directory, as root, where the image lacks it.
fn make_working_dir(path: &str) -> Result<(), Failure> {
    let not_a_directory = || Failure {
        code: ENGINE_FAILED,
        words: format!("Cannot mkdir: {path} is not a directory"),
    };
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
    match builder.recursive(true).create(path) {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EEXIST | libc::ENOTDIR) => Err(not_a_directory()),
            _ => Err(failed("mkdir the working directory")(error)),
        },
    }
}

/// Puts the streams where a program looks for them.
fn connect_streams(streams: &[OwnedFd; 3], identity: &Identity) -> Result<(), Failure> {
    let is_terminal = rustix::termios::isatty(&streams[0]);
    for (number, stream) in (0..).zip(streams) {
        // SAFETY: dup2 onto the three standard numbers, which nothing in this process owns.
        if unsafe { libc::dup2(stream.as_raw_fd(), number) } < 0 {
            return Err(failed("dup2")(io::Error::last_os_error()));
        }
        own(stream, identity);
    }
    if is_terminal {
        sys::terminal::make_controlling(&streams[0]).map_err(failed("set the terminal"))?;
    }
    Ok(())
}

/// Gives a pipe or terminal to the command's user, so that it can open /dev/stdout; never a device like /dev/null.
fn own(stream: &OwnedFd, identity: &Identity) {
    let Ok(stat) = rustix::fs::fstat(stream) else {
        return;
    };
    let null = rustix::fs::makedev(1, 3);
    let kind = FileType::from_raw_mode(stat.st_mode);
    let ours =
        kind == FileType::Fifo || (kind == FileType::CharacterDevice && stat.st_rdev != null);
    if ours && stat.st_uid != identity.uid {
        let owner = rustix::fs::Uid::from_raw(identity.uid);
        let _ = rustix::fs::chownat(stream, "", Some(owner), None, AtFlags::EMPTY_PATH);
    }
}

fn limit(process: &Process) -> Result<(), Failure> {
    sys::open_files::as_before().map_err(failed("setrlimit"))?;
    for limit in &process.limits {
        let resource = sys::process::resource(&limit.name).ok_or_else(|| Failure {
            code: ENGINE_FAILED,
            words: format!("invalid ulimit type: {}", limit.name),
        })?;
        sys::process::set_limit(resource, limit.soft, limit.hard)
            .map_err(failed(&format!("set ulimit {}", limit.name)))?;
    }
    Ok(())
}

/// Becomes the user, with the capabilities that stay and no way to more.
fn become_identity(process: &Process, identity: &Identity) -> Result<(), Failure> {
    let held = rustix::thread::capabilities(None).map_err(failed("capget"))?;
    let held = Capabilities(held.permitted.bits());
    let keep = process.capabilities.and(held);
    for number in 0..64 {
        if keep.0 >> number & 1 == 0 {
            // Numbers that the kernel does not know are refused, and need no dropping.
            let _ = sys::process::drop_bounding(number);
        }
    }
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(failed("set no_new_privs"))?;
    }
    // Without no_new_privs, a filter needs CAP_SYS_ADMIN, which is about to go.
    rustix::thread::set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
    let groups: Vec<_> = identity
        .groups
        .iter()
        .map(|gid| rustix::fs::Gid::from_raw(*gid))
        .collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed("setgroups"))?;
    let gid = rustix::fs::Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("setgid"))?;
    let uid = rustix::fs::Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("setuid"))?;
    // The change of user has taken the effective set away and the death signal with it.
    sys::process::set_capabilities(held.0, held.0, 0).map_err(failed("capset"))?;
    if let Some(filter) = &process.filter {
        sys::seccomp::install(filter).map_err(failed("install the seccomp filter"))?;
    }
    rustix::thread::set_keep_capabilities(false).map_err(failed("drop capabilities"))?;
    // A command that is not root's keeps capabilities in its bounding set only, as with Docker.
    let effective = if identity.uid == 0 { keep.0 } else { 0 };
    sys::process::set_capabilities(effective, effective, 0).map_err(failed("capset"))?;
    die_with_the_monitor()
}

/// Enters the working directory as the user, and makes sure that it is the container's (CVE-2024-21626).
fn enter_working_dir(path: &str) -> Result<(), Failure> {
    let refused = |error: io::Error| Failure {
        code: 126,
        words: format!(
            "unable to start container process: chdir to cwd ({path:?}): {}",
            crate::image::words(&error)
        ),
    };
    rustix::process::chdir(path).map_err(|error| refused(error.into()))?;
    let here = rustix::process::getcwd(Vec::new()).map_err(|error| refused(error.into()))?;
    match here.as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(refused(io::ErrorKind::NotFound.into())),
    }
}

fn execute(
    process: &Process,
    identity: &Identity,
    reaper_for: Option<&Stdio>,
) -> Result<std::convert::Infallible, Failure> {
    let mut env = process.env.clone();
    let value = |env: &[String], name: &str| {
        env.iter()
            .rev()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    if value(&env, "HOME").is_none_or(|home| home.is_empty()) {
        env.push(format!("HOME={}", identity.home));
    }
    let path = value(&env, "PATH").unwrap_or_else(|| program::DEFAULT_PATH.to_owned());
    let name = process.arguments.first().map_or("", String::as_str);
    let file = program::find(name, &path)?;
    let arguments = c_strings(&process.arguments)?;
    let env = c_strings(&env)?;
    let argument_pointers = pointers(&arguments);
    let env_pointers = pointers(&env);
    sys::fds::close_on_exec_from(3).map_err(failed("close_range"))?;
    if let Some(stdio) = reaper_for {
        put_reaper_between(stdio)?;
    }
    sys::process::reset_signals();
    // SAFETY: both arrays hold C strings that outlive the call and end with a null pointer.
    let error = unsafe { sys::process::exec(&file, &argument_pointers, &env_pointers) };
    Err(program::refused(name, &error).into())
}

/// Leaves this process as the reaper and goes on in a child of it.
fn put_reaper_between(stdio: &Stdio) -> Result<(), Failure> {
    sys::process::block_signals();
    // SAFETY: the stage has one thread; the parent's side never returns.
    match unsafe { sys::process::fork() }.map_err(failed("fork"))? {
        0 => {
            let _ = rustix::process::setpgid(None, None);
            if matches!(stdio, Stdio::Terminal { .. }) {
                let _ =
                    rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
            }
            Ok(())
        }
        command => reaper::run(command),
    }
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, Failure> {
    strings
        .iter()
        .map(|text| CString::new(text.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| failed("exec")(io::Error::from(io::ErrorKind::InvalidInput)))
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}
