//! A request's head: method, path, query, headers.

use std::fmt;

use super::api_error::ApiError;

/// How a request's body is delimited, RFC 9112 section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks until an empty one.
    Chunked,
}

/// What is asked for, before any of its body.
#[derive(Debug)]
pub(super) struct Request {
    /// `GET`, `POST`, ...
    pub(super) method: String,
    /// The path without the version, decoded, cut at its slashes.
    pub(super) path: Vec<String>,
    /// What follows the question mark.
    pub(super) query: Query,
    /// The API version of the path; the newest if it has none.
    pub(super) version: ApiVersion,
    /// How its body is delimited.
    pub(super) framing: Framing,
    /// Whether the client speaks HTTP/1.0, to which chunks mean nothing.
    pub(super) is_old: bool,
    headers: Vec<(String, String)>,
}

/// A version of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

impl ApiVersion {
    /// The newest that is spoken: Docker 28.1's.
    pub(super) const NEWEST: ApiVersion = ApiVersion(1, 50);
    /// The oldest: Docker 1.12's, below which current engines do not go.
    pub(super) const OLDEST: ApiVersion = ApiVersion(1, 24);

    /// Reads `v1.41`.
    fn parse(segment: &str) -> Option<ApiVersion> {
        let (major, minor) = segment.strip_prefix('v')?.split_once('.')?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        Some(ApiVersion(number(major)?, number(minor)?))
    }

    fn check(self) -> Result<(), ApiError> {
        if self < ApiVersion::OLDEST {
            return Err(ApiError::bad(format_args!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your client to \
                 a newer version",
                ApiVersion::OLDEST
            )));
        }
        if self > ApiVersion::NEWEST {
            return Err(ApiError::bad(format_args!(
                "client version {self} is too new. Maximum supported API version is {}",
                ApiVersion::NEWEST
            )));
        }
        Ok(())
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Request {
    /// Reads a head that `httparse` has taken apart.
    pub(super) fn of(parsed: &httparse::Request<'_, '_>) -> Result<Request, ApiError> {
        let headers: Vec<(String, String)> = parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value);
                (header.name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let target = parsed.path.unwrap_or_default();
        // A proxy's form: `http://host/path`.
        let target = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut path: Vec<String> = decoded(path, false)?
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(str::to_owned)
            .collect();
        let mut version = ApiVersion::NEWEST;
        if let Some(asked) = path.first().and_then(|first| ApiVersion::parse(first)) {
            asked.check()?;
            version = asked;
            path.remove(0);
        }
        let mut request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path,
            query: Query::parse(query)?,
            version,
            framing: Framing::Length(0),
            is_old: parsed.version == Some(0),
            headers,
        };
        request.framing = request.read_framing()?;
        Ok(request)
    }

    /// Returns a header's value; names are in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// Returns whether a header that is a list has this member.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(key, value)| {
            let mut members = value.split(',');
            key == name && members.any(|member| member.trim().eq_ignore_ascii_case(token))
        })
    }

    /// Whoever reads a length where others read chunks takes a part of the body for the next request: refused, as RFC
    /// 9112 section 6.1 allows.
    fn read_framing(&self) -> Result<Framing, ApiError> {
        let values = |name: &'static str| {
            let headers = self.headers.iter();
            headers.filter_map(move |(key, value)| (key == name).then_some(value.as_str()))
        };
        let mut lengths = values("content-length");
        let mut encodings = values("transfer-encoding");
        match (lengths.next(), encodings.next()) {
            (Some(_), Some(_)) => Err(ApiError::bad("both a length and an encoding are given")),
            (None, Some(encoding)) if encoding.eq_ignore_ascii_case("chunked") => {
                match encodings.next() {
                    None => Ok(Framing::Chunked),
                    Some(_) => Err(ApiError::bad("several transfer encodings")),
                }
            }
            (None, Some(encoding)) => Err(ApiError::new(
                501,
                format_args!("unsupported transfer encoding: {encoding}"),
            )),
            (Some(length), None) => {
                let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
                match length.parse() {
                    Ok(length) if is_number && lengths.next().is_none() => {
                        Ok(Framing::Length(length))
                    }
                    _ => Err(ApiError::bad(format_args!("bad Content-Length {length:?}"))),
                }
            }
            (None, None) => Ok(Framing::Length(0)),
        }
    }
}

