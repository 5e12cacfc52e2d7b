#!/usr/bin/env bash
# Two commands on a fresh machine, and the documents as a newcomer follows them: prints every figure of their acceptance.
#
# Usage: tests/acceptance/newcomer.sh [FOLDER [SECTION ...]]    about an hour on 2 cores, 25 GB of disk
#
# FOLDER is empty or contains the output of earlier sections. Sections are 1 to 5, default all, in this order; section 1 is
# made of 1_demo and 1_interrupted, 5 of 5_look, 5_existing, 5_offline and 5_uninstall. What is run is read from the documents
# (tests/documents.py), in copies of the commit that is checked out, each in a fresh virtual environment, with FOLDER/home as
# the home folder. Needs a package index; section 3 Dataset004_Hippocampus under $NNUNET_TOPO_DATA (default ../shared/data).
set -Eeuo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mkdir -p "${1:-/tmp/newcomer}" && cd "${1:-/tmp/newcomer}" && pwd)
here=$root/tests/acceptance
kept=${PIP_CACHE_DIR:-$HOME/.cache/pip} # downloaded files
mkdir -p "$work/home"
cd "$work"
trap 'echo "FAILED in line $LINENO"' ERR

say() { echo; echo "== $*"; }
# Makes an environment and a checkout beside it, once. $1 names both.
environment() {
    test ! -e "$work/$1" || return 0
    mkdir -p "$work/$1/checkout"
    git -C "$root" archive HEAD | tar -x -C "$work/$1/checkout"
    python3 -m venv "$work/$1/env"
}
# A fresh shell in the environment $1: nothing but what is named here.
in_env() {
    local environment=$work/$1; shift
    env -i HOME="$work/home" PATH="$environment/env/bin:/usr/bin:/bin" PIP_CACHE_DIR="$kept" PIP_DISABLE_PIP_VERSION_CHECK=1 \
        ${EXTRA:-} "$@"
}
# Prints the commands of a document under a heading.
typed() { python3 "$root/tests/documents.py" "$@"; }
# Types commands, one shell for all, in the checkout of the environment $1. $2 is the folder beside it, "" for the checkout.
type_in() {
    local name=$1 folder=$work/$1/${2:-checkout} commands
    commands=$(cat)
    sed 's/^/$ /' <<<"$commands"
    (mkdir -p "$folder" && cd "$folder" && in_env "$name" bash -euo pipefail -c "$commands")
}
took() { echo "-- $((SECONDS - began)) s"; }

section_1() { section_1_demo; section_1_interrupted; }
section_1_demo() {
    say "1. README: install and demo, in a fresh environment"
    rm -rf "$work/first"
    environment first
    began=$SECONDS
    typed README.md "Two commands" | sed -n 1p | type_in first >"$work/install.log" 2>&1
    took
    began=$SECONDS
    typed README.md "Two commands" | sed -n 2p | type_in first
    took
    test $((SECONDS - began)) -lt 720
    in_env first python "$here/newcomer.py" table "$work/first/checkout/nnunet-topo-demo/report"
    echo "-- the same again"
    began=$SECONDS
    typed README.md "Two commands" | sed -n 2p | type_in first | grep -c "done before"
    took
}
section_1_interrupted() {
    say "1. the demo interrupted, killed, cut off, and run to its end"
    install_once first
    rm -rf "$work/interrupted"
    in_env first python "$here/newcomer.py" interrupt "$work/interrupted"
}
install_once() {
    environment "$1"
    test -x "$work/$1/env/bin/nnunet-topo" || typed README.md "Two commands" | sed -n 1p | type_in "$1" >"$work/install.log" 2>&1
}

section_2() {
    say "2. README: the test command, in a fresh environment"
    rm -rf "$work/tested"
    environment tested
    began=$SECONDS
    typed README.md "Two commands" | sed -n 3,4p | type_in tested >"$work/tests.log" 2>&1 || { tail -20 "$work/tests.log"; false; }
    tail -1 "$work/tests.log"
    took
}

