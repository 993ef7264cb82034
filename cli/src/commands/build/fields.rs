//! Flags whose values have fields: `type=local,dest=out`, a line of comma-separated values as BuildKit reads them.

use std::io;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use runtime::build::CacheExport;
use runtime::build::CacheStore;
use runtime::build::ContextSource;
use runtime::build::Destination;
use runtime::build::NamedContext;
use runtime::build::Output;
use runtime::build::SecretSource;
use runtime::reference::Reference;

/// The fields of a value.
#[derive(Debug, Clone)]
struct Fields {
    left: Vec<(String, String)>,
}

impl Fields {
    fn parse(text: &str) -> Result<Fields, String> {
        let left = split(text)?
            .into_iter()
            .map(|field| match field.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.to_owned())),
                None => Err(format!("invalid value {field}")),
            });
        Ok(Fields {
            left: left.collect::<Result<_, _>>()?,
        })
    }

    /// Takes a field out; the last of several counts.
    fn take(&mut self, keys: &[&str]) -> Option<String> {
        let mut taken = None;
        self.left.retain_mut(|(key, value)| {
            let is_it = keys.contains(&key.as_str());
            if is_it {
                taken = Some(std::mem::take(value));
            }
            !is_it
        });
        taken
    }

    fn take_bool(&mut self, key: &'static str) -> Result<bool, String> {
        match self.take(&[key]).as_deref() {
            None => Ok(false),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True" | "") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(format!("invalid value {other:?} for {key}")),
        }
    }

    /// Takes away what says how blobs are stored: they are as this says, or nobody sees a difference.
    fn take_storage(&mut self) -> Result<(), String> {
        match self.take(&["compression"]).as_deref() {
            None | Some("gzip") => {}
            Some(other) => return Err(format!("unsupported compression {other}: layers are gzip")),
        }
        self.take(&[
            "compression-level",
            "force-compression",
            "oci-mediatypes",
            "image-manifest",
            "ignore-error",
            "name-canonical",
            "store",
            "unpack",
            "rewrite-timestamp",
            "platform-split",
        ]);
        Ok(())
    }

    /// Says that what is left over is not known.
    fn end(self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some((key, value)) => Err(format!("unexpected key '{key}' in '{key}={value}'")),
        }
    }
}

/// Splits at commas; a field in double quotes may hold some, and a quote doubled.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let (mut is_quoted, mut is_at_start) = (false, true);
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is one");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if is_at_start => is_quoted = true,
            ',' if !is_quoted => {
                fields.push(String::new());
                is_at_start = true;
                continue;
            }
            other => field.push(other),
        }
        is_at_start = false;
    }
    match is_quoted {
        true => Err(format!("unterminated quote in {text}")),
        false => Ok(fields),
    }
}

/// Reads `--output`: fields, or a directory, or `-` for a tar.
pub(super) fn output(text: &str) -> Result<Output, String> {
    if text == "-" {
        return to_stdout("tar").map(Output::Tar);
    }
    if !text.contains('=') && !text.starts_with("type") {
        return Ok(Output::Local(text.into()));
    }
    let mut fields = Fields::parse(text)?;
    let kind = fields
        .take(&["type"])
        .ok_or("type is required for output")?;
    let destination = fields.take(&["dest", "destination"]);
    let destination = destination.filter(|path| !path.is_empty());
    let file = |kind| match destination.as_deref() {
        None | Some("-") => to_stdout(kind),
        Some(path) => Ok(Destination::File(path.into())),
    };
    let output = match kind.as_str() {
        "cacheonly" => Output::Cache,
        "local" => {
            let directory = destination.ok_or("dest is required for local output")?;
            Output::Local(directory.into())
        }
        "tar" => Output::Tar(file("tar")?),
        "oci" => Output::Oci(file("oci")?),
        "docker" if destination.is_some() => Output::Docker(file("docker")?),
        "docker" | "image" | "registry" => {
            let names = fields.take(&["name"]).unwrap_or_default();
            let names = names.split(',').filter(|name| !name.is_empty());
            Output::Image {
                names: names.map(tag).collect::<Result<_, _>>()?,
                push: fields.take_bool("push")? || kind == "registry",
            }
        }
        other => return Err(format!("unknown output type: {other}")),
    };
    fields.take_storage()?;
    fields.end()?;
    Ok(output)
}

