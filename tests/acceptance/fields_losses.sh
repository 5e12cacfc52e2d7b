#!/usr/bin/env bash
# The field's own losses under one seam: Skeleton Recall, clDice, SCNP, alone, in sums, and as nnUNetTrainerTopology.
#
# Usage: tests/acceptance/fields_losses.sh [FOLDER [SECTION ...]]    1 to 6 in 2 hours on an idle core; 7 takes another
#
# FOLDER is empty, or holds what an earlier run has left. Sections are 1 to 7, default 1 to 6. Needs
# Dataset004_Hippocampus and Dataset101_ChaseDB1 under $NNUNET_TOPO_DATA (default ../shared/data). Section 1 takes the
# authors' code from $FIELDS_AUTHORS, a folder of checkouts, or clones it from GitHub; without either it says so.
source "$(dirname "$0")/prelude.sh" fields "$@"
sections=${sections:-1 2 3 4 5 6}
failed=()

if [ ! -x "$work/plugin/bin/nnunet-topo" ]; then
    "$here/losses.sh" "$work" 0
fi
"$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
write_committed
in_tree() { (cd "$work/now" && EXTRA="PYTHONPATH=$work/now ${MORE:-}" in_env python -m "$@"); }

authors=${FIELDS_AUTHORS:-$work/authors}
if wanted 1; then
    say "1. values and gradients beside the authors' code, 200 inputs each"
    for repository in MIC-DKFZ/Skeleton-Recall jocpae/clDice jmlipman/SCNP-SameClassNeighborPenalization; do
        [ -d "$authors/${repository#*/}" ] || timeout 60 git clone -q --depth 1 "https://github.com/$repository" \
            "$authors/${repository#*/}" || echo "$repository cannot be cloned here"
    done
    in_tree tests.acceptance.fields_losses authors "$authors" || failed+=(1)
fi

if wanted 2; then
    say "2. regions with ignored voxels beside loops over voxels, 200 inputs each"
    in_tree tests.acceptance.fields_losses references || failed+=(2)
fi

if wanted 3; then
    say "3. cost of a step beside stock, and memory"
    N_PROC_DA=0 in_tree tests.acceptance.fields_trainings cost || failed+=("3 cost")
    in_tree tests.acceptance.fields_trainings memory || failed+=("3 memory")
fi

if wanted 4; then
    say "4. a training of each on hippocampus, with regions and an ignore label"
    N_PROC_DA=0 in_tree tests.acceptance.fields_trainings hippocampus || failed+=(4)
    say "   SCNP and its authors' trainer from scratch"
    N_PROC_DA=0 in_tree tests.acceptance.fields_trainings scnp "$authors" || failed+=("4 scnp")
fi

if wanted 5; then
    say "5. each term with each added loss, and with each pair of them"
    MORE="nnUNet_n_proc_DA=0" in_tree tests.acceptance.fields_trainings pairs "$work/pairs" || failed+=(5)
fi

if wanted 6; then
    say "6. what descent repairs, of 20"
    in_tree tests.descent 20 | tee "$work/descent.md" || failed+=(6)
fi

if wanted 7; then
    say "7. ChaseDB1, two seeds of each arm"
    N_PROC_DA=0 in_tree tests.acceptance.fields_vessels "$work/vessels" || failed+=(7)
fi

say "failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
