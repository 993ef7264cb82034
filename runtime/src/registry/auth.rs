//! Logins: what a registry's challenge asks for, and the credentials a person has stored.
//!
//! RFC 7235 challenges, Basic (RFC 7617) and the token flow of the distribution project (`spec/auth/token.md`,
//! `oauth.md`). A token is asked for once per set of scopes and again when the registry says it is stale.

use std::io::Read as _;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::CredentialRetrievalError;
use docker_credential::DockerCredential;
use parking_lot::Mutex;
use ureq::http::Method;

use super::Access;
use super::error::RegistryError;
use super::http::Exchange;
use super::http::Http;
use super::http::Reply;
use super::settings::Login;
use super::settings::Settings;
use crate::reference::DEFAULT_DOMAIN;

/// The largest token answer that is read.
const LARGEST_TOKEN: u64 = 1 << 20;
/// A token that does not state its life has this (`token.md`, "expires_in").
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads all challenges of an answer.
    pub(super) fn of(reply: &Reply) -> Vec<Challenge> {
        reply
            .headers("www-authenticate")
            .flat_map(Challenge::parse)
            .collect()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a header's value: schemes with `key=value` or `key="quoted"` lists, several by commas.
    fn parse(text: &str) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let trimmed = after.trim_start_matches([' ', '\t']);
            rest = match trimmed.strip_prefix('=') {
                Some(value) if !word.is_empty() => {
                    let (value, after) = read_value(value.trim_start_matches([' ', '\t']));
                    if let Some(challenge) = challenges.last_mut() {
                        let key = word.to_ascii_lowercase();
                        challenge.parameters.push((key, value));
                    }
                    after
                }
                Some(after) => after,
                None => {
                    if !word.is_empty() {
                        challenges.push(Challenge {
                            scheme: word.to_ascii_lowercase(),
                            parameters: Vec::new(),
                        });
                    }
                    trimmed
                }
            };
            rest = rest.trim_start_matches([' ', '\t', ',']);
        }
        challenges
    }
}

/// Reads a token or a quoted string; returns it and what follows.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// Returns a registry's name as people write it, without scheme and path.
fn bare(name: &str) -> &str {
    let name = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    match name.split('/').next().unwrap_or(name) {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        name => name,
    }
}

/// The login of one client.
pub(super) struct Authority {
    /// The name under which credentials are stored.
    server: String,
    settings: Settings,
    state: Mutex<State>,
}

struct State {
    challenges: Vec<Challenge>,
    scopes: Vec<String>,
    header: Option<(String, Option<Instant>)>,
    credentials: Option<Option<DockerCredential>>,
}

impl Authority {
    /// Prepares to answer `challenges` for a repository.
    pub(super) fn new(
        domain: &str,
        path: &str,
        access: Access,
        challenges: Vec<Challenge>,
        settings: &Settings,
    ) -> Authority {
        let authority = Authority::of_registry(domain, challenges, settings);
        authority
            .state
            .lock()
            .scopes
            .push(format!("repository:{path}:{}", access.actions()));
        authority
    }

    /// Prepares to answer `challenges` for the registry itself.
    pub(super) fn of_registry(
        domain: &str,
        challenges: Vec<Challenge>,
        settings: &Settings,
    ) -> Authority {
        Authority {
            server: match domain {
                DEFAULT_DOMAIN => "https://index.docker.io/v1/".to_owned(),
                other => other.to_owned(),
            },
            settings: settings.clone(),
            state: Mutex::new(State {
                challenges,
                scopes: Vec::new(),
                header: None,
                credentials: None,
            }),
        }
    }

    /// Asks for the right to read another repository too.
    pub(super) fn add_source(&self, path: &str) {
        let mut state = self.state.lock();
        let scope = format!("repository:{path}:pull");
        if !state.scopes.contains(&scope) {
            state.scopes.push(scope);
            state.header = None;
        }
    }

