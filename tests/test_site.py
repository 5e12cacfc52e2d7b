"""The documentation site: strict, complete, current, and nothing on it comes from elsewhere."""

import dataclasses
import html.parser
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from nnunet_topo import losses, metrics, topology
from nnunet_topo.commands import comparison_output
from nnunet_topo.correction import result as correction_result
from nnunet_topo.evaluation import error_table, summary
from nnunet_topo.postprocessing import record as postprocessing_record
from nnunet_topo.refinement import result as refinement_result
from nnunet_topo.report import tables

from .documents import ROOT

DOCS = ROOT / "docs"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class _Elements(html.parser.HTMLParser):
    """Collects what a page loads, where its links lead, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.anchors, self.texts = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if LOADED.get(tag) in given and given.get("rel") not in ("next", "prev", "canonical"):
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    silent = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=silent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, _Elements]:
    return {file: _Elements(file.read_text("utf-8")) for file in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page_that_the_navigation_reaches(site, pages):
    documents = {f.relative_to(DOCS) for f in DOCS.rglob("*.md")}
    top_level = {Path(f.name) for f in ROOT.glob("*.md")} - {Path("README.md")}
    wanted = {(site / f).with_suffix(".html") for f in documents | top_level}
    start = (site / "index.html").read_text("utf-8")
    menu = start[start.index("md-nav--primary") : start.index("md-content")]
    reached = {site / urldefrag(link).url for link in _Elements(menu).links}
    assert wanted == pages.keys() - {site / "404.html"}
    assert wanted <= {*reached, site / "index.html"}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for file, page in pages.items():
        assert page.loaded, file
        for target in page.loaded:
            # The page of wrong addresses may be shown for any address.
            start = site if target.startswith("/") else file.parent
            assert not re.match(r"(?!data:)[a-z]+:|//", target), f"{file.name} loads {target}"
            assert (start / unquote(urldefrag(target).url).lstrip("/").split("?")[0]).is_file()
    for file in site.rglob("*.css"):
        for target in re.findall(r"url\(([^)]*)\)|@import", file.read_text("utf-8")):
            assert target.strip("\"'").startswith(("data:", "#")), f"{file.name} loads {target}"


def test_what_is_loaded_from_elsewhere_is_found():
    page = _Elements('<link rel="stylesheet" href="https://a.b/c.css"><img src="x.png">')
    assert page.loaded == ["https://a.b/c.css", "x.png"]


def test_links_and_anchors_lead_somewhere(site, pages):
    for file, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            start = site if target.startswith("/") else file.parent
            found = (start / unquote(target).lstrip("/")).resolve() if target else file
            found = found / "index.html" if found.is_dir() else found
            assert found.is_file(), f"{file.name}: {link}"
            if anchor and found.suffix == ".html":
                assert unquote(anchor) in pages[found].anchors, f"{file.name}: {link}"


def test_lists_and_tables_of_github_are_lists_and_tables_here(site):
    for file in site.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", file.read_text("utf-8"), flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.DOTALL):
            assert not re.search(r"^(- |\d+\. |\||```)", paragraph, re.MULTILINE), paragraph


@pytest.mark.parametrize("words", ["Betti matching error", "broken", "topology.json", "--windows"])
def test_the_search_without_a_server_knows_the_words_of_the_pages(words, site):
    text = (site / "search/search_index.js").read_text("utf-8")
    index = json.loads(text.removeprefix("var __index = "))
    texts = [re.sub(r"<[^>]*>", "", f"{d['title']} {d['text']}") for d in index["docs"]]
    assert any(words in text for text in texts)
    assert len(index["docs"]) > 200


def test_the_pages_of_functions_show_each_public_name(pages):
    (page,) = [page for file, page in pages.items() if file.name == "api.html"]
    for room in (losses, metrics, topology):
        for name in room.__all__:
            assert f"{room.__name__}.{name}" in page.anchors


def test_the_reference_is_what_the_parsers_and_the_trainers_say():
    file = DOCS / "write_reference.py"
    spec = importlib.util.spec_from_file_location("write_reference", file)
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    for name, current in (
        ("commands.md", written.commands_page()),
        ("trainers.md", written.trainers_page()),
    ):
        text = (DOCS / name).read_text("utf-8")
        assert text == current, f"{name} is old: run python docs/write_reference.py"


def keys_under(heading: str) -> set[str]:
    """Returns the keys in the first column of the tables under a heading of files.md."""
    _, _, section = (DOCS / "files.md").read_text("utf-8").partition(f"\n## {heading}\n")
    rows = re.findall(r"^\| (`[^|]*) \|", section.partition("\n## ")[0], re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def keys_written(function) -> set[str]:
    """Returns the keys of dicts that are spelled out at the top level of a function."""
    return set(re.findall(r'^ {8}"(\w+)":', inspect.getsource(function), re.MULTILINE))


def names(cls) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def test_the_keys_of_each_file_are_those_of_the_code():
    own = {"digest", "files"}
    assert keys_under("errors.csv") == set(error_table.COLUMNS)
    compared = keys_written(comparison_output.write_comparison)
    assert keys_under("compare.json") == compared | set(tables.COLUMNS)
    assert keys_under("postprocessing.json") == keys_written(postprocessing_record.write_result)
    assert keys_under("refinement.json") == names(refinement_result.CaseResult) | own
    assert keys_under("correction.json") == names(correction_result.CaseResult) | own
    text = (DOCS / "files.md").read_text("utf-8")
    for cls in (refinement_result.LabelTopology, correction_result.LabelTopology):
        for name in names(cls):
            assert f"`{name}`" in text


def test_the_keys_of_a_summary_are_those_of_the_code():
    settings = {"connectivity", "nsd_tolerance_mm", "windows"}
    merged = re.findall(r'^ {12}"(\w+)":', inspect.getsource(summary.Summary._merge), re.MULTILINE)
    assert keys_under("summary.json") == settings | set(merged)
