//! Commands that a service has run in its containers: `post_start` right after a start, `pre_stop` before a stop.

use runtime::attach::Heard;
use runtime::container::ContainerError;
use runtime::container::ExecOptions;

use super::members::Member;
use super::model::Hook;
use super::project::Project;
use super::report::Report;
use crate::command_error::CommandError;
use crate::terminal;

/// When hooks are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Started,
    Stopping,
}

/// Runs the hooks of a container's service one after the other; the first that fails is the last.
pub(crate) fn run(
    engine: &runtime::Engine,
    project: &Project,
    member: &Member,
    moment: Moment,
    report: &Report,
) -> Result<(), CommandError> {
    let service = project.services.get(&member.service);
    let hooks = service
        .filter(|_| !member.is_one_off)
        .map(|it| match moment {
            Moment::Started => &it.post_start,
            Moment::Stopping => &it.pre_stop,
        });
    for hook in hooks.into_iter().flatten() {
        match run_one(engine, member, hook, report) {
            Ok(0) => {}
            Ok(code) => {
                let service = &member.service;
                return Err(CommandError::failed(format_args!(
                    "{service} hook exited with status {code}"
                )));
            }
            // It has ended by itself meanwhile, or cannot run anything.
            Err(
                ContainerError::NotRunning(_)
                | ContainerError::Paused(_)
                | ContainerError::Restarting(_)
                | ContainerError::NoSuchContainer(_),
            ) if moment == Moment::Stopping => return Ok(()),
            Err(error) => return Err(CommandError::failed(error)),
        }
    }
    Ok(())
}

/// Runs a hook, passing on what it says; returns its exit code.
fn run_one(
    engine: &runtime::Engine,
    member: &Member,
    hook: &Hook,
    report: &Report,
) -> Result<i32, ContainerError> {
    let env = hook.environment.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    });
    let options = ExecOptions {
        arguments: hook.command.clone().unwrap_or_default(),
        env: env.collect(),
        working_dir: hook.working_dir.clone(),
        user: hook.user.clone(),
        privileged: hook.privileged,
        ..ExecOptions::default()
    };
    let mut attachment = engine.exec_container(member.id(), options)?;
    let mut line = Vec::new();
    loop {
        let heard = attachment.hear().map_err(ContainerError::Monitor)?;
        match heard {
            Some(Heard::Stdout(bytes) | Heard::Stderr(bytes)) => line.extend(bytes),
            Some(Heard::Exit(code)) => {
                say(member, &mut line, true, report);
                return Ok(code);
            }
            None => return Err(ContainerError::NotRunning(member.container.id.clone())),
        }
        say(member, &mut line, false, report);
    }
}

/// Shows whole lines behind the container's name; at the end also what is no whole one.
fn say(member: &Member, line: &mut Vec<u8>, is_end: bool, report: &Report) {
    if is_end && !line.is_empty() {
        line.push(b'\n');
    }
    while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
        let whole: Vec<u8> = line.drain(..=end).collect();
        let text = String::from_utf8_lossy(&whole);
        let text = terminal::escaped(text.trim_end());
        report.say(format_args!("{} ->  | {text}", member.short_name()));
    }
}