section_3() {
    say "3. README: from raw data to a report, and on from the finished model; short trainings, as README offers them"
    data=$(cd "${NNUNET_TOPO_DATA:-$root/../shared/data}" && pwd)
    install_once first
    rm -rf "$work"/home/nnUNet_* "$work/first/user"
    python3 "$here/newcomer.py" raw "$data/Dataset004_Hippocampus" "$work/home/nnUNet_raw" "$work/first/user/IMAGES"
    mkdir "$work"/home/nnUNet_{preprocessed,results}
    for place in "README.md:Your own data" "docs/training.md:From a finished model"; do
        began=$SECONDS
        { typed README.md "Your own data" | head -1; typed "${place%%:*}" "${place#*:}" | sed /^export/d; } | sed -E 's/_50epochs//g; s/(nnUNetTrainer[A-Z][A-Za-z]*)/\1_2epochs_10iters/g;
            s/^nnUNetv2_(train|predict) .*/& -device cpu/' | type_in first user >"$work/own_data.log" 2>&1 || { tail -20 "$work/own_data.log"; false; }
        grep '^\$' "$work/own_data.log"
        tail -6 "$work/own_data.log"
        took
    done
    ls "$work"/first/user/PREDICTED/*.nii.gz | wc -l
    ls "$work"/first/user/comparison*/report.html
}

section_4() {
    say "4. the doctor and broken set-ups"
    install_once first
    in_env first pip install -q pytest hypothesis beartype
    (cd "$work/first/checkout" && in_env first pytest -v -p no:cacheprovider tests/commands/test_doctor.py | grep -E 'PASSED|FAILED|ERROR|passed|failed')
    echo "-- as the newcomer sees it, before anything is set"
    in_env first nnunet-topo doctor || echo "exit status $?"
}

folders="nnUNet_raw=$work/home nnUNet_preprocessed=$work/home nnUNet_results=$work/home"
section_5() { section_5_look; section_5_existing; section_5_offline; section_5_uninstall; }
section_5_look() {
    say "5. setup_instructions: look before you install, where nnU-Net is older"
    environment older
    in_env older pip install -q --no-deps nnunetv2==2.5.1
    typed setup_instructions.md "Look before you install" | type_in older | tail -1 | tr ' ' '\n' | grep -E '^(nnunetv2|nnunet-topo|torch|numpy)-[0-9]'
    echo "-- what is there still:"
    in_env older pip list | grep nnunetv2
}
section_5_existing() {
    say "5. setup_instructions: into an environment with nnU-Net"
    install_once first
    typed setup_instructions.md "Into the environment of your nnU-Net" | EXTRA=$folders type_in first | tail -4
}
section_5_offline() {
    say "5. setup_instructions: a network without internet"
    environment collect
    environment offline
    typed setup_instructions.md "A network without internet" | sed -n 1p | type_in collect >"$work/wheels.log" 2>&1
    du -sh "$work/collect/checkout/wheelhouse"
    mv "$work/collect/checkout/wheelhouse" "$work/offline/checkout"
    typed setup_instructions.md "A network without internet" | sed 1d >"$work/offline.sh"
    without_network "$work/offline.sh" | tail -12
    rm -rf "$work"/{collect,offline}
}
section_5_uninstall() {
    say "5. setup_instructions: a second environment, uninstall"
    typed setup_instructions.md "A second environment, or the first" >"$work/second.sh"
    typed setup_instructions.md "Uninstall" >>"$work/second.sh"
    environment second
    EXTRA=$folders type_in second <"$work/second.sh" | tail -6
    find "$work"/home/nnunet-topo-env/{bin,lib} -iname '*nnunet*topo*' | sort | tee "$work/traces.log"
    test ! -s "$work/traces.log"
    echo "no traces"
    rm -rf "$work/second" "$work/home/nnunet-topo-env"
}
# Types the commands of a file without access to a network.
without_network() {
    export -f in_env type_in
    export work kept
    EXTRA="$folders PIP_CONFIG_FILE=/dev/null" unshare --map-root-user --net bash -euo pipefail -c "type_in offline <$1"
}

sections=${*:2}
for section in ${sections:-1 2 3 4 5}; do "section_$section"; done
say "all figures of the sections ${sections:-1 2 3 4 5} printed"
