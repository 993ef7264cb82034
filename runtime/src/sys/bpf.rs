//! The extended BPF that a v2 cgroup's device rules are, `bpf(2)` with `BPF_PROG_TYPE_CGROUP_DEVICE`.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

/// One instruction of extended BPF; `registers` holds the destination in its low half, the source in the high one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) constant: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is the part of `bpf_attr` that `command` reads, and its size is passed.
    super::check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    })
}

/// Lets `program` decide on the devices of the processes in `cgroup`, for as long as the cgroup is.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: &[Instruction],
) -> io::Result<()> {
    let loaded = bpf(
        PROG_LOAD,
        &Load {
            prog_type: PROG_TYPE_CGROUP_DEVICE,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        },
    )?;
    // SAFETY: the kernel has just made the descriptor for us.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    bpf(
        PROG_ATTACH,
        &Attach {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_bpf_fd: loaded.as_raw_fd() as u32,
            attach_type: CGROUP_DEVICE,
            attach_flags: 0,
        },
    )?;
    Ok(())
}
