#!/usr/bin/env bash
# Betti matching: prints every figure of its acceptance.
#
# Usage: tests/acceptance/betti_matching.sh [FOLDER [SECTION ...]]    about an hour on 2 cores, 6 GB of disk
#
# FOLDER is empty, or holds what an earlier run has left. Sections are 1 to 4, default all. Section 3 measures speed: run nothing
# beside it. Sections 3 and 4 need Dataset004_Hippocampus, Dataset101_ChaseDB1 and Dataset103_TopoMortar under $NNUNET_TOPO_DATA
# (default ../shared/data). The authors' code comes with topolosses from PyPI; where it cannot be installed, what needs it is
# not measured.
source "$(dirname "$0")/prelude.sh" betti_matching "$@"
N_PROC_DA=0
failed=()
authors=topolosses.losses.betti_matching.src.betti_matching_loss

if [ ! -x "$work/plugin/bin/nnunet-topo" ]; then
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    "$work/plugin/bin/pip" install -q --no-deps topolosses==0.2.0 opencv-python-headless || echo "topolosses cannot be installed"
fi
"$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
mkdir -p "$work"/{raw,preprocessed,results}
write_committed
in_tree() { (cd "$work/now" && EXTRA="PYTHONPATH=$work/now" in_env python -W ignore -m "$@"); }
part() { in_tree tests.acceptance.betti_matching "$@" || failed+=("$1"); }
in_env python -c "import $authors" 2>"$work/authors.log" || say "the authors' code is not measured: $(tail -1 "$work/authors.log")"

if wanted 1; then
    say "1. matches: the authors' code, linear algebra over F2, the metric of masks, figures worked by hand"
    for name in authors algebra metric; do part $name; done
    in_tree pytest -q -p no:cacheprovider tests/topology/test_bar_matching.py tests/topology/test_grey_matching.py \
        -k "worked or place or perfect or itself" | tail -1
fi

if wanted 2; then
    say "2. the gradient in float64, and what descent repairs"
    in_tree pytest -q -p no:cacheprovider tests/losses/test_betti_matching_loss.py | tail -1
    part descent
    in_tree tests.descent 20 "Wasserstein, TAFL" BettiMatching "the same, missing bars pushed" || failed+=(table)
fi

plan() {
    for planned in "4 3d_fullres Dataset004_Hippocampus" "101 2d Dataset101_ChaseDB1" "103 2d Dataset103_TopoMortar"; do
        read -r id configuration dataset <<<"$planned"
        [ -d "$work/preprocessed/$dataset/nnUNetPlans_$configuration" ] && continue
        ln -sfn "$data/$dataset" "$work/raw/$dataset"
        N_PROC_DA=1 in_env nnUNetv2_plan_and_preprocess -d "$id" -c "$configuration" -np 1 -npfp 1 >"$work/plan.log" 2>&1
    done
}

if wanted 3; then
    say "3. speed and memory"
    in_tree benchmarks matching -o "$work/matching.json" 2>"$work/matching.log" || failed+=(matching)
    part cost
    part speed "$work/matching.json"
    in_tree benchmarks matching_memory -o "$work/memory.json" 2>"$work/memory.log" || failed+=(memory)
    part memory "$work/memory.json"
    plan
    part step
fi

if wanted 4; then
    say "4. trainings of small nets"
    plan
    part trainings
fi

say "failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
