#!/usr/bin/env bash
# Runs the tests and benchmarks that need a GPU.
#
#   scripts/gpu-tests.sh [cuda|metal]
#
# Runs every parity test on the device (hidden states, every stage, batches against single samples, half precision, and
# the losses, gradients and steps of training), computes heatmaps of the embedded model on the CPU and on the device,
# and measures timings at the published size in f32 and bf16. PyTorch is timed too if PYTHON (python3) has the packages
# listed in benches/peers/peers.py. CUDA needs a toolkit of at most version 13.0 with nvcc on the PATH;
# scripts/check-cuda.sh shows how to install one from PyPI.
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
# Run one test at a time, because they share the device.
SOUNDSIGHT_TEST_DEVICE="$device" cargo test "${features[@]}" --test parity --test parity_ast --test parity_training -- --test-threads 1

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
  echo 'skipped: PyTorch is not installed or does not support this device'
fi
