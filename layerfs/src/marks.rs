//! What overlayfs and fuse-overlayfs leave in plain directories to say what hides, moves or completes lower layers
//! (`overlayfs.rst`; image-spec `layer.md`, "Whiteouts").
//!
//! | meaning | overlayfs | fuse-overlayfs |
//! | --- | --- | --- |
//! | whiteout | a character device 0/0 | that, or a file `.wh.NAME` |
//! | opaque directory | `overlay.opaque` = `y` | that, `user.fuseoverlayfs.opaque` = `y`, or a file `.wh..wh..opq` |
//! | where a directory's or a metacopy's lower part is | `overlay.redirect` | |
//! | the data are below | `overlay.metacopy` | |
//!
//! The attributes of overlayfs are in the `trusted.` namespace or, where that needs a privilege that a user namespace
//! cannot give, in `user.`. Ours are `overlay.ply.*` beside them, which overlayfs and fuse-overlayfs show to nobody.

use rustix::fs::FileType;

/// A name with this prefix hides the rest of it in lower layers.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A directory with this name in it is opaque.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Where marks that can do more than hide are written and believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.`, in directories of the engine's own that no other union reads.
    Engine,
    /// `trusted.`: only for the superuser of the host.
    Trusted,
    /// `user.`: for whoever may write the file.
    User,
}

impl Namespace {
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Namespace::Engine => "trusted.ply.origin",
            Namespace::Trusted => "trusted.overlay.ply.origin",
            Namespace::User => "user.overlay.ply.origin",
        }
    }

    pub(crate) fn lower_links(self) -> &'static str {
        match self {
            Namespace::Engine => "trusted.ply.lower_links",
            Namespace::Trusted => "trusted.overlay.ply.lower_links",
            Namespace::User => "user.overlay.ply.lower_links",
        }
    }

    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Namespace::Engine | Namespace::Trusted => "trusted.overlay.opaque",
            Namespace::User => "user.overlay.opaque",
        }
    }

    pub(crate) fn redirect(self) -> &'static str {
        match self {
            Namespace::Engine | Namespace::Trusted => "trusted.overlay.redirect",
            Namespace::User => "user.overlay.redirect",
        }
    }

    pub(crate) fn metacopy(self) -> &'static str {
        match self {
            Namespace::Engine | Namespace::Trusted => "trusted.overlay.metacopy",
            Namespace::User => "user.overlay.metacopy",
        }
    }
}

/// The attributes that make a directory opaque, whatever the namespace: they can only hide.
pub(crate) const OPAQUE_ATTRIBUTES: [&str; 3] = [
    "trusted.overlay.opaque",
    "user.overlay.opaque",
    "user.fuseoverlayfs.opaque",
];

/// Returns whether an attribute is bookkeeping of a union over plain directories, this one or another.
pub(crate) fn is_bookkeeping(name: &[u8]) -> bool {
    [
        &b"trusted.ply."[..],
        b"trusted.overlay.",
        b"user.overlay.",
        b"user.fuseoverlayfs.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// Returns whether a file of this mode and device number is a whiteout.
pub(crate) fn is_whiteout(mode: u32, device: u64) -> bool {
    FileType::from_raw_mode(mode) == FileType::CharacterDevice && device == 0
}

/// Where a redirect leads: names from the root, or one beside the directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// A path from the root of the layers below.
    Absolute(Vec<u8>),
    /// A name in what the parent is merged with.
    Beside(Vec<u8>),
}

impl Redirect {
    /// Reads an attribute's value; one that could lead elsewhere is none.
    pub(crate) fn parse(value: &[u8]) -> Option<Redirect> {
        let value = value.strip_suffix(b"\0").unwrap_or(value);
        let names = value.strip_prefix(b"/");
        let is_plain = |name: &[u8]| !name.is_empty() && name != b"." && name != b"..";
        match names {
            Some(path) if path.split(|&byte| byte == b'/').all(is_plain) => {
                Some(Redirect::Absolute(path.to_vec()))
            }
            None if is_plain(value) && !value.contains(&b'/') => {
                Some(Redirect::Beside(value.to_vec()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_path_from_the_root_or_one_name() {
        let parse = Redirect::parse;
        assert_eq!(
            parse(b"/a/b c"),
            Some(Redirect::Absolute(b"a/b c".to_vec()))
        );
        assert_eq!(parse(b"name"), Some(Redirect::Beside(b"name".to_vec())));
        for bad in [
            &b""[..],
            b"/",
            b"a/b",
            b"..",
            b".",
            b"/../etc",
            b"/a//b",
            b"/a/./b",
            b"/a/",
        ] {
            assert_eq!(parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
