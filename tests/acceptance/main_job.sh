#!/usr/bin/env bash
# The main job on real images, from a fresh virtual environment: prints every figure of its acceptance.
#
# Usage: tests/acceptance/main_job.sh [FOLDER [SECTION ...]]    about an hour on 2 cores, 16 GB of disk
#
# FOLDER is empty or contains the output of earlier sections. Sections are 0 to 6, default all, in this order;
# section 1 is made of 1_3d and 1_2d.
#
# Needs Dataset004_Hippocampus under $NNUNET_TOPO_DATA (default ../shared/data). Nets are small so that a CPU
# trains them, see tests/small_plans.py: nnUNetPlansSmall for what must learn (3D: features 40 / 80 / 160, 6
# patches of 24 x 32 x 24; 2D: 128 / 256 / 256, 16 patches of 40 x 40; batch normalisation), nnUNetPlansTiny
# (8 / 16 / 32, nnU-Net's own patches) for what must merely run.
set -Eeuo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(cd "${NNUNET_TOPO_DATA:-$root/../shared/data}" && pwd)
work=$(mkdir -p "${1:-/tmp/main_job}" && cd "${1:-/tmp/main_job}" && pwd)
here=$root/tests/acceptance
chmod 755 "$work"
cd "$work" # outside the checkout, so that Python does not find the package there
trap 'echo "FAILED in line $LINENO"' ERR

say() { echo; echo "== $*"; }
# A fresh shell: nothing but what is named here. $1 names the environment.
in_env() {
    local environment=$work/$1; shift
    env -i HOME="$HOME" PATH="$environment/bin:/usr/bin:/bin" nnUNet_raw="$work/raw" \
        nnUNet_preprocessed="$work/preprocessed" nnUNet_results="${RESULTS:-$work/results}" \
        nnUNet_def_n_proc=1 nnUNet_n_proc_DA="${N_PROC_DA:-1}" nnUNet_npp=1 nnUNet_nps=1 ${EXTRA:-} "$@"
}
train() { in_env plugin nnUNetv2_train 4 "$@" -device cpu >"$work/train.log" 2>&1 || { tail -5 "$work/train.log"; false; }; }
refused() { if in_env plugin "$@" >"$work/refused.log" 2>&1; then echo "NOT REFUSED"; false; else tail -1 "$work/refused.log" | fold -sw 140; fi; }
dataset=Dataset004_Hippocampus
folder() { echo "$work/results/$dataset/$1__$2__$3/fold_${4:-0}"; }

section_0() {
    say "0. two fresh virtual environments: the plugin, and nnU-Net alone"
    python3 -m venv "$work/plugin"; python3 -m venv "$work/stock"
    "$work/plugin/bin/pip" install -q "$root"
    version=$("$work/plugin/bin/python" -c "from importlib.metadata import version as v; print(v('nnunetv2'))")
    "$work/stock/bin/pip" install -q "nnunetv2==$version"
    "$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|torch |gudhi|numpy )'
    mkdir -p "$work"/{raw,preprocessed,results}
    ln -sfn "$data/$dataset" "$work/raw/$dataset"
    in_env plugin nnUNetv2_plan_and_preprocess -d 4 -c 2d 3d_fullres -np 1 1 -npfp 1 >"$work/plan.log" 2>&1
    "$work/plugin/bin/python" "$root/tests/small_plans.py" "$work/preprocessed/$dataset"
    in_env plugin python "$here/main_job.py" splits
}

main=nnUNetTrainerTAFL_3epochs_150iters_from1
section_1() { section_1_3d; section_1_2d; }
section_1_3d() { section_1_of 3d_fullres; }
section_1_2d() { section_1_of 2d; }
section_1_of() {
    say "1. nnUNetv2_train 4 $1 0 -tr $main -p nnUNetPlansSmall -device cpu"
    began=$SECONDS
    train "$1" 0 -tr "$main" -p nnUNetPlansSmall
    in_env plugin python "$here/main_job.py" trained "$(folder $main nnUNetPlansSmall "$1")"
    echo "$((SECONDS - began)) s, validation of 40 cases included"
}

section_2() {
    say "2. it is really TAFL"
    N_PROC_DA=0 in_env plugin python "$here/main_job.py" is_tafl "$(folder $main nnUNetPlansSmall 3d_fullres)"
}

