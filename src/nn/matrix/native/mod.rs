//! Instructions of x86-64 processors that cannot be had without `unsafe`. This is the only module of the library with such
//! code.
#![allow(unsafe_code)]

pub(super) mod bf16;
pub(super) mod vnni;
