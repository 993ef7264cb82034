//! A real registry on the loopback.

use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

/// Debian's docker-registry, empty; it ends with this.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Registry {
    /// Starts a registry that anybody may use.
    pub fn start() -> Registry {
        Registry::in_directory(tempfile::tempdir().expect("a directory"), "")
    }

    /// Starts a registry that knows one person.
    pub fn with_login(user: &str, password: &str) -> Registry {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("htpasswd");
        let line = super::must("htpasswd", &["-Bbn", user, password]);
        fs::write(&path, line).expect("written");
        let auth = format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
            path.display()
        );
        Registry::in_directory(dir, &auth)
    }

    fn in_directory(dir: TempDir, more: &str) -> Registry {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a port")
                .port();
            let address = format!("127.0.0.1:{port}");
            let config = dir.path().join("config.yml");
            let text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \
                 '{address}'}}\n{more}",
                dir.path().join("data").display()
            );
            fs::write(&config, text).expect("written");
            let mut command = Command::new("docker-registry");
            command
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut child = super::end_with_this_thread(&mut command)
                .spawn()
                .expect("docker-registry is installed");
            let mut is_up = false;
            super::eventually("the registry is up or gone", || {
                is_up = TcpStream::connect(&address).is_ok();
                is_up || child.try_wait().is_ok_and(|ended| ended.is_some())
            });
            // Another test may have taken the port in between.
            if is_up && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                return Registry {
                    child,
                    address,
                    _dir: dir,
                };
            }
            let _ = child.wait();
        }
        panic!("no port for the registry");
    }

    /// Returns where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the full name of an image in the registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes what skopeo calls `source` under a name.
    pub fn push(&self, source: &str, name: &str) {
        let target = format!("docker://{}", self.image(name));
        super::must(
            "skopeo",
            &[
                "copy",
                "--quiet",
                "--insecure-policy",
                "--dest-tls-verify=false",
                source,
                &target,
            ],
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
