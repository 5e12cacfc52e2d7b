#!/usr/bin/env bash
# Everything that nnU-Net supports, and fine-tuning a finished model: prints every figure of its acceptance.
#
# Usage: tests/acceptance/compatibility.sh [FOLDER [SECTION ...]]    about an hour on 2 cores, 10 GB of disk
#
# FOLDER is empty or contains the output of earlier sections; a training whose validation or record is
# there is not repeated. Sections are 0 to 5, default all, in this order.
#
# Needs Dataset004_Hippocampus under $NNUNET_TOPO_DATA (default ../shared/data). Nets are small so that one core trains
# them in minutes: features 16 / 32 / 64 and 4 patches of 24 x 32 x 24 in section 4, which validates a tenth of the cases,
# 8 / 16 / 32 and 2 in section 3; batch normalisation. The stock model of section 4 has 10 epochs of 30 iterations, what
# begins from it 10 of $ITERATIONS (20), all with the same augmentation and seed and, with nnUNet_n_proc_DA=0, the same batches.
source "$(dirname "$0")/prelude.sh" compatibility "$@"
N_PROC_DA=${N_PROC_DA:-0}

plan() { N_PROC_DA=1 in_env nnUNetv2_plan_and_preprocess -d "$1" -c 3d_fullres -np 1 -npfp 1 >"$work/plan.log" 2>&1; }
train() { in_env nnUNetv2_train "$@" -p $plans -device cpu </dev/null >"$work/train.log" 2>&1 || { tail -5 "$work/train.log"; false; }; }
quiet() { in_env "$@" >"$work/command.log" 2>&1 || { tail -5 "$work/command.log"; false; }; }
tests() { (cd "$root" && in_env pytest -q -p no:cacheprovider -m "slow or not slow" "$@"); }
dataset=Dataset004_Hippocampus
twelve=Dataset044_HippocampusTwelve
plans=nnUNetPlansCompatibility

section_0() {
    say "0. a fresh virtual environment, two data sets planned"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    "$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|torch )'
    prepare
}
prepare() {
    mkdir -p "$work"/{raw,preprocessed,results}
    ln -sfn "$data/$dataset" "$work/raw/$dataset"
    in_env python "$here/compatibility.py" twelve "$data/$dataset" "$work/raw"
    plan 4
    plan 44
    in_env python "$here/compatibility.py" plans
}

section_1() {
    say "1. every trainer, configuration and kind of labels; validation; cascade; ResEnc plans; folds, weights and settings"
    tests tests/compatibility -k "not two_processes" --junitxml="$work/matrix.xml" --durations=5 | tail -8
    in_env python "$here/compatibility.py" matrix "$work/matrix.xml"
}

section_2() {
    say "2. two gloo processes: equal shares, one without foreground, and a training with its validation"
    tests -vv tests/compatibility tests/test_end_to_end.py -k two_processes | grep -E '::|passed|failed'
}

length=3epochs_20iters
models="nnUNetTrainerStock_${length}_nomirror nnUNetTrainerWasserstein_${length}_from1_nomirror nnUNetTrainerTAFL_${length}_from1_lr0.0005_adam_nomirror"
section_3() {
    say "3. five folds of three trainers on twelve cases, through nnU-Net's commands"
    for fold in 0 1 2 3 4; do for model in $models; do
        [ -f "$work/results/$twelve/${model}__${plans}__3d_fullres/fold_$fold/validation/summary.json" ] || train 44 3d_fullres $fold -tr $model --npz
    done; done
    section_3_choose
}
section_3_choose() {
    quiet nnUNetv2_find_best_configuration 44 -p $plans -c 3d_fullres -tr $models -f 0 1 2 3 4 -np 1
    for model in $models; do
        quiet nnUNetv2_predict -i "$work/raw/$twelve/imagesTr" -o "$work/predicted_$model" -d 44 -c 3d_fullres -f 0 1 2 3 4 -tr $model \
            -p $plans -device cpu --save_probabilities
    done
    read -r first second third <<<"$models"
    quiet nnUNetv2_ensemble -i "$work/predicted_$first" "$work/predicted_$second" "$work/predicted_$third" -o "$work/ensemble" -np 1
    made=$work/results/$twelve/${second}__${plans}__3d_fullres
    crossval=$made/crossval_results_folds_0_1_2_3_4
    quiet nnUNetv2_determine_postprocessing -i "$crossval" -ref "$work/raw/$twelve/labelsTr" -plans_json "$made/plans.json" -dataset_json "$made/dataset.json" -np 1
    quiet nnUNetv2_apply_postprocessing -i "$work/ensemble" -o "$work/postprocessed" -pp_pkl_file "$crossval/postprocessing.pkl" -np 1 \
        -plans_json "$made/plans.json" -dataset_json "$made/dataset.json" # which nnU-Net asks for where an ensemble is given
    in_env python "$here/compatibility.py" accepted "$work/results/$twelve" "$work/raw/$twelve/labelsTr" "$work"/predicted_* "$work/ensemble" "$work/postprocessed"
    in_env nnunet-topo compare -d 44 -c 3d_fullres -p $plans -tr $models -f 0 1 2 3 4 -o "$work/comparison" -np 1
}

section_4() {
    say "4. hippocampus: a finished stock model, and what begins from it"
    in_env ITERATIONS="${ITERATIONS:-20}" python "$here/compatibility.py" tune "$work/records" 2>"$work/tune.log"
    in_env python "$here/compatibility.py" tuned "$work/records"
}

section_5() {
    say "5. the recipe of docs/training.md, one short epoch long"
    grep '^nnUNetv2_train .*_50epochs_finetune$' "$root/docs/training.md" >"$work/recipe"
    test "$(wc -l <"$work/recipe")" = 2
    while read -r command; do
        echo "\$ $command"
        read -r _ arguments <<<"${command/_50epochs_finetune/_1epochs_5iters_finetune_nomirror}" # as the finished model was trained
        train $arguments
        grep -ohE 'finetune: all weights.*|topology: term.*|Mean Validation Dice.*|topology metrics: label.*' "$work/train.log" |
            sed "s#$work#FOLDER#g"
    done <"$work/recipe"
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4 5}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4 5} printed"