    /// Sends a request with the login; once more with a fresh one if the registry refuses it.
    pub(super) fn send(
        &self,
        http: &Http,
        exchange: &Exchange<'_>,
    ) -> Result<Reply, RegistryError> {
        let header = self.header(http, exchange)?;
        let reply = http.send(exchange, header.as_deref())?;
        if reply.status != 401 {
            return Ok(reply);
        }
        let challenges = Challenge::of(&reply);
        let fresh = {
            let mut state = self.state.lock();
            // Another thread may have renewed the login meanwhile.
            let stale = state.header.as_ref().map(|(header, _)| header) == header.as_ref();
            if stale {
                state.header = None;
                if !challenges.is_empty() {
                    for scope in challenges.iter().filter_map(|one| one.parameter("scope")) {
                        if !state.scopes.iter().any(|known| known == scope) && is_scope(scope) {
                            state.scopes.push(scope.to_owned());
                        }
                    }
                    state.challenges = challenges;
                }
            }
            drop(state);
            self.header(http, exchange)?
        };
        if fresh.is_none()
            || (fresh == header && fresh.as_deref().is_some_and(|h| h.starts_with("Basic")))
        {
            return Ok(reply);
        }
        reply.drain();
        http.send(exchange, fresh.as_deref())
    }

    /// Returns the `Authorization` to send; nothing if the registry asks for none. The lock is held while a token is
    /// fetched, so that the threads of a pull ask for one between them.
    fn header(
        &self,
        http: &Http,
        exchange: &Exchange<'_>,
    ) -> Result<Option<String>, RegistryError> {
        let mut state = self.state.lock();
        if let Some((header, until)) = &state.header
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(Some(header.clone()));
        }
        let challenges = state.challenges.clone();
        let by_scheme = |scheme: &str| challenges.iter().find(|one| one.scheme == scheme);
        if let Some(bearer) = by_scheme("bearer") {
            let credentials = self.credentials(&mut state)?;
            let token = self.token(http, bearer, &state.scopes, credentials.as_ref(), exchange)?;
            state.header = Some(token.clone());
            return Ok(Some(token.0));
        }
        if by_scheme("basic").is_some() {
            return match self.credentials(&mut state)? {
                Some(DockerCredential::UsernamePassword(user, password)) => {
                    let header = basic(&user, &password);
                    state.header = Some((header.clone(), None));
                    Ok(Some(header))
                }
                _ => Err(RegistryError::NoCredentials {
                    method: exchange.method_words(),
                    url: exchange.url.to_owned(),
                }),
            };
        }
        Ok(None)
    }

    /// Returns what the person has stored for this registry, asking a credential helper once.
    fn credentials(&self, state: &mut State) -> Result<Option<DockerCredential>, RegistryError> {
        if let Some(known) = &state.credentials {
            return Ok(known.as_ref().map(clone_credential));
        }
        let brought = self.settings.login.as_ref();
        let brought = brought.or_else(|| {
            let mut logins = self.settings.logins.iter();
            let is_it = |name: &str| bare(name) == bare(&self.server);
            logins.find_map(|(name, login)| is_it(name).then_some(login))
        });
        if let Some(login) = brought {
            return Ok(Some(match login.clone() {
                Login::Password { user, password } => {
                    DockerCredential::UsernamePassword(user, password)
                }
                Login::IdentityToken(token) => DockerCredential::IdentityToken(token),
            }));
        }
        let file = self
            .settings
            .docker_config
            .as_ref()
            .and_then(|path| std::fs::File::open(path).ok());
        let found = match file {
            None => None,
            Some(file) => {
                let bounded = std::io::BufReader::new(file.take(16 << 20));
                match docker_credential::get_credential_from_reader(bounded, &self.server) {
                    Ok(credential) => Some(credential),
                    Err(CredentialRetrievalError::NoCredentialConfigured) => None,
                    // The helper knows no login for this server: anonymous, as in Docker.
                    Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                        if stdout.contains("credentials not found") =>
                    {
                        None
                    }
                    Err(error) => {
                        let words = error.to_string();
                        return Err(RegistryError::Credentials {
                            server: self.server.clone(),
                            words: crate::image::printable(
                                words.lines().next().unwrap_or_default(),
                            ),
                        });
                    }
                }
            }
        };
        state.credentials = Some(found.as_ref().map(clone_credential));
        Ok(found)
    }

    /// Fetches a token for all scopes; returns the header and until when it holds.
    fn token(
        &self,
        http: &Http,
        challenge: &Challenge,
        scopes: &[String],
        credentials: Option<&DockerCredential>,
        exchange: &Exchange<'_>,
    ) -> Result<(String, Option<Instant>), RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let realm = challenge
            .parameter("realm")
            .filter(|realm| realm.starts_with("https://") || realm.starts_with("http://"))
            .ok_or_else(|| {
                RegistryError::Protocol("no realm in the registry's Bearer challenge".into())
            })?;
        // A login that travels encrypted to the registry must not travel plainly to its token server.
        let exposed = realm.starts_with("http://") && exchange.url.starts_with("https://");
        let credentials = credentials.filter(|_| !exposed);
        let mut query: Vec<(&str, &str)> = Vec::new();
        if let Some(service) = challenge.parameter("service") {
            query.push(("service", service));
        }
        let reply = match credentials {
            Some(DockerCredential::IdentityToken(identity)) => {
                let scope = scopes.join(" ");
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", identity),
                    ("client_id", "ply"),
                    ("scope", &scope),
                ]);
                let form = encode(&query);
                let post = Exchange::new(Method::POST, realm)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .bytes(form.as_bytes());
                super::http::with_retries(&self.settings, &post, |post| http.send(post, None))?
            }
            other => {
                query.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                let login = match other {
                    Some(DockerCredential::UsernamePassword(user, password)) => {
                        query.push(("account", user));
                        Some(basic(user, password))
                    }
                    _ => None,
                };
                let separator = if realm.contains('?') { '&' } else { '?' };
                let url = format!("{realm}{separator}{}", encode(&query));
                let get = Exchange::get(&url);
                super::http::with_retries(&self.settings, &get, |get| {
                    http.send(get, login.as_deref())
                })?
            }
        };
        let bytes = reply.expect_success()?.bytes(LARGEST_TOKEN)?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Protocol(format!("invalid token answer: {error}")))?;
        let token = answer
            .token
            .filter(|token| !token.is_empty())
            .or(answer.access_token)
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| {
                RegistryError::Protocol(
                    "authorization server did not include a token in the response".into(),
                )
            })?;
        let life = answer.expires_in.map_or(TOKEN_LIFE, Duration::from_secs);
        // Renewed a little early: a request takes its time to arrive.
        let until = Instant::now() + life.mul_f64(0.9).min(Duration::from_secs(86_400));
        Ok((format!("Bearer {token}"), Some(until)))
    }
}

