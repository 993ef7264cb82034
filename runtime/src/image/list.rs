//! Finding images: one by name, id or prefix of its id; all that fit filters.

use jiff::Timestamp;
use layerfs::ChainId;
use layerfs::Digest;
use rusqlite::Connection;

use super::Image;
use super::ImageError;
use super::ImageId;
use super::config;
use super::rows;
use crate::Engine;
use crate::reference::Reference;

/// Which images to list; every filter given must fit.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Only images without (`true`) or with (`false`) a name.
    pub dangling: Option<bool>,
    /// Patterns of familiar names (`deb*`, `foo/*:1.?`), one of which must fit.
    pub references: Vec<String>,
    /// Only images made before this one.
    pub before: Option<String>,
    /// Only images made after this one.
    pub since: Option<String>,
    /// Labels, `key` or `key=value`, all of which must be there.
    pub labels: Vec<String>,
    /// Labels, none of which may be there.
    pub without_labels: Vec<String>,
    /// Only images made before this time.
    pub until: Option<Timestamp>,
}

impl ImageFilter {
    /// Adds a `key=value` as `--filter` takes it.
    pub fn add(&mut self, filter: &str) -> Result<(), ImageError> {
        let invalid = || ImageError::InvalidFilter(super::printable(filter));
        let (key, value) = filter.split_once('=').ok_or_else(|| {
            ImageError::Malformed("bad format of filter (expected name=value)".into())
        })?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match key.as_str() {
            "dangling" => {
                self.dangling = Some(match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => {
                        return Err(ImageError::InvalidFilter(format!(
                            "dangling=[{}]",
                            super::printable(value)
                        )));
                    }
                });
            }
            "reference" => self.references.push(value.to_owned()),
            "before" => self.before = Some(value.to_owned()),
            "since" => self.since = Some(value.to_owned()),
            "label" => self.labels.push(value.to_owned()),
            "until" => self.until = Some(point_in_time(value).ok_or_else(invalid)?),
            _ => return Err(ImageError::InvalidFilter(super::printable(&key))),
        }
        Ok(())
    }

    /// Adds a `key=value` of a prune, which knows labels that must not be there (`label!=...`) too.
    pub fn add_of_prune(&mut self, filter: &str) -> Result<(), ImageError> {
        match filter.split_once("!=") {
            Some(("label", value)) => self.without_labels.push(value.to_owned()),
            _ => self.add(filter)?,
        }
        Ok(())
    }

    /// Returns whether an image's labels and name state fit.
    fn fits(&self, image: &Image) -> bool {
        let labels = image.config.labels_of_config();
        let has_label = |wanted: &String| match (labels, wanted.split_once('=')) {
            (None, _) => false,
            (Some(labels), Some((key, value))) => labels.get(key).is_some_and(|has| has == value),
            (Some(labels), None) => labels.contains_key(wanted),
        };
        self.dangling
            .is_none_or(|wanted| wanted == image.is_dangling())
            && self.labels.iter().all(has_label)
            && !self.without_labels.iter().any(has_label)
            && self
                .until
                .is_none_or(|until| image.created_at().is_some_and(|created| created < until))
    }
}

/// Reads `until`'s value: RFC 3339, seconds since the epoch, or a Go duration back from now (`10m`, `1h30m`).
pub(crate) fn point_in_time(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    if let Ok(date) = text.parse::<jiff::civil::DateTime>() {
        let utc = jiff::tz::TimeZone::UTC;
        return date.to_zoned(utc).ok().map(|at| at.timestamp());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_nanosecond((seconds * 1e9) as i128).ok();
    }
    let mut nanos = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        nanos += number
            * match &after[..unit] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &after[unit..];
    }
    let now = Timestamp::now().as_nanosecond();
    Timestamp::from_nanosecond(now - nanos as i128).ok()
}

impl Image {
    /// Returns when it was made, if its config says.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.created.as_deref()?.parse().ok()
    }
}

impl Engine {
    /// Returns the image that a reference, an id, or a unique start of an id stands for.
    pub fn image(&self, name: &str) -> Result<Image, ImageError> {
        let id = self.find_image(name)?;
        self.image_by_id(&id)
    }

    /// Returns the image of that id; one removed by force while a container still uses it too.
    pub fn image_by_id(&self, id: &ImageId) -> Result<Image, ImageError> {
        let (row, layers, tags, digests) = {
            let db = self.db();
            let row =
                rows::image(&db, id)?.ok_or_else(|| ImageError::NoSuchImage(id.to_string()))?;
            (
                row,
                rows::layers(&db, id)?,
                rows::tags(&db, id)?,
                rows::digests(&db, id)?,
            )
        };
        let parsed = config::parse(&self.blob(id.0)?)?;
        Ok(Image {
            id: *id,
            config: parsed.config,
            raw_config: parsed.raw,
            chain_id: ChainId::of(&layers),
            layers,
            size: row.size,
            created: row.created,
            last_tagged: row.last_tagged,
            tags,
            repo_digests: digests.iter().map(Reference::familiar).collect(),
        })
    }

    /// Returns the id that a name stands for.
    pub(crate) fn find_image(&self, name: &str) -> Result<ImageId, ImageError> {
        let db = self.db();
        find(&db, name)
    }

