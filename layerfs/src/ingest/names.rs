//! Names as a tar gives them: hostile until they are components.

/// The longest name of one entry, as Linux has it (`limits.h`, NAME_MAX).
const NAME_MAX: usize = 255;
/// The longest path (`limits.h`, PATH_MAX).
const PATH_MAX: usize = 4096;

/// Splits a path of the tar into components: leading and doubled slashes and `.` mean nothing, `..` is refused.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.len() > PATH_MAX {
        return Err("the path is longer than 4096 bytes");
    }
    let mut found = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("the path leads outside the layer (\"..\")"),
            name if name.contains(&0) => return Err("the name has a NUL byte"),
            name if name.len() > NAME_MAX => return Err("a name is longer than 255 bytes"),
            name => found.push(name),
        }
    }
    Ok(found)
}

/// Shows a name in an error: quoted, control characters and broken UTF-8 escaped.
pub(crate) fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_mean_nothing_and_dot_dot_is_refused() {
        assert_eq!(components(b"./a//b/./c/").unwrap(), [&b"a"[..], b"b", b"c"]);
        assert_eq!(
            components(b"/etc/passwd").unwrap(),
            [&b"etc"[..], b"passwd"]
        );
        assert!(components(b"./").unwrap().is_empty());
        assert!(components(b"a/../../b").is_err());
        assert!(components(&[b'a'; 256]).is_err());
        assert!(components(b"a\0b").is_err());
    }
}
