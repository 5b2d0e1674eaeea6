#!/usr/bin/env bash
# Type-checks the library for the targets that the README names, on any Linux machine.
#
#   scripts/check-targets.sh [TARGET…]     all of them by default
#
# A machine with rustup uses (and adds) rustup's targets. Where a target cannot be had from rustup, Debian's compiler
# checks it: the packages below hold Rust together with the source of its standard library, which -Zbuild-std compiles
# for the target. TARGETS_DIR is where build output goes.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(aarch64-apple-darwin wasm32-unknown-unknown x86_64-pc-windows-gnu aarch64-linux-android aarch64-unknown-linux-gnu)
export CARGO_TARGET_DIR="${TARGETS_DIR:-$PWD/target/targets}" CARGO_INCREMENTAL=0

# The features that a program for this target would choose.
features() {
  case "$1" in
    aarch64-apple-darwin) echo embedded,metal ;;
    wasm32-unknown-unknown) echo embedded,wasm-js ;;
    *) echo embedded ;;
  esac
}

# Whether rustup has the target's standard library, perhaps only now.
rustup_has() {
  command -v rustup >/dev/null || return 1
  rustup target list --installed | grep -qx "$1" && return
  timeout 60 rustup target add "$1" >/dev/null 2>&1
}

debian() {
  local packages=(rustc-web cargo-web rust-web-src lld)
  # Import libraries for Windows are made with its dlltool.
  [ "$1" != x86_64-pc-windows-gnu ] || packages+=(binutils-mingw-w64-x86-64)
  if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
}

check() {
  local target="$1" arguments
  arguments=(check --lib --target "$target" --no-default-features --features "$(features "$target")")
  printf '\n== %s (%s)\n' "$target" "$(features "$target")"
  if rustup_has "$target"; then
    cargo "${arguments[@]}"
  else
    debian "$target"
    # -Zbuild-std is not stable, which RUSTC_BOOTSTRAP permits all the same.
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "${arguments[@]}" -Zbuild-std=std
  fi
}

if [ $# -eq 0 ]; then
  set -- "${all[@]}"
fi
failed=()
for target in "$@"; do
  check "$target" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "does not compile for: ${failed[*]}" >&2
  exit 1
fi
printf '\nThe library compiles for %s.\n' "$*"
