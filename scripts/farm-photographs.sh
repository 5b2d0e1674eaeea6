#!/usr/bin/env bash
# Nine photographs of farm animals with their recordings, from Debian's gcompris-qt-data, as a small benchmark of real
# photographs. Nothing of it is used in training.
#
#   scripts/farm-photographs.sh DIR
#   soundsight evaluate --benchmark vggss --annotations DIR/vggss.json --data DIR --model MODEL
#
# Needs ffmpeg. The boxes were drawn by hand. The licences of the files are in DIR/copyright.
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,9p' "$0"; exit 2; }
[ ! -e "$1" ] || { echo "$1: expected a new folder, found one that exists" >&2; exit 1; }
parent=$(dirname "$1")
mkdir -p "$parent"
work=$(mktemp -d -p "$parent")
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download gcompris-qt-data && dpkg-deb -x gcompris-qt-data_*.deb unpacked)

# Qt's resource format, https://doc.qt.io/qt-6/resources.html: a tree of names, and the files' bytes.
python3 - "$work/unpacked/usr/share/gcompris-qt/rcc/explore_farm_animals.rcc" "$work/files" <<'PYTHON'
import json, pathlib, struct, sys, zlib

data = pathlib.Path(sys.argv[1]).read_bytes()
out = pathlib.Path(sys.argv[2])
out.mkdir()
magic, version, tree, contents, names = struct.unpack(">4sIIII", data[:20])
assert magic == b"qres", magic
size = 14 if version < 2 else 22


def visit(number):
    at = tree + number * size
    name_at, flags = struct.unpack(">IH", data[at : at + 6])
    length = struct.unpack(">H", data[names + name_at : names + name_at + 2])[0]
    name = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
    if flags & 2:
        count, first = struct.unpack(">II", data[at + 6 : at + 14])
        for child in range(first, first + count):
            visit(child)
    elif name.endswith((".webp", ".ogg")):
        at = contents + struct.unpack(">I", data[at + 10 : at + 14])[0]
        content = data[at + 4 : at + 4 + struct.unpack(">I", data[at : at + 4])[0]]
        (out / name.replace("chickens", "chicken")).write_bytes(zlib.decompress(content[4:]) if flags & 1 else content)


visit(0)
# Left, top, right, bottom as fractions of the picture.
boxes = {
    "cat": [[0.18, 0.14, 0.99, 0.73]],
    "chicken": [[0.04, 0.18, 0.22, 0.75], [0.36, 0.11, 0.55, 0.74], [0.51, 0.18, 0.69, 0.78], [0.69, 0.19, 0.97, 0.88]],
    "cow": [[0.22, 0.37, 0.90, 0.90], [0.26, 0.23, 0.42, 0.37], [0.78, 0.23, 0.89, 0.35]],
    "dog": [[0.03, 0.03, 0.89, 0.95]],
    "duck": [[0.12, 0.21, 0.80, 0.91]],
    "horse": [[0.12, 0.31, 0.37, 0.83], [0.31, 0.34, 0.52, 0.83], [0.25, 0.63, 0.46, 0.86], [0.50, 0.42, 0.64, 0.83],
              [0.56, 0.34, 0.88, 0.84]],
    "owl": [[0.53, 0.20, 0.79, 0.94]],
    "pig": [[0.16, 0.23, 0.61, 0.81]],
    "sheep": [[0.23, 0.11, 0.71, 0.90]],
}
classes = {"cat": "black cat", "chicken": "hen"}
annotations = [{"file": name, "class": classes.get(name, name), "bbox": list(box)} for name, box in boxes.items()]
(out / "vggss.json").write_text(json.dumps(annotations, indent=1))
PYTHON

mkdir "$work/out" "$work/out/frames" "$work/out/audio"
for file in "$work"/files/*.webp; do
  ffmpeg -v error -i "$file" "$work/out/frames/$(basename "$file" .webp).png"
done
for file in "$work"/files/*.webp; do
  name=$(basename "$file" .webp)
  ffmpeg -v error -i "$work/files/$name.ogg" -ac 1 -ar 16000 "$work/out/audio/$name.wav"
done
cp "$work/files/vggss.json" "$work/unpacked/usr/share/doc/gcompris-qt-data/copyright" "$work/out/"
chmod 755 "$work/out"
mv "$work/out" "$1"
echo "$1: $(ls "$1/frames" | wc -l) photographs"
