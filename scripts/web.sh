#!/usr/bin/env bash
# Builds the browser page: a folder of static files that any file server can serve.
#
#   scripts/web.sh                  builds target/web
#   scripts/web.sh serve [PORT]     builds it and serves it at http://localhost:PORT (8000)
#
# WEB_DIR is the folder for the page. WebAssembly is compiled by rustup's toolchain, or by Debian's where rustup has no such
# target; see scripts/cross.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

target=wasm32-unknown-unknown
page="${WEB_DIR:-$PWD/target/web}"
build="${CARGO_TARGET_DIR:-$PWD/target}/web-build"
source=examples/web
export CARGO_INCREMENTAL=0

staged="$build/page"
rm -rf "$staged"
mkdir -p "$staged/model" "$staged/media"
CARGO_TARGET_DIR="$build/tools" cargo build --locked --manifest-path "$source/Cargo.toml" --package bundle
cross_install "$target"
flags="-C target-feature=+simd128"
# Debian's toolchain has no linker of its own.
rustup_has "$target" || flags+=" -C linker=/usr/bin/wasm-ld -C linker-flavor=wasm-ld"
CARGO_TARGET_DIR="$build/library" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$flags" \
  cross_cargo "$target" build --release --locked --manifest-path "$source/Cargo.toml" --package soundsight-web
"$build/tools/debug/bundle" "$build/library/$target/release/soundsight_web.wasm" soundsight "$staged/library"
# The types are for checking the page's own code (scripts/web-tests.sh).
mkdir -p "$build/types"
mv "$staged/library/soundsight.d.ts" "$build/types/index.d.ts"
rm -f "$staged"/library/*.d.ts

cp "$source"/page/* LICENSE LICENSE-MIT LICENSE-APACHE "$staged/"
cp models/embedded/{{config,tokenizer,presence}.json,{beats,clipseg,acl}.safetensors} "$staged/model/"
cp examples/media/{README.md,savanna.*,farm.jpg,shore.jpg,*.wav} "$staged/media/"

# What the service worker keeps for visits without a network: everything.
cd "$staged"
files="$(find . -type f ! -name service-worker.js | LC_ALL=C sort | sed 's|.*|  "&",|')"
version="$(find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)"
{
  printf 'const VERSION = "%s";\nconst FILES = [\n  "./",\n%s\n];\n' "$version" "$files"
  cat service-worker.js
} > service-worker.new
mv service-worker.new service-worker.js
cd - > /dev/null

# In place at once, so that a failed build leaves the previous page.
rm -rf "$page"
mkdir -p "$(dirname "$page")"
mv "$staged" "$page"
size() { tar -cf - -C "$page" "$@" | if [ "${compress:-}" ]; then gzip -9; else cat; fi | wc -c; }
printf '%s: %d files, %d kB; a visitor loads %d kB compressed with gzip\n' "$page" "$(find "$page" -type f | wc -l)" \
  "$(($(size .) / 1000))" "$(($(compress=1 size .) / 1000))"

if [ "${1:-}" = serve ]; then
  port="${2:-8000}"
  echo "The page is at http://localhost:$port (Ctrl-C ends it)"
  exec python3 -m http.server "$port" --bind 127.0.0.1 --directory "$page"
fi
