#!/usr/bin/env bash
# Priors from the data: prints every figure of their acceptance.
#
# Usage: tests/acceptance/priors.sh [FOLDER [SECTION ...]]    section 1: about 10 minutes on an idle core, 3 GB of disk
#
# FOLDER is empty, or holds what the sections before have left. Sections are 0 to 4, default all, in this order;
# CASES=n refines so many validation cases (default 40), DIGITS=n so many digits (default 130, all are 1000). An interrupted section 3 resumes.
# Needs Dataset004_Hippocampus, Dataset101_ChaseDB1 and Dataset102_SunnybrookLV under $NNUNET_TOPO_DATA (default
# ../shared/data).
source "$(dirname "$0")/prelude.sh" priors "$@"

section_0() {
    say "0. a fresh virtual environment"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    "$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|gudhi |scipy |numpy )'
}

section_1() {
    mkdir -p "$work"/{raw,preprocessed,results}
    for dataset in Dataset004_Hippocampus Dataset101_ChaseDB1 Dataset102_SunnybrookLV; do
        say "1. plan on $dataset"
        ln -sfn "$data/$dataset" "$work/raw/$dataset"
        configurations="2d"
        test $dataset != Dataset004_Hippocampus || configurations="2d 3d_fullres"
        if [ ! -e "$work/preprocessed/$dataset/preprocessed" ]; then
            in_env nnUNetv2_plan_and_preprocess -d "${dataset:7:3}" -c $configurations -np 1 -npfp 1 >"$work/nnunet.log" 2>&1
            touch "$work/preprocessed/$dataset/preprocessed"
        fi
        began=$SECONDS
        in_env nnunet-topo plan -d "${dataset:7:3}" -np 1 2>"$work/plan.log" | sed "s#$work#FOLDER#g"
        echo "$((SECONDS - began)) s in one process"
    done
    say "1. agreement with what the data's README says"
    in_env python "$here/priors.py" readme "$data/README.md" "$work/preprocessed"
    say "1. agreement with gudhi, label by label"
    in_env python "$here/priors.py" agreement "$data" "$work/preprocessed"
}

# 2: Clough's first experiment on MNIST.

section_2() {
    say "2. Clough's experiment 1 on MNIST: m = 2 to 12 lines removed, eq. 5 in both forms of eq. 3, beside the paper's table"
    (cd "$root" && in_env pytest -q -p no:cacheprovider tests/experiments/test_clough_mnist.py)
    began=$SECONDS
    (cd "$root" && in_env python -m experiments.clough_mnist --data "$data" -o "$work/mnist" --digits "${DIGITS:-130}")
    echo "$((SECONDS - began)) s"
}

section_3() {
    say "3. refinement of the validation cases of a stock model"
    dataset=Dataset004_Hippocampus
    trainer=nnUNetTrainerStock_10epochs_30iters_nomirror_nospatial_seed1
    mkdir -p "$work"/{raw,preprocessed,results}
    ln -sfn "$data/$dataset" "$work/raw/$dataset"
    if [ ! -e "$work/preprocessed/$dataset/preprocessed" ]; then
        in_env nnUNetv2_plan_and_preprocess -d 4 -c 2d 3d_fullres -np 1 1 -npfp 1 >"$work/nnunet.log" 2>&1
        touch "$work/preprocessed/$dataset/preprocessed"
    fi
    in_env python "$here/refine.py" plans "$work/preprocessed/$dataset"
    model=$work/results/$dataset/${trainer}__nnUNetPlansRefine__3d_fullres
    if [ ! -e "$model/fold_0/validation/summary.json" ]; then
        EXTRA="nnUNet_n_proc_DA=0" in_env nnUNetv2_train 4 3d_fullres 0 -p nnUNetPlansRefine -tr $trainer -device cpu >"$work/train.log" 2>&1
    fi
    in_env python "$here/refine.py" images "$work/raw/$dataset" "$work/preprocessed/$dataset" "$work/validation" "${CASES:-40}"
    refine() { in_env nnunet-topo refine -i "$work/validation" -o "$work/$1" -m "$model" --prior "$work/validation.json" -device cpu "${@:2}" | tail -1 | sed "s#$work#FOLDER#g"; }
    in_env nnUNetv2_predict_from_modelfolder -i "$work/validation" -o "$work/predicted" -m "$model" -f 0 -device cpu --continue_prediction >"$work/predict.log" 2>&1
    refine refined
    refine largest_component --largest-component
    refine closed_by_2 --closing 2
    in_env python "$here/refine.py" table "$work/raw/$dataset" "$work"/{predicted,refined,largest_component,closed_by_2}
}

section_4() {
    say "4. ten failures, and nothing worse, nothing overwritten"
    cd "$root"
    in_env pytest -q -p no:cacheprovider -m "" tests/refinement
    cd "$work"
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4} printed"
