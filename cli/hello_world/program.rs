//! The program of the embedded image: shows a person what their first `ply run` did.
//!
//! Built by `build.rs` for the machine's architecture without any library: it is alone in its root filesystem.

#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const EXIT: usize = 231;
    pub const OPENAT: usize = 257;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const EXIT: usize = 94;
    pub const OPENAT: usize = 56;
}

// The stack is aligned as functions expect it, whatever the loader left.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {start}", "brk 1", start = sym start);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: every caller passes pointers to memory that it owns, with its length.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") arguments[0], in("rsi") arguments[1],
             in("rdx") arguments[2], in("r10") arguments[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: every caller passes pointers to memory that it owns, with its length.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] as isize => result, in("x1") arguments[1],
             in("x2") arguments[2], in("x3") arguments[3], options(nostack));
    }
    result
}

const HERE: usize = -100isize as usize;
const WRITE_AND_TRUNCATE: usize = 0o1001;
const MESSAGE: &[u8] = b"/message\0";
const NEW_MESSAGE: &[u8] = b"Hello from this container's own layer!\n";

fn say(bytes: &[u8]) {
    write(1, bytes);
}

fn write(file: usize, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = call(number::WRITE, [file, rest.as_ptr() as usize, rest.len(), 0]);
        match usize::try_from(count).ok().and_then(|count| rest.get(count..)) {
            Some(left) => rest = left,
            None => return false,
        }
    }
    true
}

fn open(path: &[u8], flags: usize) -> Option<usize> {
    usize::try_from(call(number::OPENAT, [HERE, path.as_ptr() as usize, flags, 0])).ok()
}

/// Reads the first line of a file.
fn first_line<'a>(path: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    let Some(file) = open(path, 0) else {
        return b"(cannot be read)";
    };
    let count = call(number::READ, [file, buffer.as_mut_ptr() as usize, buffer.len(), 0]);
    call(number::CLOSE, [file, 0, 0, 0]);
    let text = usize::try_from(count).ok().and_then(|count| buffer.get(..count)).unwrap_or(b"");
    text.split(|byte| *byte == b'\n').next().unwrap_or(b"")
}

/// Zero from the start: an array on the stack would want `memset`, and there is no library to have it.
static mut LINE: [u8; 512] = [0; 512];

extern "C" fn start() -> ! {
    // SAFETY: there is one thread, and this is the only reference.
    let line = unsafe { &mut *(&raw mut LINE) };
    say(b"Hello from ply!\n\nThis is what has just happened:\n");
    say(b" 1. The image, two layers that ply carries in its own binary, was indexed and stored.\n");
    say(b" 2. The layers were mounted as one tree, and the tree became this container's root:\n      ");
    say(first_line(b"/proc/self/mounts\0", line));
    say(b"\n 3. This program lies in the first layer. /message lies in both; the second hides the first:\n      ");
    say(first_line(MESSAGE, line));
    say(b"\n 4. The program wrote to /message. Layers never change, so the file was copied up into the\n");
    say(b"    container's own layer, and reads:\n      ");
    let written = open(MESSAGE, WRITE_AND_TRUNCATE).is_some_and(|file| write(file, NEW_MESSAGE));
    if !written {
        say(b"(it could not be written) ");
    }
    say(first_line(MESSAGE, line));
    say(b"\n\nTo go on:  ply pull debian:12 && ply run -it debian:12 bash\n");
    call(number::EXIT, [usize::from(!written), 0, 0, 0]);
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    call(number::EXIT, [101, 0, 0, 0]);
    loop {}
}