section_3() {
    say "3. prediction with the plugin and on nnU-Net alone"
    mkdir -p "$work/images"
    for case in $(ls "$data/$dataset/imagesTr" | head -3); do cp "$data/$dataset/imagesTr/$case" "$work/images"; done
    # Without the plugin the trainer's name is a mere folder; the checkpoint names nnU-Net's own trainer.
    for environment in plugin stock; do
        in_env $environment nnUNetv2_predict -i "$work/images" -o "$work/predicted_$environment" -d 4 -c 3d_fullres -f 0 \
            -tr "$main" -p nnUNetPlansSmall -device cpu --save_probabilities >"$work/predict.log" 2>&1
    done
    in_env stock python -c "import importlib.util as u; print('nnunet_topo in the other environment:', u.find_spec('nnunet_topo'))"
    in_env plugin nnUNetv2_export_model_to_zip -d 4 -c 3d_fullres -f 0 -tr "$main" -p nnUNetPlansSmall -o "$work/model.zip" >/dev/null 2>&1
    mkdir -p "$work/other_results"
    RESULTS=$work/other_results in_env stock nnUNetv2_install_pretrained_model_from_zip "$work/model.zip" >/dev/null 2>&1
    RESULTS=$work/other_results in_env stock nnUNetv2_predict -i "$work/images" -o "$work/predicted_zip" -d 4 -c 3d_fullres -f 0 \
        -tr "$main" -p nnUNetPlansSmall -device cpu --save_probabilities >"$work/predict.log" 2>&1
    in_env plugin python "$here/main_job.py" same_predictions "$work"/predicted_{plugin,stock,zip}
}

section_4() {
    say "4. SIGKILL in epoch 1, then --c"
    name=nnUNetTrainerTAFL_3epochs_8iters_from1
    killed=$(folder $name nnUNetPlansTiny 3d_fullres 5)
    in_env plugin nnUNetv2_train 4 3d_fullres 5 -tr $name -p nnUNetPlansTiny -device cpu >"$work/killed.log" 2>&1 &
    until grep -qs "Epoch 1" $killed/training* && [ -f "$killed/checkpoint_best.pth" ]; do sleep 0.2; done
    pkill -KILL -f "nnUNetv2_train 4 3d_fullres 5 -tr $name" || true
    wait || true
    cp "$killed/checkpoint_best.pth" "$work/before.pth"
    train 3d_fullres 5 -tr $name -p nnUNetPlansTiny --c
    echo "epochs in the log after --c: $(grep -oE 'Epoch [0-9]+' "$work/train.log" | tr '\n' ' ')"
    in_env plugin python "$here/main_job.py" history "$work/before.pth" "$killed/checkpoint_final.pth"
    echo "-- a checkpoint copied between settings folders:"
    other=nnUNetTrainerTAFL_4epochs_8iters_from1
    mkdir -p "$(folder $other nnUNetPlansTiny 3d_fullres 5)"
    cp "$work/before.pth" "$(folder $other nnUNetPlansTiny 3d_fullres 5)/checkpoint_latest.pth"
    refused nnUNetv2_train 4 3d_fullres 5 -tr $other -p nnUNetPlansTiny -device cpu --c
    echo "-- --c without a checkpoint beside sibling folders:"
    refused nnUNetv2_train 4 3d_fullres 5 -tr nnUNetTrainerTAFL_5epochs -p nnUNetPlansTiny -device cpu --c
    test ! -e "$(folder nnUNetTrainerTAFL_5epochs nnUNetPlansTiny 3d_fullres 5)"
    echo "no folder was made for it"
}

traces() { find "$work"/plugin/lib/python3*/site-packages "$work/plugin/bin" -iname '*nnunet*topo*' | sort; }
# Neither the package nor HOME may be written; root, too, then obeys the permissions of files.
restricted() {
    local drop=()
    [ "$(id -u)" != 0 ] || drop=(setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search)
    RESULTS=$1 EXTRA="HOME=$work/locked" in_env plugin "${drop[@]}" "${@:2}"
}
# nnU-Net's own nnUNetTrainer_1epoch from a fixed seed; $1 names what is kept of it.
stock_training() {
    local folder=$work/results/$dataset/nnUNetTrainer_1epoch__nnUNetPlansTiny__3d_fullres
    rm -rf "$folder"
    N_PROC_DA=0 in_env plugin python "$here/main_job.py" seeded_stock >"$work/stock_$1.log" 2>&1
    grep -oE '(train_loss|val_loss|Pseudo dice).*' "$work/stock_$1.log" >"$work/losses_$1"
    cp "$folder/fold_5/debug.json" "$work/debug_$1.json"
}

