#!/usr/bin/env bash
# The documentation site: built, and looked at in a browser.
#
# Usage: tests/acceptance/release.sh [FOLDER [SECTION ...]]    10 minutes on 2 cores
#
# FOLDER is empty or contains the output of earlier sections. Sections are site and browser, default all, in this order. Needs a package
# index; section browser Debian's chromium (apt-get install chromium) and npm.
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

sections=${*:2}
for section in ${sections:-site browser}; do "section_$section"; done
say "all figures of the sections ${sections:-site browser} printed"
