#!/usr/bin/env bash
# Topology after a training: steps chosen by cross-validation, exact correction, and the places of errors.
#
# Usage: tests/acceptance/postprocess.sh [FOLDER [SECTION ...]]    half an hour on 2 cores, 8 GB of disk
#
# FOLDER is empty or contains the output of an earlier run, whose trainings are not repeated. Needs Dataset004_Hippocampus,
# Dataset101_ChaseDB1, Dataset103_TopoMortar and the Sunnybrook data under $NNUNET_TOPO_DATA (default ../shared/data). $CONTOURS is
# a folder with outer contours of the myocardium; without it the cavity is corrected instead of the ring.
source "$(dirname "$0")/prelude.sh" postprocess "$@"
failed=()

say "0. an environment"
install_with test
# Runs a module of the tests.
in_tree() { (cd "$root" && EXTRA="PYTHONPATH=$root" in_env python -m "$@"); }

if wanted 1; then
    say "1. steps chosen by postprocess find, beside nnU-Net's own and an exhaustive search"
    in_tree tests.acceptance.postprocess_find "$work/found" || failed+=(1)
fi

if wanted 2; then
    say "2. exact correction"
    in_tree tests.acceptance.correct maps || failed+=("2 maps")
    trained=$(ls -d "$work"/results/Dataset004_Hippocampus/*__nnUNetPlansSteps__3d_fullres 2>/dev/null || true) # of section 1
    if [ -n "$trained" ]; then
        in_tree tests.acceptance.correct hippocampus "$trained" "$data/Dataset004_Hippocampus" "$work/corrected" 6 || failed+=("2 hippocampus")
    else
        echo "hippocampus: not measured, section 1 trains its network"
    fi
    in_tree tests.acceptance.correct sunnybrook "$data" ${CONTOURS:+"$CONTOURS"} || failed+=("2 sunnybrook")
fi

if wanted 3; then
    say "3. the places of errors"
    in_tree tests.acceptance.error_places "$work/errors" || failed+=(3)
fi

[ ${#failed[@]} -eq 0 ] || { echo "FAILED sections: ${failed[*]}"; exit 1; }