    /// Returns the images that fit, newest first.
    pub fn images(&self, filter: &ImageFilter) -> Result<Vec<Image>, ImageError> {
        let rows = {
            let db = self.db();
            rows::images(&db)?
        };
        let made = |name: &Option<String>| -> Result<Option<Timestamp>, ImageError> {
            name.as_deref()
                .map(|name| {
                    Ok(self
                        .image(name)?
                        .created_at()
                        .unwrap_or(Timestamp::UNIX_EPOCH))
                })
                .transpose()
        };
        let before = made(&filter.before)?;
        let since = made(&filter.since)?;
        let mut images = Vec::new();
        for row in rows {
            let mut image = match self.image_by_id(&row.id) {
                Ok(image) => image,
                // Another process removed it between the two looks.
                Err(ImageError::NoSuchImage(_)) => continue,
                Err(error) => return Err(error),
            };
            let created = image.created_at().unwrap_or(Timestamp::UNIX_EPOCH);
            if !filter.fits(&image)
                || before.is_some_and(|before| created >= before)
                || since.is_some_and(|since| created <= since)
            {
                continue;
            }
            if !filter.references.is_empty() {
                let matches =
                    |name: &str| filter.references.iter().any(|p| matches_pattern(p, name));
                image
                    .tags
                    .retain(|tag| matches(&tag.familiar()) || matches(&tag.familiar_name()));
                image.repo_digests.retain(|digest| {
                    matches(digest.split('@').next().unwrap_or_default()) || matches(digest)
                });
                if image.tags.is_empty() && image.repo_digests.is_empty() {
                    continue;
                }
            }
            images.push((created, image));
        }
        images.sort_by(|(a, left), (b, right)| b.cmp(a).then_with(|| left.id.cmp(&right.id)));
        Ok(images.into_iter().map(|(_, image)| image).collect())
    }
}

/// Finds an image as Docker does: a full id, a reference, then the start of an id.
pub(crate) fn find(db: &Connection, name: &str) -> Result<ImageId, ImageError> {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if let Ok(digest) = Digest::from_hex(hex) {
        let id = ImageId(digest);
        return match rows::is_present(db, &id)? {
            true => Ok(id),
            false => Err(ImageError::NoSuchImage(name.to_owned())),
        };
    }
    let is_prefix = !hex.is_empty()
        && hex.len() < 64
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parsed = match name.starts_with("sha256:") && is_prefix {
        true => None,
        false => match name.parse::<Reference>() {
            Ok(reference) => Some(reference),
            Err(_) if is_prefix => None,
            Err(error) => return Err(error.into()),
        },
    };
    if let Some(reference) = &parsed {
        let repository = reference.repository();
        let full = reference.or_latest();
        let found = match (full.digest(), full.tag()) {
            (Some(digest), _) => rows::digested(db, &repository, digest)?,
            (None, tag) => rows::tagged(db, &repository, tag.unwrap_or_default())?,
        };
        if let Some(id) = found {
            return Ok(id);
        }
    }
    if is_prefix {
        match rows::images_by_prefix(db, hex)?[..] {
            [id] => return Ok(id),
            [] => {}
            _ => return Err(ImageError::Ambiguous(name.to_owned())),
        }
    }
    let shown = match parsed {
        Some(reference) => reference.or_latest().familiar(),
        None => name.to_owned(),
    };
    Err(ImageError::NoSuchImage(shown))
}

/// Matches Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]` and `[^a]` are sets, `\` quotes.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Positions in the name that the pattern so far may end at.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; name.len() + 1];
        if pattern[at] == '*' {
            let mut open = false;
            for position in 0..=name.len() {
                open = ends[position] || (open && position > 0 && name[position - 1] != '/');
                next[position] = open;
            }
            at += 1;
        } else {
            let Some((length, set)) = one_of(&pattern[at..]) else {
                return false;
            };
            for position in 0..name.len() {
                next[position + 1] = ends[position] && set(name[position]);
            }
            at += length;
        }
        ends = next;
    }
    ends[name.len()]
}

/// Reads one element of a pattern that stands for a single character.
#[allow(clippy::type_complexity)]
fn one_of(pattern: &[char]) -> Option<(usize, Box<dyn Fn(char) -> bool>)> {
    match *pattern.first()? {
        '?' => Some((1, Box::new(|c| c != '/'))),
        '\\' => {
            let quoted = *pattern.get(1)?;
            Some((2, Box::new(move |c| c == quoted)))
        }
        '[' => {
            let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let mut inside = &pattern[1..end];
            let negated = inside.first() == Some(&'^');
            if negated {
                inside = &inside[1..];
            }
            let mut ranges = Vec::new();
            while let Some(first) = inside.first() {
                match inside {
                    [_, '-', last, ..] => {
                        ranges.push((*first, *last));
                        inside = &inside[3..];
                    }
                    _ => {
                        ranges.push((*first, *first));
                        inside = &inside[1..];
                    }
                }
            }
            Some((
                end + 1,
                Box::new(move |c| {
                    ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != negated
                }),
            ))
        }
        plain => Some((1, Box::new(move |c| c == plain))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, name, expected) in [
            ("deb*", "debian", true),
            ("deb*", "debian/x", false),
            ("*/x", "debian/x", true),
            ("d?bian:[0-9]*", "debian:12", true),
            ("d[^e]bian", "debian", false),
            ("debian", "debian", true),
            ("", "debian", false),
            ("[", "[", false),
            ("\\*", "*", true),
            ("*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_unknown_filter_is_refused_in_dockers_words() {
        let mut filter = ImageFilter::default();
        assert_eq!(
            filter.add("nosuch=1").unwrap_err().to_string(),
            "Invalid filter 'nosuch'"
        );
        filter.add("until=1h30m").unwrap();
        filter.add("until=2020-01-01T00:00:00Z").unwrap();
        assert!(filter.add("until=yesterday").is_err());
        assert!(filter.add("dangling=maybe").is_err());
    }
}
