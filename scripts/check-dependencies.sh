#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licenses, bans, sources, and, if there is a network, advisories.
#
# Uses cargo-deny if it is installed. CI does not install it, because building it takes many minutes; there, a script
# applies the same rules except for advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null; then
  exec python3 scripts/licenses.py
fi
cargo deny --locked check licenses bans sources
if timeout 60 cargo deny fetch db 2>/dev/null; then
  cargo deny --locked check advisories
else
  echo "check-dependencies: no network, so advisories were not checked"
fi
