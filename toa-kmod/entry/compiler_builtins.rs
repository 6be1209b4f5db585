// SPDX-License-Identifier: GPL-2.0

//! Stands in for `compiler_builtins`, which `rustc` wants beside `core`. The module needs nothing of
//! it: the kernel has `memcpy` and its kin, and symbols.allow would show any other need.

#![allow(internal_features)]
#![feature(compiler_builtins)]
#![compiler_builtins]
#![no_builtins]
#![no_std]
