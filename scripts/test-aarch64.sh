#!/usr/bin/env bash
# Runs what computes on 64-bit ARM, NEON included, under qemu's emulation: the unit tests of `nn` and the parity tests.
#
#   scripts/test-aarch64.sh [ARGUMENT…]     arguments of the test programs, such as a test's name
#
# TARGETS_DIR is where the build's output goes; QEMU_CPU chooses another processor than qemu's richest. Takes half an hour
# on two cores, nearly all of it the build; so it is not part of CI.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

target=aarch64-unknown-linux-gnu
export CARGO_TARGET_DIR="${TARGETS_DIR:-$PWD/target/targets}" CARGO_INCREMENTAL=0
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc

debian gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
# The crate's own code as in a release, for that is what is tested; the rest only as fast as it must be.
build=(--release --no-default-features --features embedded,train
  --config 'profile.release.package."*".opt-level=1' --config 'profile.release.package.candle-core.opt-level=2')
cross_cargo "$target" test "${build[@]}" --lib -- nn:: "$@"
cross_cargo "$target" test "${build[@]}" --test parity --test parity_training -- "$@"
