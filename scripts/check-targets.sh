#!/usr/bin/env bash
# Type-checks the library for the documented targets, on any Linux machine.
#
#   scripts/check-targets.sh [TARGET…]     all of them by default
#
# TARGETS_DIR is the folder for build output.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

all=(aarch64-apple-darwin wasm32-unknown-unknown x86_64-pc-windows-gnu aarch64-linux-android aarch64-unknown-linux-gnu)
export CARGO_TARGET_DIR="${TARGETS_DIR:-$PWD/target/targets}" CARGO_INCREMENTAL=0

# All features but `hub`, whose TLS library needs a C compiler for each target.
features() {
  local common=audio-formats,embedded,eval,image-formats,prepare,text,train
  case "$1" in
    aarch64-apple-darwin) echo "$common,metal" ;;
    wasm32-unknown-unknown) echo "$common,wasm-js" ;;
    *) echo "$common" ;;
  esac
}

if [ $# -eq 0 ]; then
  set -- "${all[@]}"
fi
failed=()
for target in "$@"; do
  printf '\n== %s with %s\n' "$target" "$(features "$target")"
  cross_cargo "$target" check --package soundsight --lib --no-default-features --features "$(features "$target")" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "check-targets: does not compile for ${failed[*]}" >&2
  exit 1
fi
printf '\nThe library compiles for %s.\n' "$*"
