#!/usr/bin/env bash
# The persistence engine: prints every figure of its acceptance.
#
# Usage: tests/acceptance/engine.sh [FOLDER [SECTION ...]]    about two hours on 2 cores, 10 GB of disk, cripser and gudhi
#
# Sections are 0 to 5, default all; FUZZ_MINUTES (default 60) is how long section 3 compares with gudhi. Sections 1, 2 and
# 5 measure speed: run nothing beside them. Section 5 needs Dataset004_Hippocampus under $NNUNET_TOPO_DATA
# (default ../shared/data), planned by nnU-Net itself: its own network and patch.
set -Eeuo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(cd "${NNUNET_TOPO_DATA:-$root/../shared/data}" && pwd)
work=$(mkdir -p "${1:-/tmp/engine}" && cd "${1:-/tmp/engine}" && pwd)
cd "$root"
trap 'echo "FAILED in line $LINENO"' ERR

export PATH="$work/environment/bin:$PATH" NUMBA_CACHE_DIR="$work/machine_code" OMP_NUM_THREADS=2
export nnUNet_raw="$work/raw" nnUNet_preprocessed="$work/preprocessed" nnUNet_results="$work/results"
export nnUNet_def_n_proc=1 nnUNet_n_proc_DA=1 nnUNet_npp=1 nnUNet_nps=1
say() { echo; echo "== $*"; }
measure() { python -W ignore -m benchmarks "$1" -o "$work/$1.json" "${@:2}" 2>"$work/$1.log" || { tail -5 "$work/$1.log"; false; }; }
failed=0
check() { python tests/acceptance/engine.py "$1" "$work/$2.json" || failed=1; }

section_0() {
    say "0. a fresh virtual environment"
    python3 -m venv "$work/environment"
    pip install -q "$root[test,benchmark]" 2>/dev/null
    pip list 2>/dev/null | grep -iE '^(numba|numpy|gudhi|cripser|torch|topolosses|torch-topological|torch_topological|nnunetv2) '
}

section_1() {
    say "1. exact diagrams with voxels, all dimensions, one thread; and clamped"
    measure engine
    check speed engine
}

section_2() {
    say "2. memory, threads, worst cases"
    measure memory
    check memory memory
    measure threads
    check threads threads
    measure hard
    check hard hard
}

section_3() {
    say "3. against gudhi and theory"
    pytest -q -p no:cacheprovider tests/topology/test_engine.py tests/topology/test_persistence.py tests/losses/test_diagrams.py | tail -3
    python -m tests.fuzz --minutes "${FUZZ_MINUTES:-60}" --seed 1 "engine beside gudhi"
}

section_4() {
    say "4. a patch of 96^3 with 100 classes, 6 of them present, against 6 classes"
    measure classes
    check classes classes
}

section_5() {
    say "5. losses of other packages; probability maps of a network in mid-training; the training step"
    measure losses
    mkdir -p "$work"/{raw,preprocessed,results,images}
    ln -sfn "$data/Dataset004_Hippocampus" "$work/raw/Dataset004_Hippocampus"
    nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres -np 1 -npfp 1 >"$work/plan.log" 2>&1
    local trainer=nnUNetTrainerStock_1epochs_60iters_nomirror
    nnUNetv2_train 4 3d_fullres 0 -tr $trainer -device cpu >"$work/train.log" 2>&1
    for case in $(ls "$data/Dataset004_Hippocampus/imagesTr" | head -2); do
        cp "$data/Dataset004_Hippocampus/imagesTr/$case" "$work/images"
    done
    nnUNetv2_predict -i "$work/images" -o "$work/maps" -d 4 -c 3d_fullres -f 0 -tr $trainer -device cpu \
        --save_probabilities >"$work/predict.log" 2>&1
    measure maps --maps "$work/maps"
    OMP_NUM_THREADS=1 measure train_step -d 4
    check train_step train_step
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4 5}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4 5} printed"
exit $failed
