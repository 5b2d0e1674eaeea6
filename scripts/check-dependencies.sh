#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licenses, bans, sources, and advisories where there is a network.
#
# cargo-deny does it where it is installed. It takes many minutes to build, so CI does not: there a script reads the same
# rules, advisories excepted.
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
