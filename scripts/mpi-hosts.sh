#!/usr/bin/env bash
# Training on two "hosts": two network namespaces with their own names and addresses, joined by a pair of virtual network
# devices. First undisturbed; then the link is cut in the middle of an epoch, and the job must end in time with a message
# that names the other host or a process on it; then the run is resumed and must end with the same weights. This once where
# `mpirun` watches the connections to its daemons, and once where only the processes notice.
#
# usage: sudo scripts/mpi-hosts.sh SOUNDSIGHT DATA
# SOUNDSIGHT is the program, built with `cargo build --release --features mpi`; DATA is a folder with audio/, frames/ and
# train.csv. Needs Open MPI, iproute2 and util-linux.
set -euo pipefail
cd "$(dirname "$0")/.."
usage='usage: scripts/mpi-hosts.sh SOUNDSIGHT DATA'
soundsight="$(realpath "${1:?$usage}")"
data="$(realpath "${2:?$usage}")"
model="$PWD/tests/fixtures/mini"
timeout=5
work="$(mktemp -d)"
clean() {
  ip netns pids host-a 2> /dev/null | xargs -r kill -9
  ip netns pids host-b 2> /dev/null | xargs -r kill -9
  ip netns del host-a 2> /dev/null || true
  ip netns del host-b 2> /dev/null || true
  rm -rf "$work"
}
trap clean EXIT

ip netns add host-a
ip netns add host-b
ip link add veth-a netns host-a type veth peer name veth-b netns host-b
for host in a:1 b:2; do
  ip -n "host-${host%:*}" addr add "10.77.0.${host#*:}/24" dev "veth-${host%:*}"
  ip -n "host-${host%:*}" link set "veth-${host%:*}" up
  ip -n "host-${host%:*}" link set lo up
done

# What `ssh` does on a cluster: starts a command on another host, here one whose last number is in its name.
cat > "$work/agent" <<'AGENT'
#!/bin/bash
host=$1
shift
exec ip netns exec host-b unshare --uts sh -c "hostname $(echo "$host" | tr . -); $*"
AGENT
chmod +x "$work/agent"

watch=(--mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3)
train() { # RUN OPTIONS
  local run=$1
  shift
  ip netns exec host-a unshare --uts sh -c 'hostname 10-77-0-1; exec "$@"' sh \
    mpirun --allow-run-as-root --host 10.77.0.1:1,10.77.0.2:1 --mca plm_rsh_agent "$work/agent" --bind-to none \
    --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
    "${watch[@]}" -x RAYON_NUM_THREADS=1 -x HF_HUB_OFFLINE=1 \
    "$soundsight" train --data "$data" --model "$model" --device cpu --workers 1 --val-fraction 0 --out "$work/$run" \
    --batch 4 --accumulate 1 --negatives global --epochs 3 --save-every 1 --mpi-timeout "$timeout" "$@"
}
steps() { cat "$work/$1/metrics.jsonl" 2> /dev/null | grep -c '"train"' || true; }

echo '== undisturbed'
time train whole
total="$(steps whole)"

cut_in_the_middle() { # RUN
  train "$1" > "$work/said" 2>&1 &
  job=$!
  until [ "$(steps "$1")" -ge $((total / 2)) ]; do sleep 0.02; done
  ip -n host-b link set veth-b down
  SECONDS=0
}
resume() { # RUN
  ip netns pids host-a | xargs -r kill -9
  ip netns pids host-b | xargs -r kill -9
  ip -n host-b link set veth-b up
  train "$1" --resume
  cmp "$work/whole/last/acl.safetensors" "$work/$1/last/acl.safetensors" && echo 'the same weights, byte for byte'
}

echo '== the link is cut in the middle, and mpirun watches its connections'
cut_in_the_middle watched
status=0
wait "$job" || status=$?
echo "ended after $SECONDS s with status $status:"
cat "$work/said"
[ "$status" -ne 0 ] && [ "$SECONDS" -lt 90 ]
grep -q 'Remote daemon: .* 10.77.0.2' "$work/said"
resume watched

echo '== the same, and only the processes notice; mpirun would wait for the lost host for minutes'
watch=()
cut_in_the_middle unwatched
until grep '^error: process 1 on 10-77-0-2: no answer' "$work/said"; do
  [ "$SECONDS" -lt 60 ]
  sleep 0.5
done
echo "said after $SECONDS s"
resume unwatched
