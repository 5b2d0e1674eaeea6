#!/usr/bin/env bash
# Two processes of one thread against one process of two threads, in training and in bulk localization; and `mpirun -n 1`
# against no MPI. On a quiet machine with two cores or more.
#
# usage: scripts/mpi-speed.sh SOUNDSIGHT DATA MODEL [STEPS]
# SOUNDSIGHT is the program, built with `cargo build --release --features mpi`; DATA is a folder with audio/, frames/,
# train.csv and pairs.csv, which lists 32 pairs of different files or more; MODEL a model directory. Each figure is the better of
# two runs, without the time of starting.
set -euo pipefail
usage='usage: scripts/mpi-speed.sh SOUNDSIGHT DATA MODEL [STEPS]'
soundsight="$(realpath "${1:?$usage}")"
data="$(realpath "${2:?$usage}")"
model="${3:?$usage}"
steps="${4:-12}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1

mpi() { # PROCESSES THREADS COMMAND
  local size=$1 threads=$2
  shift 2
  mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$size" -x "RAYON_NUM_THREADS=$threads" "$@"
}
alone() { # THREADS COMMAND
  RAYON_NUM_THREADS=$1 "${@:2}"
}
seconds() { # COMMAND
  local begin
  begin="$(date +%s.%N)"
  "$@" > /dev/null
  echo "$(date +%s.%N) $begin" | awk '{print $1 - $2}'
}
train() { # STEPS NEGATIVES LAUNCHER…
  local count=$1 negatives=$2
  shift 2
  rm -rf "$work/run"
  seconds "$@" "$soundsight" train --data "$data" --model "$model" --device cpu --workers 1 --val-fraction 0 \
    --batch 4 --accumulate 2 --negatives "$negatives" --steps "$count" --out "$work/run"
}
localize() { # PAIRS LAUNCHER…
  local count=$1
  shift
  rm -rf "$work/out"
  { echo image,audio; tail -n +2 "$data/pairs.csv" | head -n "$count" | sed "s|^|$data/|; s|,|,$data/|"; } > "$work/pairs.csv"
  seconds "$@" "$soundsight" localize --pairs "$work/pairs.csv" --model "$model" --device cpu --out "$work/out"
}
# The time of MORE − LESS units of work: the difference between two runs.
difference() { # WORK LESS MORE ARGUMENT…
  local work_of=$1 less=$2 more=$3 first second
  shift 3
  for _ in 1 2; do
    first="$("$work_of" "$less" "$@")"
    second="$("$work_of" "$more" "$@")"
    echo "$second $first" | awk '{print $1 - $2}'
  done | sort -g | head -1
}
steps_of() { difference train 1 $((steps + 1)) "$@"; }
# Batches have 8 pairs, so two processes get as many of 16 pairs each.
pairs=$(((($(wc -l < "$data/pairs.csv") - 1) / 16) * 16))
pairs_of() { difference localize 16 "$pairs" "$@"; }
ratio() { echo "$1 $2" | awk '{printf "%.3f", $1 / $2}'; }

one="$(steps_of local alone 2)"
single="$(steps_of local mpi 1 2)"
two="$(steps_of local mpi 2 1)"
global="$(steps_of global mpi 2 1)"
echo "training, $steps steps of 8 pairs: one process of two threads $one s; mpirun -n 1 $single s; two processes of one thread $two s, global negatives $global s"
echo "mpirun -n 1: $(ratio "$single" "$one") × the time; two processes: $(ratio "$one" "$two") × the throughput, global negatives $(ratio "$one" "$global") ×"
one="$(pairs_of alone 2)"
two="$(pairs_of mpi 2 1)"
echo "localization of $((pairs - 16)) pairs: one process $one s, two processes $two s: $(ratio "$one" "$two") × the throughput"
