//! Logins that a person keeps: `config.json` of Docker's client, and the credential helpers that it names.
//!
//! `auths` has an entry for each server. Its `auth` is the base64 of `user:password`; it is empty if a helper keeps the
//! login, `credHelpers` by the server's name, else `credsStore`. Whatever else is in the file stays. It is written beside
//! and renamed, for its owner's eyes only.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::settings::Settings;

/// What keeps a login from being stored or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum LoginStoreError {
    /// There is no place for it.
    #[error("neither DOCKER_CONFIG nor HOME is set: there is no place for a login")]
    NoPlace,
    /// The file is there and says nothing that could be kept.
    #[error("{path}: {words}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        words: String,
    },
    /// The system refused something on the file.
    #[error("{path}: {}", crate::image::words(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A credential helper could not be run, or refused.
    #[error("{program}: {words}")]
    Helper {
        /// Its program.
        program: String,
        /// What it said.
        words: String,
    },
}

/// The file and its helpers.
#[derive(Debug)]
pub struct LoginStore {
    path: PathBuf,
    content: Map<String, Value>,
}

impl LoginStore {
    /// Reads the file that the settings name; one that is not there is empty.
    pub fn open(settings: &Settings) -> Result<LoginStore, LoginStoreError> {
        let path = settings.docker_config.clone();
        let path = path.ok_or(LoginStoreError::NoPlace)?;
        // What a link leads to is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let invalid = |words: String| LoginStoreError::Invalid {
            path: path.clone(),
            words,
        };
        let content = match fs::read(&path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Map::new(),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(content)) => content,
                Ok(_) => return Err(invalid("not a JSON object".to_owned())),
                Err(error) => return Err(invalid(error.to_string())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(source) => return Err(LoginStoreError::Io { path, source }),
        };
        Ok(LoginStore { path, content })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether there is a login for a server.
    pub fn has(&self, server: &str) -> bool {
        let auths = self.content.get("auths");
        auths.is_some_and(|auths| auths.get(server).is_some())
    }

    /// Keeps a login; returns whether it lies in the file, readable for whoever may read that.
    pub fn keep(
        &mut self,
        server: &str,
        user: &str,
        password: &str,
    ) -> Result<bool, LoginStoreError> {
        let helper = self.helper(server);
        let entry = match &helper {
            Some(program) => {
                let login = json!({ "ServerURL": server, "Username": user, "Secret": password });
                ask(program, "store", &login.to_string())?;
                json!({})
            }
            None => json!({ "auth": STANDARD.encode(format!("{user}:{password}")) }),
        };
        match self.content.get_mut("auths").and_then(Value::as_object_mut) {
            Some(auths) => {
                auths.insert(server.to_owned(), entry);
            }
            None => {
                self.content
                    .insert("auths".to_owned(), json!({ server: entry }));
            }
        }
        self.write()?;
        Ok(helper.is_none())
    }

    /// Forgets a server's login.
    pub fn forget(&mut self, server: &str) -> Result<(), LoginStoreError> {
        if let Some(program) = self.helper(server) {
            ask(&program, "erase", server)?;
        }
        if let Some(auths) = self.content.get_mut("auths").and_then(Value::as_object_mut) {
            auths.remove(server);
        }
        self.write()
    }

    /// Returns the program that keeps a server's login.
    fn helper(&self, server: &str) -> Option<String> {
        let of_server = self.content.get("credHelpers");
        let of_server = of_server.and_then(|helpers| helpers.get(server));
        let helper = of_server.or_else(|| self.content.get("credsStore"));
        let name = helper
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())?;
        Some(format!("docker-credential-{name}"))
    }

    fn write(&self) -> Result<(), LoginStoreError> {
        let failed = |source| LoginStoreError::Io {
            path: self.path.clone(),
            source,
        };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(failed)?;
        let fresh = directory.join(format!(".config.json.{}", std::process::id()));
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
        let written = self
            .content
            .serialize(&mut serializer)
            .map_err(io::Error::from)
            .and_then(|()| {
                let mut options = fs::File::options();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                options.open(&fresh)?.write_all(&text)
            })
            .and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written.map_err(failed)
    }
}

/// Has a helper do something with what it is given.
fn ask(program: &str, verb: &str, input: &str) -> Result<(), LoginStoreError> {
    let failed = |words: String| LoginStoreError::Helper {
        program: program.to_owned(),
        words,
    };
    let mut helper = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(crate::image::words(&error)))?;
    if let Some(mut stdin) = helper.stdin.take() {
        // One that does not want to hear it says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = helper
        .wait_with_output()
        .map_err(|error| failed(crate::image::words(&error)))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let words = String::from_utf8_lossy(&output.stdout);
            Err(failed(crate::image::printable(words.trim())))
        }
    }
}
