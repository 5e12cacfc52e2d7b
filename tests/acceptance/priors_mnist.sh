#!/usr/bin/env bash
# Clough's experiment 1 on MNIST, section 2 of the acceptance of priors: prints every figure of it.
#
# Usage: tests/acceptance/priors_mnist.sh [FOLDER [SECTION ...]]
#
# FOLDER is empty, or holds what was finished before, which is not done again. Sections are 0 and 2, default both. Needs
# mnist under $NNUNET_TOPO_DATA (default ../shared/data). DIGITS (default 130, at most 1000) are refined for each m.
set -Eeuo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(cd "${NNUNET_TOPO_DATA:-$root/../shared/data}" && pwd)
work=$(mkdir -p "${1:-/tmp/priors}" && cd "${1:-/tmp/priors}" && pwd)
cd "$work" # not in the checkout, whose package Python would find
trap 'echo "FAILED in line $LINENO"' ERR

say() { echo; echo "== $*"; }
in_env() {
    env -i HOME="$HOME" PATH="$work/plugin/bin:/usr/bin:/bin" NNUNET_TOPO_DATA="$data" OMP_NUM_THREADS=1 "$@"
}

section_0() {
    say "0. a fresh virtual environment"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
}

section_2() {
    say "2. Clough's experiment 1 on MNIST: m = 2 to 12 lines removed, eq. 5 in both forms of eq. 3, beside the paper's table"
    (cd "$root" && in_env pytest -q -p no:cacheprovider tests/test_clough_mnist.py)
    began=$SECONDS
    in_env python "$root/experiments/clough_mnist.py" -o "$work/mnist" --digits "${DIGITS:-130}"
    echo "$((SECONDS - began)) s"
    ls -l "$work/mnist" | awk 'NR > 1 {print $5, $9}'
}

sections=${*:2}
for section in ${sections:-0 2}; do "section_$section"; done
say "all figures of the sections ${sections:-0 2} printed"
