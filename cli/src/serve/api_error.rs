//! The one error of the API: a status and `{"message": ...}`.

use std::fmt;
use std::io;

use runtime::container::ContainerError;
use runtime::copy::CopyError;
use runtime::events::EventError;
use runtime::image::ImageError;
use runtime::registry::RegistryError;

/// An error as a client sees it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: u16,
    message: String,
}

impl ApiError {
    /// Returns an error with this status.
    pub(super) fn new(status: u16, message: impl fmt::Display) -> ApiError {
        ApiError {
            status,
            message: message.to_string(),
        }
    }

    /// Returns an error of what the client has asked.
    pub(super) fn bad(message: impl fmt::Display) -> ApiError {
        ApiError::new(400, message)
    }

    /// Returns an error of the server's own.
    pub(super) fn internal(message: impl fmt::Display) -> ApiError {
        ApiError::new(500, message)
    }

    /// Returns the answer to paths that lead nowhere.
    pub(super) fn no_page() -> ApiError {
        ApiError::new(404, "page not found")
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for ApiError {
    fn from(error: io::Error) -> ApiError {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ApiError::bad(error),
            _ => ApiError::internal(error),
        }
    }
}

impl From<ContainerError> for ApiError {
    fn from(error: ContainerError) -> ApiError {
        let status = match &error {
            ContainerError::NoSuchContainer(_) => 404,
            ContainerError::NameInUse { .. }
            | ContainerError::NotRunning(_)
            | ContainerError::Paused(_)
            | ContainerError::StartPaused
            | ContainerError::Restarting(_)
            | ContainerError::AlreadyPaused(_)
            | ContainerError::Rename(_)
            | ContainerError::CannotAttach
            | ContainerError::CannotKill { .. }
            | ContainerError::RemoveRunning(_)
            | ContainerError::Mounted { .. } => 409,
            ContainerError::Ambiguous(_)
            | ContainerError::Invalid(_)
            | ContainerError::NoCommand => 400,
            ContainerError::Start {
                code: 126 | 127, ..
            } => 400,
            ContainerError::AlreadyRunning(_) => 304,
            ContainerError::Image(error) => status_of_image(error),
            // A client that is told 404 takes it for the image's.
            ContainerError::Network(error) => match super::networks::status_of(error) {
                404 => 400,
                status => status,
            },
            _ => 500,
        };
        ApiError::new(status, error)
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> ApiError {
        ApiError::new(status_of_image(&error), error)
    }
}

fn status_of_image(error: &ImageError) -> u16 {
    match error {
        ImageError::NoSuchImage(_) | ImageError::NoPlatform(_) => 404,
        ImageError::Conflict(_) => 409,
        ImageError::Ambiguous(_)
        | ImageError::Reference(_)
        | ImageError::InvalidPlatform(_)
        | ImageError::InvalidFilter(_)
        | ImageError::InvalidChange(_) => 400,
        ImageError::Registry(
            RegistryError::ManifestUnknown { .. }
            | RegistryError::NameUnknown { .. }
            | RegistryError::Denied { .. },
        ) => 404,
        _ => 500,
    }
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> ApiError {
        match error {
            CopyError::Container(error) => error.into(),
            CopyError::NotInContainer { .. } => ApiError::new(404, error),
            CopyError::NoDirectory(_) | CopyError::DirectoryToFile(_) => ApiError::bad(error),
            CopyError::ReadOnly => ApiError::new(403, error),
            CopyError::Unpack(_) => ApiError::bad(error),
            error => ApiError::internal(error),
        }
    }
}

impl From<EventError> for ApiError {
    fn from(error: EventError) -> ApiError {
        match error {
            EventError::InvalidFilter(_) | EventError::SinceAfterUntil { .. } => {
                ApiError::bad(error)
            }
            error => ApiError::internal(error),
        }
    }
}