/// A query's parameters.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Query, ApiError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        };
        Ok(Query(pairs.map(pair).collect::<Result<_, ApiError>>()?))
    }

    /// Returns a parameter that is given and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        values.into_iter().find(|value| !value.is_empty())
    }

    /// Returns every value of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let pairs = self.0.iter();
        pairs
            .filter_map(|(key, value)| (key == name).then_some(value.as_str()))
            .collect()
    }

    /// Returns a parameter as Docker reads truths: all but nothing, `0`, `no`, `false` and `none` are true.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            let value = value.trim().to_ascii_lowercase();
            !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// Returns a parameter that is true unless it says otherwise.
    pub(super) fn is_true_or_absent(&self, name: &str) -> bool {
        self.get(name).is_none() || self.is_true(name)
    }

    /// Returns a parameter that is a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.parse().map_err(|_| {
            ApiError::bad(format_args!(
                "strconv.Atoi: parsing {value:?}: invalid syntax"
            ))
        });
        number.map(Some)
    }

    /// Returns `filters` as the command line writes them, `key=value`: either of Docker's two forms,
    /// `{"key":["value"]}` and `{"key":{"value":true}}`.
    pub(super) fn filters(&self) -> Result<Vec<String>, ApiError> {
        let Some(text) = self.get("filters") else {
            return Ok(Vec::new());
        };
        let invalid = || ApiError::bad("invalid filter");
        let parsed: serde_json::Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = Vec::new();
        for (key, values) in parsed.as_object().ok_or_else(invalid)? {
            match values {
                serde_json::Value::Array(values) => {
                    for value in values {
                        filters.push(format!("{key}={}", value.as_str().ok_or_else(invalid)?));
                    }
                }
                serde_json::Value::Object(values) => {
                    let wanted = values.iter().filter(|(_, wanted)| **wanted == true);
                    filters.extend(wanted.map(|(value, _)| format!("{key}={value}")));
                }
                _ => return Err(invalid()),
            }
        }
        Ok(filters)
    }
}

/// Returns text without percent escapes.
fn decoded(text: &str, is_form: bool) -> Result<String, ApiError> {
    let invalid = || ApiError::bad(format_args!("invalid URL escape in {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = after.split_at_checked(2).ok_or_else(invalid)?;
                let digits = std::str::from_utf8(digits).map_err(|_| invalid())?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(invalid());
                }
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| invalid())?);
                rest = after;
            }
            b'+' if is_form => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Result<Request, ApiError> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(head.as_bytes()).expect("a head");
        Request::of(&parsed)
    }

    #[test]
    fn paths_are_cut_and_decoded_and_versions_taken_off() {
        let request = request("GET /v1.41/images/a%2Fb/json?x=1+2&y=%7B%7D&x=3 HTTP/1.1\r\n\r\n");
        let request = request.expect("a request");
        assert_eq!(request.path, ["images", "a", "b", "json"]);
        assert_eq!(request.version, ApiVersion(1, 41));
        assert_eq!(request.query.all("x"), ["1 2", "3"]);
        assert_eq!(request.query.get("y"), Some("{}"));
    }

    #[test]
    fn versions_have_bounds() {
        for (version, words) in [
            (
                "v1.23",
                "client version 1.23 is too old. Minimum supported API version is 1.24",
            ),
            (
                "v1.51",
                "client version 1.51 is too new. Maximum supported API version is 1.50",
            ),
        ] {
            let refused = request(&format!("GET /{version}/info HTTP/1.1\r\n\r\n"));
            let refused = refused.expect_err("refused");
            assert!(refused.message().contains(words), "{}", refused.message());
        }
        let plain = request("GET /vx.y/info HTTP/1.1\r\n\r\n").expect("a request");
        assert_eq!(plain.path, ["vx.y", "info"]);
    }

    #[test]
    fn ambiguous_bodies_are_refused() {
        for headers in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +1",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
            assert!(request(&head).is_err(), "{headers}");
        }
    }

    #[test]
    fn filters_come_in_two_forms() {
        for form in [
            r#"{"label":["a=b","c"],"status":["exited"]}"#,
            r#"{"label":{"a=b":true,"c":true,"d":false},"status":{"exited":true}}"#,
        ] {
            let query = Query(vec![("filters".to_owned(), form.to_owned())]);
            let filters = query.filters().expect("filters");
            assert_eq!(filters, ["label=a=b", "label=c", "status=exited"]);
        }
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#] {
            let query = Query(vec![("filters".to_owned(), bad.to_owned())]);
            assert!(query.filters().is_err(), "{bad}");
        }
    }

    #[test]
    fn truths_are_docker_s() {
        let query = Query::parse("a=1&b=0&c=False&d=&e=yes&f").expect("a query");
        let is_true = |name: &str| query.is_true(name);
        assert!(is_true("a") && is_true("e"));
        assert!(!is_true("b") && !is_true("c") && !is_true("d") && !is_true("f"));
        assert!(query.is_true_or_absent("g"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for bad in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert!(decoded(bad, false).is_err(), "{bad}");
        }
    }
}
