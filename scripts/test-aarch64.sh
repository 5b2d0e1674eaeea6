#!/usr/bin/env bash
# Tests the numerical code on 64-bit ARM, including NEON, under qemu: the unit tests of `nn` and the parity tests.
#
#   scripts/test-aarch64.sh [ARGUMENT…]     arguments of the test programs, such as the name of a test
#
# TARGETS_DIR is the folder for build output; QEMU_CPU selects a processor other than qemu's most capable one. It is not
# part of CI because it takes half an hour on two cores, mostly for the build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

target=aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR="${TARGETS_DIR:-$PWD/target/targets}" CARGO_INCREMENTAL=0
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc

debian gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
# Optimize this crate as in a release, because that is what is tested, and the dependencies only as far as necessary.
build=(--release --no-default-features --features embedded,train
  --config 'profile.release.package."*".opt-level=1' --config 'profile.release.package.candle-core.opt-level=2')
cross_cargo "$target" test "${build[@]}" --lib -- nn:: "$@"
cross_cargo "$target" test "${build[@]}" --test parity --test parity_ast --test parity_training -- "$@"