fn to_stdout(kind: &str) -> Result<Destination, String> {
    match io::stdout().is_terminal() {
        true => Err(format!(
            "dest file is required for {kind} exporter. refusing to write to console"
        )),
        false => Ok(Destination::Stdout),
    }
}

/// Reads `--secret`; one without a source is the variable of its name, or else the file.
pub(super) fn secret(text: &str) -> Result<(String, SecretSource), String> {
    let mut fields = Fields::parse(text)?;
    let kind = fields.take(&["type"]);
    let file = fields.take(&["source", "src"]);
    let variable = fields.take(&["env"]);
    let id = fields.take(&["id"]).filter(|id| !id.is_empty());
    fields.end()?;
    let id = id.ok_or("secret missing ID")?;
    let source = match (kind.as_deref(), file, variable) {
        (None | Some("file"), Some(file), None) => SecretSource::File(file.into()),
        (Some("env"), Some(variable), None) | (None | Some("env"), None, Some(variable)) => {
            SecretSource::Env(variable)
        }
        (None | Some("env"), None, None) if std::env::var_os(&id).is_some() => {
            SecretSource::Env(id.clone())
        }
        (None | Some("file"), None, None) => SecretSource::File(id.clone().into()),
        (Some("env"), None, None) => SecretSource::Env(id.clone()),
        (Some(kind), ..) if kind != "file" && kind != "env" => {
            return Err(format!("unsupported secret type {kind:?}"));
        }
        _ => return Err(format!("secret {id} has more than one source")),
    };
    if let SecretSource::File(path) = &source
        && let Err(error) = std::fs::metadata(path)
    {
        let (path, words) = (path.display(), crate::words::of(&error));
        return Err(format!("failed to stat {path}: stat {path}: {words}"));
    }
    Ok((id, source))
}

/// Reads `--ssh`: an id and the agent's socket, ours if none is stated.
pub(crate) fn agent(text: &str) -> Result<(String, PathBuf), String> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, PathBuf::from(socket)),
        None => {
            let ours = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
            let ours =
                ours.ok_or("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")?;
            (text, PathBuf::from(ours))
        }
    };
    let shown = socket.display();
    let stat = std::fs::metadata(&socket)
        .map_err(|error| format!("failed to stat {shown}: {}", crate::words::of(&error)))?;
    match std::os::unix::fs::FileTypeExt::is_socket(&stat.file_type()) {
        true => Ok((id.to_owned(), socket)),
        false => Err(format!("{shown} is not the socket of an agent")),
    }
}

/// Reads `--cache-from`: fields, or the name of an image.
pub(crate) fn cache_from(text: &str) -> Result<CacheStore, String> {
    if !text.contains('=') {
        return name(text).map(CacheStore::Registry);
    }
    let mut fields = Fields::parse(text)?;
    let store = store(&mut fields, &["src", "source"])?;
    fields.end()?;
    Ok(store)
}

/// Reads `--cache-to`.
pub(crate) fn cache_to(text: &str) -> Result<CacheExport, String> {
    if !text.contains('=') {
        return Ok(CacheExport::Store {
            to: CacheStore::Registry(name(text)?),
            all: false,
        });
    }
    let mut fields = Fields::parse(text)?;
    if fields
        .left
        .iter()
        .any(|(key, kind)| key == "type" && kind == "inline")
    {
        fields.take(&["type"]);
        fields.take_storage()?;
        fields.end()?;
        return Ok(CacheExport::Inline);
    }
    let all = match fields.take(&["mode"]).as_deref() {
        None | Some("min") => false,
        Some("max") => true,
        Some(other) => return Err(format!("invalid cache mode: {other}")),
    };
    let to = store(&mut fields, &["dest", "destination"])?;
    fields.take_storage()?;
    fields.end()?;
    Ok(CacheExport::Store { to, all })
}

