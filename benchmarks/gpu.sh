#!/usr/bin/env bash
# Measures training on a GPU, in the environment of nnunet-topo: see benchmarks/gpu.py.
#
# Usage: benchmarks/gpu.sh [--smoke] [-o FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
export nnUNet_n_proc_DA=0 nnUNet_compile=false NNUNET_TOPO_NO_METRICS=1
exec "${PYTHON:-python}" -m benchmarks.gpu "$@"
