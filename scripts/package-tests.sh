#!/usr/bin/env bash
# Builds the package as it would be published, unpacks it outside the repository, and runs its tests there.
#
# Dependencies are shared with `cargo test --release --features cli`. The crate itself is compiled with fewer optimisations,
# which saves time overall; speed is measured elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
repository="$PWD"
limit=9500000 # bytes; the registry's limit is 10 MB
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$repository/target}" CARGO_INCREMENTAL=0
unpacked="$(mktemp -d)"
trap 'rm -rf "$unpacked"' EXIT

fail() {
  echo "package-tests: $*" >&2
  exit 1
}

rm -f "$CARGO_TARGET_DIR"/package/soundsight-*.crate
cargo package --package soundsight --no-verify --allow-dirty --quiet
archive="$(ls "$CARGO_TARGET_DIR"/package/soundsight-*.crate)"
# -m: the archive's own times are years old, and cargo would take an earlier build of another version for fresh.
tar -xzmf "$archive" -C "$unpacked" --strip-components=1
size="$(stat -c %s "$archive")"
echo "$(basename "$archive"): $size bytes, $(find "$unpacked" -type f | wc -l) files"
[ "$size" -le "$limit" ] || fail "the package has more than $limit bytes"

# The package must not contain copies of the media under the GPL, under any name.
gpl=(examples/media/*.{wav,jpg,mp4} docs/{film,sounds,web}.png
  tests/fixtures/audio/{crow,cello,horse}.wav tests/fixtures/audio/washing_machine.ogg)
sums="$(sha256sum "${gpl[@]}" | cut -d' ' -f1)"
found="$(find "$unpacked" -type f -exec sha256sum {} + | grep -F "$sums" || true)"
[ -z "$found" ] || fail "media under the GPL are in the package: $found"
# All other media must be in the test fixtures, whose licences are documented.
media='.*\.\(wav\|aiff\|caf\|flac\|mp3\|mp4\|m4a\|mka\|ogg\|aac\|png\|jpe?g\|webp\|gif\|svg\)'
found="$(cd "$unpacked" && find . -type f -iregex "$media" ! -path './tests/fixtures/*' ! -path './target/*')"
[ -z "$found" ] || fail "unexpected media in the package: $found"

# docs.rs must document all features except `cli`, which adds no API, and those that need a vendor's libraries.
python3 - "$repository/Cargo.toml" <<'PYTHON'
import sys, tomllib
manifest = tomllib.load(open(sys.argv[1], "rb"))
documented = set(manifest["package"]["metadata"]["docs"]["rs"]["features"])
expected = set(manifest["features"]) - {"default", "cli", "cuda", "cudnn", "metal", "accelerate", "mkl", "mpi"}
if documented != expected:
    sys.exit(f"package-tests: features for docs.rs: {sorted(documented)}, not {sorted(expected)}")
PYTHON

cd "$unpacked"
quick=(--release --locked --features cli --config profile.release.package.soundsight.opt-level=1)
cargo test "${quick[@]}" --no-fail-fast
cargo run "${quick[@]}" --example localize -- \
  "$repository/examples/media/elephant.wav" "$repository/examples/media/savanna.jpg"
for name in overlay heatmap mask; do
  [ -s "out/savanna.$name.png" ] || fail "the example did not write out/savanna.$name.png"
done
echo "The package passes its tests and runs its example."