fn is_scope(text: &str) -> bool {
    text.len() < 1024
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn clone_credential(credential: &DockerCredential) -> DockerCredential {
    match credential {
        DockerCredential::IdentityToken(token) => DockerCredential::IdentityToken(token.clone()),
        DockerCredential::UsernamePassword(user, password) => {
            DockerCredential::UsernamePassword(user.clone(), password.clone())
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Writes pairs as a query or form.
pub(super) fn encode(pairs: &[(&str, &str)]) -> String {
    let quote = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(char::from(byte));
                }
                other => out.push_str(&format!("%{other:02X}")),
            }
        }
        out
    };
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{}={}", quote(key), quote(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_all_their_spellings() {
        let read = Challenge::parse(
            r#"Bearer realm="https://auth.example/token",service="a, \"b\"",scope="repository:x:pull,push", Basic realm=x"#,
        );
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].scheme, "bearer");
        assert_eq!(
            read[0].parameter("realm"),
            Some("https://auth.example/token")
        );
        assert_eq!(read[0].parameter("service"), Some("a, \"b\""));
        assert_eq!(read[0].parameter("scope"), Some("repository:x:pull,push"));
        assert_eq!(read[1].scheme, "basic");
        assert_eq!(read[1].parameter("realm"), Some("x"));
        for odd in [
            "",
            ",",
            "=",
            "Basic",
            "Bearer =",
            "Bearer realm=\"",
            "Bearer realm=\"\\",
            "a=b",
        ] {
            Challenge::parse(odd);
        }
    }

    #[test]
    fn a_query_is_quoted() {
        assert_eq!(
            encode(&[("scope", "a:b c"), ("x", "é")]),
            "scope=a%3Ab%20c&x=%C3%A9"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_breaks_the_reader(text in "([a-zA-Z]{0,6}|[ ,=\"\\\\]|.){0,60}") {
            Challenge::parse(&text);
        }
    }
}
