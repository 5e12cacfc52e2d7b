#!/usr/bin/env bash
# Topology metrics in nnU-Net's evaluation: prints every figure of their acceptance.
#
# Usage: tests/acceptance/metrics.sh [FOLDER [SECTION ...]]    about 25 minutes on 2 cores, 9 GB of disk
#
# FOLDER is empty or contains the output of earlier sections. Sections are 0 to 6, default all, in this order.
# Needs Dataset101_ChaseDB1 and Dataset004_Hippocampus under $NNUNET_TOPO_DATA (default ../shared/data), and a package
# index for older versions of nnU-Net.
source "$(dirname "$0")/prelude.sh" metrics "$@"

tests() { (cd "$root" && in_env pytest -q -p no:cacheprovider "$@" | tee "$work/tests.log" | grep -E '^(tests|FAILED|ERROR)|passed|failed') ; }

section_0() {
    say "0. a fresh virtual environment"
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]"
    "$work/plugin/bin/pip" list 2>/dev/null | grep -iE '^(nnunet|scipy |scikit-image |simpleitk |numpy |numba )'
    mkdir -p "$work"/{raw,preprocessed,results}
}

section_1() {
    say "1. known shapes, values by hand"
    in_env python "$here/metrics.py" known "$root"
    tests tests/metrics tests/topology/test_betti_matching.py
}

section_2() {
    say "2. agreement with independent implementations on random masks"
    in_env python "$here/metrics.py" agreement "$root"
}

section_3() {
    say "3. who reads summary.json: nnU-Net's commands on trainings of two folds, two configurations, and under DDP"
    tests -m slow tests/test_end_to_end.py -vv
    for version in 2.5.1 2.6.2 2.7.0 2.8.1; do
        say "3. a summary written by nnU-Net $version"
        "$work/plugin/bin/pip" install -q --no-deps --target "$work/nnunet_$version" "nnunetv2==$version"
        rm -rf "$work/observers_$version"
        cp -r "$data/Dataset101_ChaseDB1/labels2ndTr" "$work/observers_$version"
        EXTRA="PYTHONPATH=$work/nnunet_$version" in_env python "$here/metrics.py" evaluate_as_nnunet \
            "$data/Dataset101_ChaseDB1" "$work/observers_$version" >"$work/evaluate.log"
        in_env python "$here/metrics.py" merged "$data/Dataset101_ChaseDB1" "$work/observers_$version"
    done
}

section_4() {
    say "4. the second observer of CHASE_DB1 against the first"
    in_env python "$here/metrics.py" plans "$work/chase_plans.json" NaturalImage2DIO
    for connectivity in full face; do
        in_env nnunet-topo evaluate "$data/Dataset101_ChaseDB1/labelsTr" "$data/Dataset101_ChaseDB1/labels2ndTr" -np 1 \
            -djfile "$data/Dataset101_ChaseDB1/dataset.json" -pfile "$work/chase_plans.json" -o "$work/observers_$connectivity.json" \
            --connectivity $connectivity >/dev/null
    done
    in_env python "$here/metrics.py" observers "$work"/observers_{full,face}.json
}

section_5() {
    say "5. speed on one core"
    in_env python "$here/metrics.py" speed_cases "$work/speed"
    for size in small large; do in_env taskset -c 0 python "$here/metrics.py" speed "$work/speed/$size"; done
}

section_6() {
    say "6. what can be wrong with files"
    tests tests/evaluation -vv
    in_env python "$here/metrics.py" troubles "$data/Dataset004_Hippocampus" "$work/troubles"
    status=0
    in_env nnunet-topo evaluate "$work/troubles/gt" "$work/troubles/pred" -djfile "$work/troubles/dataset.json" \
        -pfile "$work/troubles/plans.json" -np 1 2>&1 | sed "s#$work#FOLDER#g" || status=$?
    echo "exit status $status"
    test $status = 1
}

sections=${*:2}
for section in ${sections:-0 1 2 3 4 5 6}; do "section_$section"; done
say "all figures of the sections ${sections:-0 1 2 3 4 5 6} printed"
