#!/usr/bin/env bash
# Training with unlabelled images, from a fresh virtual environment: prints every figure of its acceptance.
#
# Usage: tests/acceptance/semi_supervised.sh [FOLDER [SECTION ...]]
#
# FOLDER is empty or contains the output of earlier sections. Sections are 0 to 3, default all, in this order.
# SEEDS is the number of seeds of section 1, default 3.
#
# Needs Dataset004_Hippocampus and Dataset102_SunnybrookLV under $NNUNET_TOPO_DATA (default ../shared/data). In 3D ten cases
# are labelled, 20 more validate, and the other 170 are images without labels; the net is small (features 16 / 32 / 64, batch
# normalisation, 2 patches of 32 x 40 x 32), so that a CPU trains it.
source "$(dirname "$0")/prelude.sh" semi_supervised "$@"

train() { in_env nnUNetv2_train 904 3d_fullres 0 -p $plans -device cpu "$@" >"$work/train.log" 2>&1 || { tail -5 "$work/train.log"; false; }; }
unlabeled() { in_env nnunet-topo preprocess-unlabeled -d 904 -c 3d_fullres -p $plans -i "$1" 2>&1; }
# Prints the last lines of a command that must fail.
refused() { if "$@" >"$work/refused.log" 2>&1; then echo "NOT REFUSED"; false; else tail -"${LINES_SHOWN:-1}" "$work/refused.log"; fi; }
dataset=Dataset904_FewLabels
plans=nnUNetPlansFewLabels
stem=nnUNetTrainerBettiPriorSemiSupervised

section_0() {
    say "0. a fresh virtual environment; 30 labelled cases planned, 170 images without labels"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    mkdir -p "$work"/{raw,preprocessed,results}
    in_env python "$here/semi_supervised.py" raw
    in_env nnUNetv2_plan_and_preprocess -d 904 -c 3d_fullres -np 1 -npfp 1 >"$work/plan.log" 2>&1
    in_env python "$root/tests/small_plans.py" "$work/preprocessed/$dataset"
    in_env python "$here/semi_supervised.py" plans
}

section_1() {
    say "1. Sunnybrook: Dice and correct topology of every arm, beside Table 2, and Wilcoxon's tests"
    cp -r "$root/experiments" "$work"
    in_env python -m experiments.semi_supervised_sunnybrook --data "$data" --seeds "${SEEDS:-3}" --record "$work/sunnybrook.json"
}

settings=16epochs_30iters_nospatial_seed1
section_2() {
    say "2. Hippocampus, ten labelled cases, with and without unlabelled images"
    unlabeled "$work/unlabelled" | tail -3
    for name in ${stem}_weight0.01 nnUNetTrainerStock; do # the printed weight
        [ -f "$work/results/$dataset/${name}_${settings}__${plans}__3d_fullres/fold_0/validation/summary.json" ] ||
            N_PROC_DA=0 train -tr "${name}_$settings"
    done
    in_env python "$here/semi_supervised.py" trained "$work/results/$dataset" "${stem}_weight0.01" nnUNetTrainerStock "$settings"
}

section_3() {
    say "3. a leak, a kill, wrong folders"
    in_env python "$here/semi_supervised.py" wrong_folders "$work/wrong"
    echo "-- two leaks among images:"
    LINES_SHOWN=3 refused unlabeled "$work/wrong/leak"
    echo "-- other channels, another spacing, a file that was cut short:"
    LINES_SHOWN=4 refused unlabeled "$work/wrong/mixed"
    echo "-- no case that can be used, no image at all, no folder:"
    for folder in empty nowhere; do refused unlabeled "$work/wrong/$folder"; done
    mv "$work/preprocessed/$dataset/nnUNetPlans_3d_fullres_unlabeled" "$work/aside"
    refused train -tr ${stem}_2epochs_2iters_from0
    echo "-- preprocessing killed, and again:"
    in_env nnunet-topo preprocess-unlabeled -d 904 -c 3d_fullres -p $plans -i "$work/unlabelled" >"$work/killed.log" 2>&1 &
    until [ "$(ls "$work/preprocessed/$dataset/nnUNetPlans_3d_fullres_unlabeled" 2>/dev/null | grep -c pkl)" -ge 20 ]; do sleep 0.2; done
    kill -KILL "$(pgrep -P $! || echo $!)" $! 2>/dev/null || true
    wait || true
    unlabeled "$work/unlabelled" | tail -1
    in_env python "$here/semi_supervised.py" same_cases "$work/aside" "$work/preprocessed/$dataset/nnUNetPlans_3d_fullres_unlabeled"
    rm -rf "$work/aside"
    echo "-- training killed in its semi-supervised phase, and continued:"
    name=${stem}_4epochs_8iters_from1_nospatial
    killed=$work/results/$dataset/${name}__${plans}__3d_fullres/fold_0
    in_env nnUNetv2_train 904 3d_fullres 0 -tr "$name" -p $plans -device cpu >"$work/killed.log" 2>&1 &
    until grep -qs "Epoch 2" "$killed"/training* && [ -f "$killed/checkpoint_best.pth" ]; do sleep 0.2; done
    kill -KILL "$(pgrep -P $! || echo $!)" $! 2>/dev/null || true
    wait || true
    train -tr "$name" --c
    echo "epochs in the log after --c: $(grep -oE 'Epoch [0-9]+ *$' "$work/train.log" | tr '\n' ' ')"
    in_env python "$here/semi_supervised.py" history "$killed/checkpoint_final.pth"
}

sections=${*:2}
for section in ${sections:-0 1 2 3}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3} printed"
