#!/usr/bin/env bash
# The topology term: matching in space, the measured weight, samples with intact labels, and the settings of the papers.
#
# Usage: tests/acceptance/term.sh [FOLDER [SECTION ...]]    some hours on 2 cores, 8 GB of disk
#
# FOLDER is empty or contains the output of an earlier run. Sections are 1 to 5, default all. Needs the history of the
# repository, and Dataset004_Hippocampus, Dataset101_ChaseDB1, Dataset102_SunnybrookLV and MNIST's test digits under
# $NNUNET_TOPO_DATA (default ../shared/data). Nets and patches are those of losses.sh.
source "$(dirname "$0")/prelude.sh" term "$@"
before=65cb058 # the commit before the term changed
measured_by=efabf5d # the last commit whose tests ask for no loss that $before lacks
failed=()

if [ ! -x "$work/plugin/bin/nnunet-topo" ]; then
    "$here/losses.sh" "$work" 0
fi
"$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
write_committed
rm -rf "$work/before" && mkdir "$work/before"
git -C "$root" archive "$measured_by" tests | tar -x -C "$work/before"
git -C "$root" archive "$before" nnunet_topo trainers | tar -x -C "$work/before"
say "before is $before, now is $(git -C "$root" rev-parse --short HEAD)"
# Runs a module of the tests with the former package, or with the present one.
in_tree() { (cd "$work/$1" && EXTRA="PYTHONPATH=$work/$1" in_env python -m "${@:2}"); }

if wanted 1; then
    for tree in before now; do
        say "1. matching in space, $tree"
        in_tree $tree tests.acceptance.term_matching || failed+=("1 $tree")
        in_tree $tree tests.descent 20 "Wasserstein, TAFL" TopoLoss || failed+=("1 descent $tree")
    done
fi

if wanted 2; then
    say "2. the measured weight"
    N_PROC_DA=0
    for part in plans ratio places resume; do
        say "   $part"
        in_env python "$here/term_weight.py" $part || failed+=("2 $part")
    done
    for tree in before now before now; do
        say "   time, $tree"
        EXTRA="PYTHONPATH=$work/$tree" in_env python "$here/term_weight.py" time || failed+=("2 time $tree")
    done
    N_PROC_DA=1
fi

if wanted 3; then
    say "3. which samples the term takes"
    N_PROC_DA=0
    in_env python "$here/term_augmentation.py" || failed+=(3)
    N_PROC_DA=1
fi

if wanted 4; then
    say "4. the papers' settings, two iterations of each name"
    in_tree now tests.acceptance.term_settings "$work/settings" || failed+=(4)
fi

if wanted 5; then
    say "5. Clough's experiments, from their records"
    in_tree now tests.acceptance.term_clough "$work/clough" || failed+=(5)
fi

say "failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
