#!/usr/bin/env bash
# Makes 200 films of Debian's stamps (package tuxpaint-stamps-default), 10 of them flawed in different ways, and prepares
# them as a folder, as a tar.gz archive and as a zip archive: undisturbed, and killed twice. All results must be the same
# byte for byte. Then `train` and `evaluate` read them. (The sounds of some stamps are silent, and are found as well.)
#
# usage: scripts/prepare-films.sh SOUNDSIGHT [FOLDER]
# SOUNDSIGHT is the program, built with `cargo build --release --features cli`. Needs ffmpeg and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
soundsight="$(realpath "${1:?usage: scripts/prepare-films.sh SOUNDSIGHT [FOLDER]}")"
work="${2:-$(mktemp -d)}"
stamps=/usr/share/tuxpaint/stamps
mkdir -p "$work/films"
films="$work/films"
quiet() { ffmpeg -v error -nostdin -y "$@"; }

if [ ! -e "$work/made" ]; then
  mapfile -t names < <(find "$stamps" -name '*.png' | sort | sed 's/\.png$//' | while read -r name; do
    if [ -e "$name.ogg" ]; then echo "$name"; fi
  done)
  echo '[' > "$work/vggss.json"
  : > "$work/list.csv"
  for k in $(seq 0 189); do
    stamp="${names[$((k % ${#names[@]}))]}"
    id="$(printf 'film%04d' "$k")"
    x=$((20 + k * 37 % 160)) y=$((10 + k * 23 % 90))
    # The stamp trembles, so that the picture changes.
    quiet -f lavfi -i "color=0x$(printf '%02x%02x%02x' $((k * 71 % 200)) $((k * 43 % 200)) $((k * 97 % 200))):s=320x240:r=25:d=10" \
      -loop 1 -r 25 -i "$stamp.png" -stream_loop -1 -i "$stamp.ogg" -filter_complex \
      "[1]scale=120:120:force_original_aspect_ratio=decrease[s];[0][s]overlay=x=$x+4*sin(6*t):y=$y:shortest=1[v]" \
      -map '[v]' -map 2:a -t 10 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -ac 2 "$films/${id}_000030.mp4"
    echo "$id,30,$(basename "$stamp"),$([ $((k % 5)) = 0 ] && echo test || echo train)" >> "$work/list.csv"
    if [ $((k % 5)) = 0 ]; then
      [ "$k" = 0 ] || echo ',' >> "$work/vggss.json"
      python3 -c "print('{\"file\":\"${id}_000030\",\"class\":\"$(basename "$stamp")\",\"bbox\":[[%f,%f,%f,%f]]}' % ($x/320,$y/240,($x+120)/320,($y+120)/240))" >> "$work/vggss.json"
    fi
  done
  echo ']' >> "$work/vggss.json"
  moving=(-f lavfi -i testsrc=size=320x240:rate=25:duration=10)
  tone=(-f lavfi -i sine=frequency=440:duration=10)
  codecs=(-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac)
  whole="$films/film0001_000030.mp4"
  flaw() { echo "$1,30,flaw,train" >> "$work/list.csv"; }
  flaw missing
  flaw short; quiet "${moving[@]}" "${tone[@]}" "${codecs[@]}" -t 3 "$films/short_000030.mp4"
  flaw silent; quiet "${moving[@]}" -f lavfi -i anullsrc "${codecs[@]}" -t 10 "$films/silent_000030.mp4"
  flaw still; quiet -f lavfi -i color=teal:size=320x240:rate=25:duration=10 "${tone[@]}" "${codecs[@]}" "$films/still_000030.mp4"
  flaw truncated; head -c $(($(stat -c %s "$whole") / 2)) "$whole" > "$films/truncated_000030.mp4"
  flaw mute; quiet "${moving[@]}" "${codecs[@]}" "$films/mute_000030.mp4"
  flaw radio; quiet "${tone[@]}" -c:a aac "$films/radio_000030.mp4"
  flaw empty; : > "$films/empty_000030.mp4"
  flaw text; printf 'no film\n%.0s' {1..10000} > "$films/text_000030.mp4"
  flaw picture; quiet "${moving[@]}" -frames:v 1 "$work/picture.png"; mv "$work/picture.png" "$films/picture_000030.mp4"
  tar -C "$films" -czf "$work/films.tar.gz" .
  python3 - "$films" "$work/films.zip" <<'PYTHON'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as archive:
    for film in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        archive.write(film, film.name)
PYTHON
  touch "$work/made"
fi
echo "films: $(find "$films" -type f | wc -l), $(du -sm "$films" | cut -f1) MB"

options=(--list "$work/list.csv" --frame 125 --fps 25)
rm -rf "$work"/out.*
echo '== undisturbed, folder'
time "$soundsight" prepare "$films" "${options[@]}" --out "$work/out.whole"
for source in "$films" "$work/films.tar.gz" "$work/films.zip"; do
  out="$work/out.$(basename "$source")"
  for count in 40 130; do
    "$soundsight" prepare "$source" "${options[@]}" --out "$out" > /dev/null &
    process=$!
    until [ "$(cat "$out/.prepare/1-of-1.jsonl" 2> /dev/null | wc -l)" -ge "$count" ]; do sleep 0.05; done
    kill -9 "$process"
    wait "$process" 2> /dev/null || true
    echo "== $(basename "$source"): killed after $(wc -l < "$out/.prepare/1-of-1.jsonl") films"
  done
  time "$soundsight" prepare "$source" "${options[@]}" --out "$out" > /dev/null
  diff -r "$work/out.whole" "$out" && echo "== $(basename "$source"): the same, byte for byte"
done
for shard in 2/3 3/3 1/3; do
  "$soundsight" prepare "$work/films.zip" "${options[@]}" --out "$work/out.shards" --shard "$shard"
done
diff -r -x .prepare "$work/out.whole" "$work/out.shards" && echo "== three shards: the same, byte for byte"

echo '== train and evaluate'
model=tests/fixtures/alt
"$soundsight" train --data "$work/out.whole" --split "$work/out.whole/train.csv" --val-split "$work/out.whole/test.csv" \
  --model "$model" --steps 2 --out "$work/out.run"
"$soundsight" evaluate --benchmark vggss --annotations "$work/vggss.json" --data "$work/out.whole" \
  --model "$work/out.run/last" | head -1
