#!/usr/bin/env bash
# Builds the browser page and tests it in headless Chromium.
#
# Installs what a fresh machine lacks: Chromium, Node.js (20 or later) and ffmpeg. SOUNDSIGHT is the command `soundsight`; it
# is built if not given. WEB_SHOTS=DIR keeps screenshots.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

packages=()
command -v chromium > /dev/null || packages+=(chromium)
command -v node > /dev/null || packages+=(nodejs)
command -v npm > /dev/null || packages+=(npm)
command -v ffmpeg > /dev/null || packages+=(ffmpeg)
[ "${#packages[@]}" -eq 0 ] || debian "${packages[@]}"

export CARGO_INCREMENTAL=0 WEB_DIR="${WEB_DIR:-$PWD/target/web}"
target="${CARGO_TARGET_DIR:-$PWD/target}"
# The command, which the page must agree with.
if [ -z "${SOUNDSIGHT:-}" ]; then
  cargo build --release --features cli --bin soundsight
  export SOUNDSIGHT="$target/release/soundsight"
fi
scripts/web.sh
cd examples/web
cargo fmt --check --all
npm ci --no-audit --no-fund --silent
mkdir -p node_modules/.soundsight
cp "$target/web-build/types/index.d.ts" node_modules/.soundsight/
npm run --silent check
npm test --silent
