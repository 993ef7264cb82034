//! Platforms: `os/architecture[/variant]`, and the choice among an index's.

use std::fmt;
use std::str::FromStr;

use super::ImageError;

/// An operating system and architecture in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...
    pub variant: Option<String>,
}

impl Platform {
    /// Returns this machine's platform.
    pub fn host() -> Platform {
        Platform {
            os: "linux".into(),
            architecture: goarch(std::env::consts::ARCH).into(),
            variant: match std::env::consts::ARCH {
                "arm" => Some("v7".into()),
                "aarch64" => Some("v8".into()),
                _ => None,
            },
        }
    }

    /// Returns how well an offered platform fits: `None` not at all, higher is better.
    pub(super) fn fit(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        let (architecture, implied) = normalize(architecture);
        let variant = variant.filter(|variant| !variant.is_empty()).or(implied);
        if !os.eq_ignore_ascii_case(&self.os) || architecture != self.architecture {
            return None;
        }
        let level = |variant: Option<&str>| match (variant, self.architecture.as_str()) {
            (Some(variant), _) => variant.trim_start_matches('v').parse::<u32>().ok(),
            (None, "arm") => Some(7),
            (None, "arm64") => Some(8),
            (None, _) => Some(1),
        };
        match (self.variant.as_deref(), variant) {
            (wanted, offered) if wanted == offered => Some(1000),
            // A processor runs what was made for its elders: the nearest below is best.
            (wanted, offered) => {
                let (wanted, offered) = (level(wanted)?, level(offered)?);
                (offered <= wanted).then(|| 500 - (wanted - offered).min(400))
            }
        }
    }
}

/// Returns Go's name of an architecture, and the variant that the other name implies.
fn normalize(architecture: &str) -> (&str, Option<&'static str>) {
    match architecture {
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        other => (goarch(other), None),
    }
}

/// Returns Go's name of an architecture.
pub(super) fn goarch(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Platform, ImageError> {
        let invalid = || ImageError::InvalidPlatform(super::printable(text));
        let parts: Vec<&str> = text.split('/').collect();
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !parts.iter().copied().all(word) {
            return Err(invalid());
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => return Ok(Platform::host()),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(invalid()),
        };
        let (architecture, implied) = normalize(architecture);
        const KNOWN: [&str; 12] = [
            "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "mips64",
            "loong64", "mips", "mipsle",
        ];
        if parts.len() == 1 && !KNOWN.contains(&architecture) {
            return Err(invalid());
        }
        let variant = match (architecture, variant.or(implied)) {
            // Docker's default variants.
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            (_, variant) => variant,
        };
        Ok(Platform {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_older_variant_fits_best() {
        let wanted: Platform = "linux/arm/v7".parse().unwrap();
        assert_eq!(wanted.fit("linux", "arm", Some("v8")), None);
        assert_eq!(wanted.fit("linux", "amd64", None), None);
        assert!(wanted.fit("linux", "arm", Some("v7")) > wanted.fit("linux", "arm", Some("v6")));
        assert!(wanted.fit("linux", "arm", Some("v6")) > wanted.fit("linux", "arm", Some("v5")));
        let arm64: Platform = "linux/arm64".parse().unwrap();
        assert!(arm64.fit("linux", "arm64", None).is_some());
        assert!(arm64.fit("linux", "aarch64", Some("v8")).is_some());
        let host: Platform = "amd64".parse().unwrap();
        assert_eq!(host.to_string(), "linux/amd64");
        assert!(host.fit("linux", "amd64", Some("v3")).is_none());
    }

    #[test]
    fn a_platform_that_is_none_is_refused() {
        for bad in [
            "",
            "a/b/c/d",
            "/",
            "linux/",
            "li nux/amd64",
            "nosucharch",
            "linux/\n",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