fn store(fields: &mut Fields, directory: &[&'static str]) -> Result<CacheStore, String> {
    match fields.take(&["type"]).as_deref() {
        Some("registry") => {
            let reference = fields
                .take(&["ref"])
                .ok_or("ref is required for a registry cache")?;
            name(&reference).map(CacheStore::Registry)
        }
        Some("local") => {
            let key = directory[0];
            let path = fields.take(directory);
            let path = path.ok_or_else(|| format!("{key} is required for a local cache"))?;
            Ok(CacheStore::Local(path.into()))
        }
        Some(other) => Err(format!("unknown cache type: {other}")),
        None => Err("type required form> \"type=value\"".to_owned()),
    }
}

/// Reads `--build-context`: `name=` a directory, `docker-image://`, a git repository or the address of a tar.
pub(super) fn named_context(text: &str) -> Result<(String, NamedContext), String> {
    let invalid = || format!("invalid context value: {text}, expected key=value");
    let (name, value) = text.split_once('=').ok_or_else(invalid)?;
    if name.is_empty() || value.is_empty() {
        return Err(invalid());
    }
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        NamedContext::Image(image.to_owned())
    } else if let Some(ContextSource::Git(address)) = ContextSource::of_address(value) {
        NamedContext::Git(address)
    } else if let Some(ContextSource::Url(address)) = ContextSource::of_address(value) {
        NamedContext::Url(address)
    } else if let Some((scheme, _)) = value.split_once("://") {
        return Err(format!("unsupported context source {scheme} for {name}"));
    } else if std::path::Path::new(value).is_dir() {
        NamedContext::Directory(value.into())
    } else {
        return Err(format!(
            "failed to get build context {name}: path {value:?} not found"
        ));
    };
    Ok((name.to_owned(), context))
}

/// Reads a name for the image.
pub(super) fn tag(text: &str) -> Result<Reference, String> {
    let reference = name(text)?;
    match reference.is_pinned() {
        true => Err("refusing to create a tag with a digest reference".to_owned()),
        false => Ok(reference.or_latest()),
    }
}

fn name(text: &str) -> Result<Reference, String> {
    text.parse::<Reference>().map_err(|error| error.to_string())
}

/// Reads `--label`; a name alone has no value.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err(format!("invalid label '{text}': empty name")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

/// Reads `--add-host`, `name:address` or `name=address`, for the engine's `name:address`.
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = split.ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let is_address = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
    match name.is_empty() || !is_address {
        true => Err(format!("invalid IP address in add-host: {address:?}")),
        false => Ok(format!("{name}:{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated_by_commas_that_are_not_quoted() {
        assert_eq!(split("a=1,b=2"), Ok(vec!["a=1".into(), "b=2".into()]));
        assert_eq!(
            split("\"name=x,y\",b=\"2"),
            Ok(vec!["name=x,y".into(), "b=\"2".into()])
        );
        assert_eq!(split("\"a=\"\"q\"\"\""), Ok(vec!["a=\"q\"".into()]));
        assert!(split("\"a=1").is_err());
    }

    #[test]
    fn outputs_are_directories_archives_and_images() {
        assert_eq!(output("out"), Ok(Output::Local("out".into())));
        assert_eq!(
            output("type=local,dest=out"),
            Ok(Output::Local("out".into()))
        );
        assert_eq!(
            output("type=oci,dest=x.tar"),
            Ok(Output::Oci(Destination::File("x.tar".into())))
        );
        let image = |names: &[&str], push| {
            let names = names
                .iter()
                .map(|name| tag(name).expect("a name"))
                .collect();
            Ok(Output::Image { names, push })
        };
        assert_eq!(output("type=docker"), image(&[], false));
        assert_eq!(
            output("type=registry,name=a/b"),
            image(&["a/b:latest"], true)
        );
        assert_eq!(
            output("type=image,\"name=a:1,b:2\",push=false"),
            image(&["a:1", "b:2"], false)
        );
        for wrong in ["type=local", "type=nosuch", "dest=x", "type=oci,dest=x,q=1"] {
            assert!(output(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cache_is_in_a_registry_a_directory_or_the_image() {
        let registry = |text: &str| CacheStore::Registry(name(text).expect("a name"));
        assert_eq!(cache_from("a/b:c"), Ok(registry("a/b:c")));
        assert_eq!(
            cache_from("type=local,src=d"),
            Ok(CacheStore::Local("d".into()))
        );
        assert_eq!(
            cache_to("type=registry,ref=a/b,mode=max"),
            Ok(CacheExport::Store {
                to: registry("a/b"),
                all: true
            })
        );
        assert_eq!(cache_to("type=inline"), Ok(CacheExport::Inline));
        for wrong in ["type=gha", "type=local,dest=d,mode=all", "ref=a"] {
            assert!(cache_to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_has_a_name_and_an_address() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra_host("a=[::1]"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:::1"), Ok("a:::1".into()));
        for wrong in ["a", ":1.2.3.4", "a:b"] {
            assert!(extra_host(wrong).is_err(), "{wrong}");
        }
    }
}
