//! A further command in the container: `exec`.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use super::Failure;
use super::failed;
use super::streams::Streams;
use crate::cgroup::Cgroup;
use crate::container::ExecOptions;
use crate::container::merge_env;
use crate::sandbox::Capabilities;
use crate::sandbox::Process;
use crate::sandbox::Stdio;
use crate::sandbox::helper::Helper;
use crate::sandbox::message;
use crate::sandbox::terminal;
use crate::sys;

/// A command that was asked for, until it has ended.
#[derive(Debug)]
pub(super) struct Session {
    /// What its client and the helper know it by.
    pub(super) number: u32,
    /// What others know it by, 64 hex digits.
    pub(super) id: String,
    /// The command line, for events.
    pub(super) command: String,
    /// The command's process, once it is known.
    pub(super) pid: i32,
    /// The stage's socket, until the command runs.
    pub(super) stage: Option<OwnedFd>,
    pub(super) streams: Streams,
    pub(super) tty: bool,
}

/// What has become of a stage.
pub(super) enum Begun {
    /// The command runs.
    Started,
    /// It cannot.
    Failed(Failure),
}

/// What every command in the container shares.
pub(super) struct Surroundings<'a> {
    /// The container's own command, and what it may do.
    pub(super) process: &'a Process,
    /// The host's first user of its user namespace, if it has one.
    pub(super) first_user: Option<u32>,
    pub(super) helper: &'a Helper,
    pub(super) cgroup: &'a Cgroup,
    /// The container's own devpts.
    pub(super) pts: &'a OwnedFd,
    /// The container's own null device.
    pub(super) null: &'a OwnedFd,
}

impl Session {
    /// Has the helper begin a command.
    pub(super) fn begin(
        number: u32,
        exec: &ExecOptions,
        around: &Surroundings<'_>,
    ) -> Result<Session, Failure> {
        let process = process(exec, around.process);
        let order = |streams| {
            let groups = around.cgroup.v1_groups();
            let ordered = around.helper.order(number, &process, groups, streams);
            ordered.map_err(failed("order the command"))
        };
        let (streams, stage) = if exec.tty {
            let (master, slave) =
                terminal::open(around.pts.as_fd(), exec.size).map_err(failed("open a terminal"))?;
            if let Some(first) = around.first_user {
                crate::sandbox::give_to(&slave, first);
            }
            let stage = order([slave.as_fd(); 3])?;
            let streams = Streams::terminal(master, exec.stdin).map_err(failed("dup"))?;
            (streams, stage)
        } else {
            let (streams, stdio) = Streams::pipes(exec.stdin).map_err(failed("make pipes"))?;
            stdio.give_to(around.first_user);
            let Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } = &stdio
            else {
                return Err(failed("make pipes")("they are a terminal"));
            };
            let stdin = stdin.as_ref().unwrap_or(around.null);
            let stage = order([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
            (streams, stage)
        };
        Ok(Session {
            number,
            id: crate::container::ContainerId::random().to_string(),
            command: process.arguments.join(" "),
            pid: 0,
            stage: Some(stage),
            streams,
            tty: exec.tty,
        })
    }

    /// Hears the stage, which has something to say.
    pub(super) fn hear_stage(&mut self) -> Option<Begun> {
        let stage = self.stage.take()?;
        let mut buffer = vec![0; message::LONGEST];
        let heard = sys::fds::receive(&stage, &mut buffer, &mut Vec::new());
        Some(match heard.map(|count| &buffer[..count]) {
            Ok([message::CLONED, pid @ ..]) => {
                self.pid = crate::frame::number(pid).unwrap_or(0);
                self.stage = Some(stage);
                return None;
            }
            Ok([message::FAILED, code, words @ ..]) => Begun::Failed(Failure {
                code: *code,
                words: String::from_utf8_lossy(words).into_owned(),
            }),
            // Its exec has closed the socket; or it was killed, which its end will tell.
            _ => Begun::Started,
        })
    }
}

fn process(exec: &ExecOptions, own: &Process) -> Process {
    let own = own.clone();
    let mut env = merge_env(&own.env, &exec.env);
    if exec.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    Process {
        arguments: exec.arguments.clone(),
        env,
        working_dir: exec.working_dir.clone().unwrap_or(own.working_dir),
        user: exec.user.clone().unwrap_or(own.user),
        capabilities: match exec.privileged {
            true => Capabilities::ALL,
            false => own.capabilities,
        },
        ..own
    }
}
