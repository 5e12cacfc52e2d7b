#!/usr/bin/env bash
# The evidence: prints the tables that are made of the committed results, the number of runs, and whether each study runs from a clean checkout.
#
# Usage: tests/acceptance/evidence.sh [FOLDER [SECTION ...]]    sections 1 and 2, default both, about 10 minutes; 8 GB of disk
#
# FOLDER is empty or contains the output of an earlier run. Needs the data sets under $NNUNET_TOPO_DATA (default ../shared/data).
source "$(dirname "$0")/prelude.sh" evidence "$@"
failed=()

install_with test
write_committed
cd "$work/now"
# Runs a study in the clean checkout; its package comes first.
study() { EXTRA="PYTHONPATH=$work/now ${EXTRA:-}" in_env python -m "experiments.$@"; }

if wanted 1; then
    say "1. the tables, from the committed results alone"
    for made in "comparison tables" "clough_mnist --table" "semi_supervised_sunnybrook --table" "semi_supervised_sunnybrook --ring --table"; do
        name=${made%% *}; file=experiments/$name/tables.md
        case $made in *--ring*) file=experiments/$name/tables_ring.md ;; esac
        study $made >"$work/tables.md"
        if cmp "$work/tables.md" "$file"; then echo "$made: equal to $file, $(wc -l <"$file") lines"; else failed+=("1 $made"); fi
    done
    say "runs of the comparison, failures, hours"
    study comparison tables | head -1
    study comparison tables | grep -E '^- failed' || echo "no failed run"
    python3 - <<'COUNT'
import json
from collections import Counter
from pathlib import Path

records = [json.loads(file.read_text()) for file in Path("experiments/comparison/results").glob("*.json")]
runs = Counter(record["data_set"] for record in records)
for data_set, number in sorted(runs.items()):
    of = [record for record in records if record["data_set"] == data_set]
    seeds, arms = {record["seed"] for record in of}, {record["arm"] for record in of}
    print(f"{data_set}: {number} runs, {len(arms)} arms, {len(seeds)} seeds")
COUNT
fi

if wanted 2; then
    say "2. each study from a clean checkout, in less than 5 minutes"
    rm -rf "$work/smoke"
    tries=(
        "comparison screening --smoke --arms Stock Topology --work $work/smoke"
        "clough_mnist --digits 1 -o $work/smoke/mnist"
        "semi_supervised_sunnybrook --seeds 1 --minutes 0.01 --record $work/smoke/sunnybrook.json" # one setting
    )
    for try in "${tries[@]}"; do
        began=$SECONDS
        if study $try --data "$data" >"$work/smoke.txt" 2>&1 && ! grep -q -e '^- failed' "$work/smoke.txt"; then
            tail -3 "$work/smoke.txt"
        else
            tail -5 "$work/smoke.txt"; failed+=("2 $try")
        fi
        took=$((SECONDS - began))
        echo "-- $took s: ${try%% --work*}"
        [ $took -lt 300 ] || failed+=("2 $took s: $try")
    done
fi

say "failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
