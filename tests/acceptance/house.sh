#!/usr/bin/env bash
# The order of the code: prints whether the figures equal those of the package before it was reorganised, and the sizes of files and rooms.
#
# Usage: tests/acceptance/house.sh [FOLDER [SECTION ...]]    sections 1 to 5 about 15 minutes, 6 some hours; 8 GB of disk
#
# FOLDER is empty or contains the output of an earlier run. Sections are 1 to 6, default all. Needs the history of the repository.
source "$(dirname "$0")/prelude.sh" house "$@"
before=0b6f1af # the commit before the modules moved
moved=65cb058 # the commit after; later ones change what the topology term does
failed=()

install_with dev
write_committed
rm -rf "$work/before" "$work/moved" && mkdir "$work/before" "$work/moved"
git -C "$root" archive "$before" nnunet_topo trainers | tar -x -C "$work/before"
git -C "$root" archive "$moved" nnunet_topo trainers | tar -x -C "$work/moved"
say "before is $before, now is $(git -C "$root" rev-parse --short HEAD)"

if wanted 1; then
    say "1. all tests"
    (cd "$work/now" && in_env pytest -q -p no:cacheprovider 2>&1 | tail -3) || failed+=(1)
fi

if wanted 2; then
    say "2. figures of losses, topology, metrics, files and trainings, bit for bit: $before and $moved"
    for part in losses topology metrics comparison plan training; do
        EXTRA="PYTHONPATH=$work/before" in_env python "$here/house.py" $part >"$work/before_$part.txt" 2>"$work/errors.txt" ||
            tail -1 "$work/errors.txt"
        EXTRA="PYTHONPATH=$work/moved" in_env python "$here/house.py" $part >"$work/moved_$part.txt" 2>"$work/errors.txt" || tail -1 "$work/errors.txt"
        printf '%-12s' "$part"
        in_env python "$here/house.py" --equal "$work/before_$part.txt" "$work/moved_$part.txt" || failed+=("2 $part")
    done
fi

if wanted 3; then
    say "3. import-linter"
    (cd "$work/now" && in_env lint-imports --no-cache | grep -E 'KEPT|BROKEN|Contracts:') || failed+=(3)
fi

if wanted 4; then
    say "4. the size of files and rooms"
    in_env python "$here/house.py" --sizes || failed+=(4)
fi

if wanted 5; then
    say "5. phrases that were replaced: files that contain them, besides this script and tests/test_words.py"
    phrases=(
        "One command tells you, with tests and pictures" "whether the installation is well" "things to mend" "troubles:"
        "has been seen to do much" "became most better" "Returns what returns the loss" "is no dataset.json" "goes on where it was"
    )
    for phrase in "${phrases[@]}"; do
        found=$(git -C "$root" grep -icF "$phrase" -- . ':!tests/acceptance/house.sh' ':!tests/test_words.py' | wc -l) || true # grep that finds nothing ends with 1
        echo "$found files: $phrase"
        [ "$found" = 0 ] || failed+=("5 $phrase")
    done
fi

if wanted 6; then
    say "6. plain mutations that the tests notice, some hours"
    "$work/plugin/bin/pip" install -q mutmut
    (cd "$work/now" && in_env python tests/mutation.py) || failed+=(6)
    say "the walks of docs/architecture.md name what exists"
    (cd "$work/now" && in_env pytest -q -p no:cacheprovider tests/test_documents.py -k architecture 2>&1 | tail -1) || failed+=(6)
fi

say "failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
