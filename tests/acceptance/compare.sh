#!/usr/bin/env bash
# nnunet-topo compare: prints every figure of its acceptance.
#
# Usage: tests/acceptance/compare.sh [FOLDER [SECTION ...]]    mostly the trainings of section 1, on a CPU
#
# FOLDER is empty or contains the output of earlier sections. Sections are 0, 1, 2, 4, 5, 3, default all, in this order;
# 3 shows the reports of 1, 4 and 5. Needs Dataset004_Hippocampus and Dataset101_ChaseDB1 under
# $NNUNET_TOPO_DATA (default ../shared/data); section 3 Debian's chromium (apt-get install chromium) and npm.
# Nets of section 1 are small, see tests/small_plans.py.
source "$(dirname "$0")/prelude.sh" compare "$@"

tests() { (cd "$root" && in_env pytest -q -p no:cacheprovider "$@" | tee "$work/tests.log" | grep -E '^(tests|FAILED|ERROR)|passed|failed|null sim') ; }
train() { in_env nnUNetv2_train 4 "$@" -device cpu >"$work/train.log" 2>&1 || { tail -5 "$work/train.log"; false; }; }
refused() { if in_env nnunet-topo compare "$@" >"$work/refused.log" 2>&1; then echo "NOT REFUSED"; false; else sed "s#$work#FOLDER#g" "$work/refused.log" | tail -1 | fold -sw 140; fi; }
dataset=Dataset004_Hippocampus

section_0() {
    say "0. a fresh virtual environment, a browser"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]" playwright
    "$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|scipy |statsmodels |numpy |playwright )'
    mkdir -p "$work"/{raw,preprocessed,results}
    ln -sfn "$data/$dataset" "$work/raw/$dataset"
    npm install --silent --prefix "$work" axe-core
    chromium --version --no-sandbox
}

epochs=${EPOCHS:-4} iterations=${ITERATIONS:-125}
length=${epochs}epochs_${iterations}iters
section_1() {
    say "1. stock, then from it stock, TAFL and Wasserstein by $((epochs * iterations)) iterations more, on hippocampus"
    in_env nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres -np 1 -npfp 1 >"$work/plan.log" 2>&1
    "$work/plugin/bin/python" "$root/tests/small_plans.py" "$work/preprocessed/$dataset"
    in_env python "$here/main_job.py" splits
    # Without rotation and scaling the term takes every sample.
    trainers=""
    for stem in Stock TAFL Wasserstein; do trainers+=" nnUNetTrainer${stem}_${length}_finetune_nospatial"; done
    for trainer in "nnUNetTrainerStock_$length" $trainers; do
        began=$SECONDS
        train 3d_fullres 0 -tr "$trainer" -p nnUNetPlansLean
        echo "$trainer: $((SECONDS - began)) s, validation of 40 cases included"
    done
    in_env nnunet-topo compare -d 4 -c 3d_fullres -p nnUNetPlansLean -tr $trainers -f 0 --control --no-postprocess -o "$work/trainings" -np 1
    ls -l "$work/trainings" | awk 'NR > 1 {print $5, $9}'
}

section_2() {
    say "2. statistics against scipy and statsmodels, and 1,000 null simulations"
    tests -m "slow or not slow" tests/report/test_statistics.py tests/report/test_outcomes.py -v
}

section_3() {
    say "3. the reports in headless Chromium: desktop, phone, dark, print"
    in_env python "$here/compare.py" browse "$work" "$work"/*/report.html
}

section_4() {
    say "4. what can be wrong: folds, trainers, case sets, one case, no differences, hostile names"
    tests tests/commands/test_compare*.py tests/commands/test_notes.py tests/report/test_page.py tests/report/test_pictures.py -v --basetemp="$work/pytest"
    mkdir -p "$work/hostile" && cp "$work"/pytest/test_hostile_names*0/out/report.html "$work/hostile" # for section 3
    say "4. the second observer of CHASE_DB1 as a model, and the first with thin vessels opened"
    in_env python "$here/compare.py" observers "$data/Dataset101_ChaseDB1" "$work/chase"
    chase=("$data/Dataset101_ChaseDB1" "$work/chase")
    rm -rf "$work/observers" # the end of this section spoils it
    in_env nnunet-topo compare --gt "${chase[0]}/labelsTr" --pred "second observer=${chase[0]}/labels2ndTr" "opened=${chase[1]}/opened" \
        -djfile "${chase[0]}/dataset.json" -pfile "${chase[1]}/plans.json" --images "${chase[0]}/imagesTr" -o "$work/observers" --no-postprocess -np 1
    refused --gt "${chase[0]}/labelsTr" --pred "second observer=${chase[0]}/labels2ndTr" -djfile "${chase[0]}/dataset.json" \
        -pfile "${chase[1]}/plans.json" -o "$work/refused"
    echo "mine" >"$work/observers/compare.tex"
    refused --gt "${chase[0]}/labelsTr" --pred "a=${chase[0]}/labels2ndTr" "b=${chase[1]}/opened" -djfile "${chase[0]}/dataset.json" \
        -pfile "${chase[1]}/plans.json" -o "$work/observers"
}

section_5() {
    say "5. 1,000 cases"
    in_env python "$here/compare.py" many "$data/$dataset" "$work/many_cases"
    began=$SECONDS
    in_env nnunet-topo compare --gt "$work/many_cases/gt" --pred "noisy=$work/many_cases/noisy" "shifted=$work/many_cases/shifted" \
        -djfile "$work/many_cases/dataset.json" -pfile "$work/many_cases/plans.json" -o "$work/many" --control --no-postprocess -np 2 | tail -5
    echo "$((SECONDS - began)) s"
    began=$SECONDS
    in_env nnunet-topo compare --gt "$work/many_cases/gt" --pred "noisy=$work/many_cases/noisy" "shifted=$work/many_cases/shifted" \
        -djfile "$work/many_cases/dataset.json" -pfile "$work/many_cases/plans.json" -o "$work/many" --control --no-postprocess -np 2 >/dev/null
    echo "$((SECONDS - began)) s once more, with nothing left to evaluate"
    ls -l "$work/many" | awk 'NR > 1 {print $5, $9}'
    test "$(stat -c %s "$work/many/report.html")" -lt 20000000
}

sections=${*:2}
for section in ${sections:-0 1 2 4 5 3}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 4 5 3} printed"
