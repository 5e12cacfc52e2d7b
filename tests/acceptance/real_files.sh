#!/usr/bin/env bash
# Files from public bug reports: prints the output of each fault before it was fixed, and the output now.
#
# Usage: tests/acceptance/real_files.sh [FOLDER [ITEM ...]]    about 40 minutes on 2 cores, 9 GB of disk
#
# FOLDER is empty or contains the output of an earlier run. Items are 1 to 27, default all. Needs the data sets under
# $NNUNET_TOPO_DATA (default ../shared/data), the history of the repository, and chromium for pictures and printed pages.
source "$(dirname "$0")/prelude.sh" real_files "$@"
before=4313c74 # the commit before the first fault was fixed

if [ ! -x "$work/plugin/bin/nnunet-topo" ]; then
    say "a fresh virtual environment"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test,benchmark]" medpy monai
fi
"$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
"$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|scikit-image |simpleitk |numpy |numba |surface|medpy|monai)'
mkdir -p "$work"/{raw,preprocessed,results,before}
git -C "$root" archive "$before" nnunet_topo trainers | tar -x -C "$work/before"
say "before is $before, now is $(git -C "$root" rev-parse --short HEAD)"
in_env python "$here/real_files.py" "$work/before" "${@:2}"
