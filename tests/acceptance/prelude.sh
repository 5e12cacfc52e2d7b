# Shared by the acceptance scripts: source prelude.sh NAME [FOLDER [SECTION ...]]. It is not run by itself.
#
# root: the checkout. here: this folder. data: real data. work: FOLDER, default /tmp/NAME. in_env runs a command in a fresh shell, in
# the virtual environment of work, with nnU-Net's folders in work; N_PROC_DA are nnU-Net's augmentation workers, 1 unless set.
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/tests/acceptance
data=$(cd "${NNUNET_TOPO_DATA:-$root/../shared/data}" && pwd)
work=$(mkdir -p "${2:-/tmp/$1}" && cd "${2:-/tmp/$1}" && pwd)
cd "$work" # outside the checkout, so that Python does not find the package there
trap 'echo "FAILED in line $LINENO"' ERR

sections=${*:3}

say() { echo; echo "== $*"; }
# Whether a section was asked for, or none was, which means all.
wanted() { [ -z "$sections" ] || [[ " $sections " == *" $1 "* ]]; }
# Makes the virtual environment of work once, with an extra of the package, and installs the checkout as it is now.
install_with() {
    if [ ! -x "$work/plugin/bin/nnunet-topo" ]; then
        say "a fresh virtual environment"
        python3 -m venv "$work/plugin"
        "$work/plugin/bin/pip" install -q "$root[$1]"
    fi
    "$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
    mkdir -p "$work"/{raw,preprocessed,results}
}
# Writes what is committed into work/now.
write_committed() {
    rm -rf "$work/now" && mkdir "$work/now"
    git -C "$root" archive HEAD | tar -x -C "$work/now"
}
# Runs a command with only these variables.
in_env() {
    env -i HOME="$HOME" PATH="$work/plugin/bin:/usr/bin:/bin" nnUNet_raw="$work/raw" nnUNet_preprocessed="$work/preprocessed" \
        nnUNet_results="$work/results" nnUNet_def_n_proc=1 nnUNet_n_proc_DA="${N_PROC_DA:-1}" nnUNet_npp=1 nnUNet_nps=1 \
        NNUNET_TOPO_DATA="$data" OMP_NUM_THREADS=1 ${EXTRA:-} "$@"
}
