//! POSIX error numbers, the way the union says no.

use std::fmt;
use std::io;

/// An error number of `errno(3)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! numbers {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "` of `errno(3)`.")]
            pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}

numbers! {
    EPERM ENOENT EIO EAGAIN EBADF EACCES EEXIST ENOTDIR EISDIR EINVAL ENOSPC EROFS EMLINK ERANGE ENAMETOOLONG ENOTEMPTY ELOOP
    ENODATA EOPNOTSUPP ESTALE ENOSYS EXDEV ENXIO EFBIG EOVERFLOW ETXTBSY
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(nix::errno::Errno::from_raw(self.0).desc())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", nix::errno::Errno::from_raw(self.0))
    }
}

impl std::error::Error for Errno {}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Errno {
        Errno(error.raw_os_error())
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}
