//! The labels by which Compose, ours and Docker's, finds what is a project's.

pub(crate) const PROJECT: &str = "com.docker.compose.project";
pub(crate) const SERVICE: &str = "com.docker.compose.service";
pub(crate) const NUMBER: &str = "com.docker.compose.container-number";
pub(crate) const ONE_OFF: &str = "com.docker.compose.oneoff";
pub(crate) const SLUG: &str = "com.docker.compose.slug";
pub(crate) const CONFIG_HASH: &str = "com.docker.compose.config-hash";
pub(crate) const IMAGE: &str = "com.docker.compose.image";
pub(crate) const DEPENDS_ON: &str = "com.docker.compose.depends_on";
pub(crate) const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
pub(crate) const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
pub(crate) const VERSION: &str = "com.docker.compose.version";
pub(crate) const REPLACE: &str = "com.docker.compose.replace";
pub(crate) const NETWORK: &str = "com.docker.compose.network";
pub(crate) const VOLUME: &str = "com.docker.compose.volume";

/// The version that is told: labels and behaviour are those of this release of Compose.
pub(crate) const OUR_VERSION: &str = "2.36.0";
