#!/usr/bin/env bash
# Trust and scale: prints the figures with which faults, hostile input and clusters were accepted.
#
# Usage: tests/acceptance/trust.sh [FOLDER [SECTION ...]]    the sections take hours on 2 cores
#
# Sections, default all: 1 Slurm against local (needs root and Debian's slurm-wlm and munge); 2 commands that are killed,
# NNUNET_TOPO_KILLS times each (30; $KILLED names some of them), and two folds that start at once, NNUNET_TOPO_STARTS times (50); 3 arbitrary input for
# FUZZ_MINUTES (60); 4 LONG_RUN iterations (10000) of each loss; 5 versions, see trust_versions.sh. PYTHON is an environment with the package and its extra test;
# without it, one is made in FOLDER.
source "$(dirname "$0")/prelude.sh" trust "$@"
failed=() skipped=() not_measured=()
for section in 1 2 3 4 5; do wanted $section || not_measured+=("$section"); done
judge() { grep -q '^failed' "$work/$1.txt" && failed+=("$1") || true; }

if [ -z "${PYTHON:-}" ]; then
    PYTHON=$work/plugin/bin/python
    [ -x "$PYTHON" ] || { say "a fresh virtual environment"; python3 -m venv "$work/plugin"; "$work/plugin/bin/pip" install -q "$root[test]"; }
fi
mkdir -p "$work"/{raw,preprocessed,results}
in_root() { (cd "$root" && env PATH="$(dirname "$PYTHON"):$PATH" PYTHONPATH="$root" nnUNet_def_n_proc=1 nnUNet_npp=1 nnUNet_nps=1 "$@"); }

if wanted 1; then
    say "1. two trainers x two folds on Slurm, one job killed and requeued, against the same run here"
    if [ "$(id -u)" != 0 ] || ! command -v slurmctld munged >/dev/null; then
        skipped+=("1: needs root, slurm-wlm and munge")
    else
        export "$("$here/slurm_here.sh" start "$work/cluster" | tail -1)"
        trap '"$here/slurm_here.sh" stop "$work/cluster"' EXIT
        in_root env nnUNet_raw="$work/raw" nnUNet_preprocessed="$work/preprocessed" nnUNet_results="$work/results" \
            "$PYTHON" "$here/trust_slurm.py" "$work" 2>"$work/1.log" | tee "$work/1.txt" | grep -E '^(good|failed)' || failed+=(1)
        judge 1
    fi
fi

if wanted 2; then
    say "2. commands killed at random moments, ${NNUNET_TOPO_KILLS:-30} times each; two folds that start at once"
    : >"$work/2.txt"
    test=tests/faults/test_kills.py::test_a_killed_command_gives_in_the_end_what_it_gives_undisturbed
    for name in ${KILLED:-evaluate compare correct find apply plan refine preprocess_unlabeled train run}; do
        if in_root "$PYTHON" -m pytest -q -s -p no:cacheprovider -m slow "$test[$name]" >"$work/2_$name.log" 2>&1; then
            echo "good   $(grep -E "^$name: " "$work/2_$name.log")"
        else
            echo "failed $name: see $work/2_$name.log"
        fi
    done | tee -a "$work/2.txt"
    if in_root "$PYTHON" -m pytest -q -s -p no:cacheprovider -m slow tests/faults/test_two_starts.py >"$work/2_starts.log" 2>&1; then
        echo "good   $(grep -E 'starts of two folds' "$work/2_starts.log")"
    else
        echo "failed two starts: see $work/2_starts.log"
    fi | tee -a "$work/2.txt"
    judge 2
fi

if wanted 3; then
    say "3. arbitrary input through every door for ${FUZZ_MINUTES:-60} minutes"
    in_root "$PYTHON" -W ignore -m tests.fuzz --minutes "${FUZZ_MINUTES:-60}" --seed "${FUZZ_SEED:-1}" 2>"$work/3.log" >"$work/3_table.txt" &&
        echo "good   nothing failed" >"$work/3.txt" || echo "failed some input: see $work/3_table.txt" >"$work/3.txt"
    cat "$work/3_table.txt" "$work/3.txt"
    judge 3
fi

if wanted 4; then
    say "4. ${LONG_RUN:-10000} iterations of each loss on changing shapes and classes: first tenth -> end"
    in_root "$PYTHON" -W ignore "$here/trust_long_run.py" "${LONG_RUN:-10000}" 2>"$work/4.log" | tee "$work/4.txt" || true
    [ "$(grep -c '^good' "$work/4.txt")" = 12 ] || failed+=(4)
fi

if wanted 5; then
    say "5. a part of the tests with the lowest and the newest versions"
    "$here/trust_versions.sh" "$work/versions" | tee "$work/5.txt" || failed+=(5)
fi

say "failed: ${failed[*]:-none}"
echo "skipped: ${skipped[*]:-none}"
echo "not measured: sections ${not_measured[*]:-none}"
[ ${#failed[@]} = 0 ]
