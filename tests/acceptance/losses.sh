#!/usr/bin/env bash
# The losses of all four papers, from a fresh virtual environment: prints every figure of their acceptance.
#
# Usage: tests/acceptance/losses.sh [FOLDER [SECTION ...]]    about 80 minutes on 2 cores, 8 GB of disk
#
# FOLDER is empty, or holds what the sections before have left; trainings that have a record there are not
# repeated. Sections are 0 to 6, default all, in this order.
#
# Needs Dataset004_Hippocampus and Dataset101_ChaseDB1 under $NNUNET_TOPO_DATA (default ../shared/data). Nets are
# small so that one core trains each in two to three minutes: features 16 / 32 / 64, batch normalisation, 4
# patches of 24 x 32 x 24 or 6 of 128 x 128; 10 epochs of 30 iterations, the term from epoch 5 on. The trainings of
# sections 3 and 4 leave out rotation and scaling (nospatial) and have the same seed and, with nnUNet_n_proc_DA=0, the
# same batches: a trainer
# and its control differ in nothing but the term. The focal loss and what is built on it train with the optimizer of its
# paper, Adam at 0.0005, all others with nnU-Net's.
source "$(dirname "$0")/prelude.sh" losses "$@"
N_PROC_DA=${N_PROC_DA:-0}

section_0() {
    say "0. a fresh virtual environment, both data sets planned"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    mkdir -p "$work"/{raw,preprocessed,results}
    for planned in "4 3d_fullres Dataset004_Hippocampus" "101 2d Dataset101_ChaseDB1"; do
        read -r id configuration dataset <<<"$planned"
        ln -sfn "$data/$dataset" "$work/raw/$dataset"
        N_PROC_DA=1 in_env nnUNetv2_plan_and_preprocess -d "$id" -c "$configuration" -np 1 -npfp 1 >"$work/plan.log" 2>&1
    done
    in_env python "$here/losses.py" plans
}

section_1() {
    say "1. numbers worked by hand, gradcheck, perfect predictions, order, ignored voxels, half precision"
    cd "$root"
    in_env pytest -q -p no:cacheprovider tests/losses/test_wasserstein_loss.py tests/losses/test_projected_pooling_loss.py \
        tests/losses/test_betti_prior_loss.py tests/losses/test_focal_loss.py tests/training/test_loss_seam.py tests/training/test_augmentation.py
    cd "$work"
}

section_2() {
    say "2. what descent on each loss alone repairs, of 20; an absent organ stays absent"
    (cd "$root" && in_env python -m tests.descent) | tee "$work/descent.md"
}

section_3() {
    say "3. gradient norms topology : base at the last layer, and clipped steps"
    in_env python "$here/losses.py" train "$work/records" 2>"$work/train.log"
    in_env python "$here/losses.py" ratios "$work/records" "$work/ratios.png"
    echo "plot: ratios.png"
}

section_4() {
    say "4. Dice of each trainer and of its control; the term"
    in_env python "$here/losses.py" train "$work/records" 2>"$work/train.log" >/dev/null
    in_env python "$here/losses.py" dice "$work/records"
    say "   what a term costs on an iteration's batch"
    in_env python "$here/losses.py" cost
}

section_5() {
    say "5. every new loss is sabotaged, and the documents' own trainer runs"
    "$work/plugin/bin/pip" install -q -e "$root[test]"
    cd "$root"
    in_env python tests/sabotage.py tile pooling position bars absent prior objects unions
    in_env pytest -q -p no:cacheprovider tests/test_documents.py -k trainer_of_ones_own
    cd "$work"
}

section_6() {
    say "6. under nnU-Net's whole augmentation: which samples the terms take, and their Betti numbers"
    in_env python "$here/term_augmentation.py"
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4 5 6}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4 5 6} printed"
