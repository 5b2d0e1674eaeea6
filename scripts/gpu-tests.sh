#!/usr/bin/env bash
# For a machine with a GPU: what the CPU's tests cannot see.
#
#   scripts/gpu-tests.sh [cuda|metal]
#
# Every parity test on the device (hidden states, every stage, a batch against its samples, half precision, training's
# losses, gradients and steps), the heatmaps of the embedded model against the CPU's, then timings at the published size in
# f32 and bf16, beside PyTorch where PYTHON (python3) has the packages that benches/peers/peers.py names. CUDA needs its
# toolkit, at most version 13.0, with nvcc on the PATH; scripts/check-cuda.sh shows how PyPI's packages serve as one.
set -euo pipefail
cd "$(dirname "$0")/.."
device="${1:-cuda}"
python="${PYTHON:-python3}"
features=(--release --features "$device")
step() { printf '\n== %s\n' "$*"; }

if [ "$device" = cuda ]; then
  step 'machine'
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv
fi

step "parity with PyTorch on $device"
# One test at a time: they share the device.
SOUNDSIGHT_TEST_DEVICE="$device" cargo test "${features[@]}" --test parity --test parity_training -- --test-threads 1

step 'heatmaps of the embedded model: the CPU and the device, f32 and bf16'
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
for place in "cpu f32" "$device f32" "$device bf16"; do
  read -r where dtype <<<"$place"
  for pair in elephant/savanna duck/shore horse/farm; do
    printf '%s %s %s: ' "$where" "$dtype" "$pair"
    cargo run --quiet "${features[@]}" --features cli --bin soundsight -- localize "examples/media/${pair%/*}.wav" \
      "examples/media/${pair#*/}.jpg" --model embedded --device "$where" --dtype "$dtype" --json --out "$out"
  done
done

for dtype in f32 bf16; do
  step "timings on $device in $dtype"
  SOUNDSIGHT_BENCH_DEVICE="$device" SOUNDSIGHT_BENCH_DTYPE="$dtype" cargo bench --features "$device" --bench stages -- full
done

step 'timings of PyTorch'
if [ "$device" = cuda ] && "$python" -c 'import torch, speechbrain, transformers; assert torch.cuda.is_available()' 2>/dev/null; then
  "$python" benches/peers/peers.py time --device cuda --runs 20
  "$python" benches/peers/peers.py train --device cuda --batch 4 --runs 5
else
  echo 'left out: no PyTorch with this device'
fi
