// SPDX-License-Identifier: GPL-2.0

//! Who asks for the names of a connection's ends: a program, or the kernel for itself.

/// The functions in which the kernel asks on behalf of a program, beside system calls.
const FOR_PROGRAMS: [&[u8]; 4] = [
    // accept, of a program and of io_uring: from 5.5 on, and from 5.12 on.
    b"__sys_accept4_file",
    b"do_accept",
    // The same, inlined across files.
    b"io_accept",
    // getpeername and getsockname, of a program and of io_uring: from 6.19 on.
    b"do_getsockname",
];

/// The system calls that ask. A compiler may inline all of the way into any of their wrappers.
const CALLS: [&[u8]; 5] = [
    b"getpeername",
    b"getsockname",
    b"accept",
    b"accept4",
    b"socketcall",
];

/// What stands before a system call's name in the names of its functions, from the inside out.
const WRAPPERS: [&[u8]; 10] = [
    b"__sys_",
    b"__do_sys_",
    b"__do_compat_sys_",
    b"__se_sys_",
    b"__se_compat_sys_",
    b"__x64_sys_",
    b"__ia32_sys_",
    b"__ia32_compat_sys_",
    b"__arm64_sys_",
    b"__arm64_compat_sys_",
];

/// Whether a function of this name asks on behalf of a program: not so the kernel's own clients,
/// `kernel_getpeername` and who calls that.
///
/// The name is as the kernel tells it, with the module's behind it where it is a module's function;
/// none of those is meant.
pub fn asks_for_a_program(name: &[u8]) -> bool {
    // What a compiler makes of a function: name.isra.0, name.constprop.0, name.part.0, name.llvm.1.
    let plain = name.split(|&byte| byte == b'.').next().unwrap_or(name);
    let is_call = |wrapper: &&[u8]| {
        plain
            .strip_prefix(*wrapper)
            .is_some_and(|call| CALLS.contains(&call))
    };
    let of_a_module = name.split(|&byte| byte == b' ').nth(1).is_some();
    !of_a_module && (FOR_PROGRAMS.contains(&plain) || WRAPPERS.iter().any(is_call))
}
