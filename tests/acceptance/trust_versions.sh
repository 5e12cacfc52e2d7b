#!/usr/bin/env bash
# Versions: installs the package with the lowest and the newest versions that its requirements allow, on each Python that is here, and
# with each nnU-Net from 2.8.0 to its master, runs a part of the tests in each, and prints a table.
#
# Usage: tests/acceptance/trust_versions.sh FOLDER [ROW ...]    10 minutes and 8 GB for each row; $ROWS are the default
#
# FOLDER keeps the log of each row. Pythons are python3.10 to python3.14 in $PATH, or from $PYTHONS, a list of paths. A checkout of nnU-Net's
# master is $NNUNET_MASTER, default FOLDER/nnUNet, cloned where GitHub can be reached. uv comes from PyPI.
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$work"
ROWS="lowest 2.8.0 2.8.1 master 3.10 3.12 3.13 3.14" # the lowest on Python 3.10
tests="test_registration.py test_end_to_end.py commands/test_cite.py losses topology/test_persistence.py metrics evaluation priors"
master=${NNUNET_MASTER:-$work/nnUNet}
failed=() missing=()
tree=$work/tree # what is tested: the last commit
rm -rf "$tree" && mkdir "$tree" && git -C "$root" archive HEAD | tar -x -C "$tree"

[ -x "$work/uv/bin/uv" ] || { python3 -m venv "$work/uv" && "$work/uv/bin/pip" install -q uv; }
uv=$work/uv/bin/uv
export UV_CACHE_DIR=$work/cache UV_LINK_MODE=hardlink UV_PYTHON_DOWNLOADS=never
python_of() { # the path of Python $1
    for path in ${PYTHONS:-}; do [[ $("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])') = "$1" ]] && echo "$path" && return; done
    type -P "python$1" || true
}
install() { # row $1 into the environment
    local here=(--quiet --python "$work/env/bin/python")
    case $1 in
        lowest) # the tools of the tests are new ones that fit; triton of torch 2.4 imports setuptools and does not say so
            "$uv" pip install "${here[@]}" --resolution lowest-direct --editable "$tree"
            "$uv" pip freeze --python "$work/env/bin/python" --exclude-editable | grep == >"$work/lowest.txt"
            "$uv" pip install "${here[@]}" --constraint "$work/lowest.txt" --editable "$tree[test]" "setuptools<80"
            ;;
        2.8.*) "$uv" pip install "${here[@]}" --editable "$tree[test]" "nnunetv2==$1" ;;
        master) "$uv" pip install "${here[@]}" --editable "$tree[test]" "$master" ;;
        *)
            "$uv" pip install "${here[@]}" --editable "$tree[test]"
            "$uv" pip install "${here[@]}" --dry-run --editable "$tree[dev]" # what .ci/run installs
            ;;
    esac
}

echo "| row | Python | nnunetv2 | torch | numpy | numba | tests |"
echo "|---|---|---|---|---|---|---|"
rows=${*:2}
for row in ${rows:-$ROWS}; do
    case $row in
        3.*) python=$(python_of "$row") ;;
        lowest) python=$(python_of 3.10) ;;
        *) python=$(type -P python3) ;;
    esac
    if [ "$row" = master ] && [ ! -d "$master" ]; then
        timeout 60 git clone -q --depth 1 https://github.com/MIC-DKFZ/nnUNet "$master" 2>/dev/null || python=
    fi
    if [ -z "$python" ]; then
        echo "| $row | not here | | | | | |"
        missing+=("$row")
        continue
    fi
    rm -rf "$work/env"
    "$uv" venv --quiet --python "$python" "$work/env"
    if ! install "$row" >"$work/$row.install.log" 2>&1; then
        echo "| $row | | | | | | cannot be installed: $(grep -v '^ *$' "$work/$row.install.log" | head -c 300 | tr '\n' ' ') |"
        failed+=("$row")
        continue
    fi
    versions=$("$work/env/bin/python" -c '
import platform
from importlib.metadata import version
print(" | ".join([platform.python_version(), *map(version, ("nnunetv2", "torch", "numpy", "numba"))]))')
    status=0
    (cd "$tree/tests" && "$work/env/bin/python" -m pytest -q -p no:cacheprovider $tests) >"$work/$row.log" 2>&1 || status=$?
    echo "| $row | $versions | $(tail -1 "$work/$row.log" | tr -d '=') |"
    [ $status = 0 ] || failed+=("$row")
    if "$work/env/bin/nnunet-topo" doctor 2>>"$work/$row.log" | grep 'newer than what was tested' >>"$work/$row.log"; then
        failed+=("$row (doctor's table does not have its versions)")
    fi
done
echo "failed: ${failed[*]:-none}"
echo "not measured: ${missing[*]:-none}"
[ ${#failed[@]} = 0 ]
