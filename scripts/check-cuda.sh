#!/usr/bin/env bash
# Type-checks everything with the CUDA backend and links one test program, on a bare machine without a GPU: the compiler
# and the libraries come from PyPI. It is not part of CI because it takes more than half an hour on two cores, mostly
# for Candle's kernels. On a machine with a GPU, scripts/gpu-tests.sh runs the tests.
#
# CUDA_TOOLS is the folder to install the compiler in; CUDA_COMPUTE_CAP is the GPU's compute capability (default: 80).
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${CUDA_TOOLS:-target/cuda-tools}"
if [ ! -x "$tools/bin/python" ]; then
  python3 -m venv "$tools"
fi
# cudarc refuses toolkits newer than 13.0.
"$tools/bin/pip" install --quiet 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' \
  'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cublas==13.0.*' \
  'nvidia-curand==10.4.*'
CUDA_HOME="$("$tools/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13"
export CUDA_HOME CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}" PATH="$CUDA_HOME/bin:$PATH"
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

# The linker looks for unversioned names, which the wheels do not contain.
for library in "$CUDA_HOME"/lib/lib{cublas,cublasLt,cudart,curand,nvrtc}.so.*; do
  ln -sf "$(basename "$library")" "${library%.so.*}.so"
done
# The driver comes with the GPU. A stub with the names of its functions is enough to link against it.
mkdir -p "$CUDA_HOME/lib/stubs"
grep -oE '\bcu[A-Z][A-Za-z0-9_]*' "$CUDA_HOME/include/cuda.h" | sort -u | sed 's/.*/void &(void) {}/' |
  cc -x c - -shared -fno-builtin -Wl,-soname,libcuda.so.1 -o "$CUDA_HOME/lib/stubs/libcuda.so"

cargo test --features cuda --test parity --no-run "$@"
program="$(ls -t "${CARGO_TARGET_DIR:-target}"/debug/deps/parity-* | grep -v '\.d$' | head -1)"
echo "linked with CUDA: $program, $(stat -c %s "$program") bytes; it needs"
readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/  \1/p'
cargo check --features cuda --all-targets "$@"
