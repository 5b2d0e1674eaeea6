#!/usr/bin/env bash
# Collects the photographs that serve as backgrounds when the embedded model is trained, from Debian's packages:
#
#   scripts/photographs.sh DIR
#   cargo run --release -p miniature -- --out RUN --photographs DIR/wallpapers --photographs DIR/textures
#
# Nothing is installed. DIR takes 150 MB, the packages 530 MB while they are unpacked.
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,7p' "$0"; exit 2; }
[ ! -e "$1" ] || { echo "$1: expected a new folder, found one that exists" >&2; exit 1; }
packages=(lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers ufoai-textures)

parent=$(dirname "$1")
mkdir -p "$parent"
work=$(mktemp -d -p "$parent")
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/out" "$work/out/wallpapers" "$work/out/textures" "$work/out/licences"
(cd "$work/packages" && apt-get download "${packages[@]}")
for package in "$work"/packages/*.deb; do
  dpkg-deb -x "$package" "$work/unpacked"
done

# The photographs among the wallpapers; the others are drawings, or show what a class might be confused with.
share=$work/unpacked/usr/share
photographs=(
  Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Infinite-Sea_by_Aury88 Picture_0B_by_freespace Picture_1A_by_freespace
  Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi analogpattern_by_Peter_Nerlich free_by_Peter_Nerlich
  friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi
  seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi
  mate/nature/Aqua mate/nature/Blinds mate/nature/Dune mate/nature/FreshFlower mate/nature/Garden mate/nature/GreenMeadow
  mate/nature/LadyBird mate/nature/RainDrops mate/nature/Storm mate/nature/TwoWings mate/nature/Wood
  mate/nature/YellowFlower
)
for name in "${photographs[@]}"; do
  cp "$share/backgrounds/$name.jpg" "$work/out/wallpapers/"
done
for name in BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite MilkyWay OneStandsOut Path \
  Shell Volna summer_1am; do
  # The largest of the sizes.
  picture=$(find "$share/wallpapers/$name/contents/images" -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
  cp "$picture" "$work/out/wallpapers/$name.${picture##*.}"
done

# Photographed ground, walls and streets. Normal and specular maps are no pictures.
python3 - "$share/games/ufoai/base/0textures.pk3" "$work/out/textures" <<'PYTHON'
import pathlib, re, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in archive.namelist():
        path = pathlib.PurePosixPath(name)
        folder = path.parent.name
        if folder in {"tex_buildings", "tex_material", "tex_nature", "tex_streets", "tex_terrain"}:
            if path.suffix in {".jpg", ".png"} and not re.search(r"_(nm|sm|gm|rm|glow)$", path.stem):
                pathlib.Path(sys.argv[2], f"{folder}-{path.name}").write_bytes(archive.read(name))
PYTHON

for package in "${packages[@]}"; do
  cp "$share/doc/$package/copyright" "$work/out/licences/$package"
done
chmod 755 "$work/out"
mv "$work/out" "$1"
echo "$1: $(ls "$1/wallpapers" | wc -l) wallpapers, $(ls "$1/textures" | wc -l) textures"