section_5() {
    "$work/plugin/bin/pip" install -q --no-deps --force-reinstall "$root"
    say "5. beside other trainers, and without traces"
    mkdir -p "$work/theirs"
    cat >"$work/theirs/nnUNetTrainerTheirs.py" <<'TRAINER'
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
class nnUNetTrainerTheirs(nnUNetTrainer):
    pass
TRAINER
    EXTRA="nnUNet_extTrainer=$work/theirs" in_env plugin python "$here/main_job.py" lookup nnUNetTrainerTheirs nnUNetTrainerTAFL_5epochs
    stock_training with
    echo "-- package and HOME without write permission:"
    mkdir -p "$work/locked"
    chmod a-w "$work/locked"
    find "$work"/plugin/lib/python3*/site-packages/nnunet_topo -type d -exec chmod a-w {} +
    restricted "$work/results" nnUNetv2_train 4 3d_fullres 5 -tr nnUNetTrainerTAFL_1epochs_2iters_from0 -p nnUNetPlansTiny -device cpu >"$work/restricted.log" 2>&1
    grep -oE 'topology: term.*|Validation complete' "$work/restricted.log"
    restricted "$work/results" sh -c 'touch "$HOME/file" 2>&1' || true
    echo "-- results folder without write permission:"
    if restricted "$work/locked" nnUNetv2_train 4 3d_fullres 5 -tr nnUNetTrainerTAFL -p nnUNetPlansTiny -device cpu >"$work/restricted.log" 2>&1; then false; else tail -1 "$work/restricted.log"; fi
    find "$work"/plugin/lib/python3*/site-packages/nnunet_topo -type d -exec chmod u+w {} +
    echo "-- pip uninstall; files left: "
    "$work/plugin/bin/pip" uninstall -qy nnunet-topo
    traces
    test -z "$(traces)"
    echo "none"
    in_env plugin python -c "import os; print('nnUNet_extTrainer is', os.environ.get('nnUNet_extTrainer'))"
    stock_training without
    in_env plugin python "$here/main_job.py" same_stock "$work/losses_with" "$work/losses_without" "$work/debug_with.json" "$work/debug_without.json"
    echo "-- pip install --target: no .pth is read there"
    "$work/plugin/bin/pip" install -q --no-deps --target "$work/target" "$root"
    EXTRA="PYTHONPATH=$work/target" refused nnUNetv2_train 4 3d_fullres 5 -tr nnUNetTrainerTAFL_1epochs_2iters_from0 -p nnUNetPlansTiny -device cpu
    EXTRA="PYTHONPATH=$work/target" in_env plugin python -m nnunet_topo.cli train 4 3d_fullres 5 -tr nnUNetTrainerTAFL_1epochs_2iters_from0 \
        -p nnUNetPlansTiny -device cpu >"$work/target.log" 2>&1
    grep -oE 'topology: term.*|Validation complete' "$work/target.log"
    echo "-- pip install -e: the trainers of the checkout"
    "$work/plugin/bin/pip" install -q -e "$root"
    in_env plugin sh -c 'test "$(nnunet-topo trainers)" = "$1/trainers"' - "$root"
    echo "the folder is the trainers folder of the checkout"
    in_env plugin python "$here/main_job.py" lookup nnUNetTrainerTAFL
    "$work/plugin/bin/pip" uninstall -qy nnunet-topo
    # pip leaves the folder that held the unused copy of the trainers, empty.
    find "$work"/plugin/lib/python3*/site-packages/nnunet_topo -type d -empty -delete
    test -z "$(traces)"
    echo "uninstalled, an empty folder is left"
}

section_6() {
    say "6. numbers by hand, gradcheck, descent 20 of 20"
    "$work/plugin/bin/pip" install -q "$root[test]"
    cd "$root"
    in_env plugin pytest -q -s -p no:cacheprovider -m "slow or not slow" tests/topology/test_matching.py tests/losses/test_wasserstein_loss.py tests/losses/test_focal_loss.py \
        "tests/losses/test_descent.py" -k "worked or printed or known or gradient or (20 and descent)" | grep -E 'repaired|passed|failed'
    in_env plugin python "$here/main_job.py" numbers
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4 5 6}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4 5 6} printed"
