//! Further commands in a container that runs.

use serde::Deserialize;
use serde::Serialize;

use super::ContainerError;
use super::Status;
use crate::Engine;
use crate::attach::Attachment;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;

/// What to execute; what is `None` is as the container has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The command and its arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`, over the container's environment.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Who it runs as: `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Whether it has every capability.
    pub privileged: bool,
    /// Whether it has a terminal of its own.
    pub tty: bool,
    /// Whether its standard input comes from the attachment; else it has none.
    pub stdin: bool,
    /// The terminal's rows and columns.
    pub size: (u16, u16),
}

impl Engine {
    /// Runs a further command in a running container. It goes on when the attachment is dropped, and ends with the
    /// container.
    pub fn exec_container(
        &self,
        name: &str,
        options: ExecOptions,
    ) -> Result<Attachment, ContainerError> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Running => {}
            Status::Paused => return Err(ContainerError::Paused(name.to_owned())),
            Status::Restarting => return Err(ContainerError::Restarting(container.id)),
            _ => return Err(ContainerError::NotRunning(container.id)),
        }
        let directory = options.working_dir.as_deref();
        if directory.is_some_and(|directory| !directory.starts_with('/')) {
            return Err(ContainerError::Start {
                code: 126,
                words: "Cwd must be an absolute path".to_owned(),
            });
        }
        let stream = self.ask(&container.id, &Request::Exec(Box::new(options)))?;
        match frame::read(&stream).map_err(ContainerError::Monitor)? {
            Some((Kind::Started, pid)) => {
                let attachment = Attachment::new(stream).map_err(ContainerError::Monitor)?;
                Ok(attachment.of_process(frame::number(&pid).unwrap_or(0)))
            }
            Some((Kind::Failed, payload)) => Err(ContainerError::start(&payload)),
            _ => Err(ContainerError::NotRunning(container.id)),
        }
    }
}
