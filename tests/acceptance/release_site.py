"""The site in headless Chromium, opened from its files: axe, console, requests, width, search.

Usage: python tests/acceptance/release_site.py SITE AXE PICTURES [PAGE ...]

SITE is what `.ci/docs SITE` has built. AXE is axe-core's axe.min.js. PICTURES gets a picture of
each page in each view. PAGE is part of a page's path, default all. Needs playwright and Debian's
chromium.
"""

import contextlib
import functools
import http.server
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

VIEWS: dict[str, dict[str, Any]] = {
    f"{name}_{scheme}": {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for name, width in (("desktop", 1280), ("phone", 400))
    for scheme in ("light", "dark")
}
# What people look for, and a page that must be among the answers.
SEARCHED = {
    "Betti matching error": "metrics.html",
    "broken vessels": "how_to/vessels.html",
    "nnUNetTrainerTopology": "losses.html",
    "topology.json": "priors.html",
}


SERIOUS = ("serious", "critical")


def main(site: Path, axe: Path, pictures: Path, *chosen: str) -> int:
    """Checks pages in every view, and the search; returns 1 where something is wrong."""
    pictures.mkdir(parents=True, exist_ok=True)
    pages = [
        file
        for file in sorted(site.rglob("*.html"))
        if not chosen or any(part in str(file.relative_to(site)) for part in chosen)
    ]
    wrong = 0
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for view, options in VIEWS.items():
            rules, passed = Counter[str](), 0
            for file in pages:
                # Only servers show the page of wrong addresses.
                place = f"{address}/404.html" if file.name == "404.html" else file.as_uri()
                name = "_".join(file.relative_to(site).with_suffix("").parts)
                with opened(browser, place, options) as (page, said):
                    for screen in screens(page, name):
                        page.screenshot(
                            path=pictures / f"{screen}_{view}.png", full_page=screen == name
                        )
                        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                        page.evaluate(axe.read_text(encoding="utf-8"))
                        found = page.evaluate("axe.run({preload: false})")
                        passed += len(found["passes"])
                        rules.update(f"{v['impact']}: {v['id']}" for v in found["violations"])
                        bad = [v for v in found["violations"] if v["impact"] in SERIOUS]
                        wrong += len(bad) + len(said) + (wider > 0)
                        for violation in found["violations"]:
                            places = "; ".join(str(n["target"][0]) for n in violation["nodes"][:3])
                            print(f"  {screen}: {violation['id']} at {places}")
                        if said or wider > 0:
                            print(f"  {screen}: {wider} px too wide, {said}")
            print(f"{view}: {len(pages)} pages, {passed} rules passed, violations {dict(rules)}")
        for place in (site.as_uri(), address):
            kind = place.partition(":")[0]
            for words, wanted in SEARCHED.items():
                results = search(browser, f"{place}/index.html", words)
                wrong += wanted not in results
                print(f"search, {kind}, {words!r}: {', '.join(results[:4]) or 'nothing'}")
        browser.close()
    print(f"{wrong} things are wrong; pictures in {pictures}")
    return int(wrong > 0)


@contextlib.contextmanager
def opened(
    browser: Browser, address: str, options: dict[str, Any]
) -> Iterator[tuple[Page, list[str]]]:
    """Opens a page, and lists what its console says and what it asks for elsewhere."""
    context = browser.new_context(**options)
    page, said = context.new_page(), []
    own = address.partition("://")[0] + "://" + address.partition("://")[2].partition("/")[0]
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(r.url) if not r.url.startswith((own, "data:")) else 0)
    page.goto(address)
    page.wait_for_load_state()
    yield page, said
    context.close()


def screens(page: Page, name: str) -> Iterator[str]:
    """Yields the name of what is shown: a page; of the first also its menu and an open search."""
    yield name
    if name != "index":
        return
    menu = page.locator("label.md-header__button[for=__drawer]")
    if menu.is_visible():
        menu.click()
        page.wait_for_timeout(500)
        yield f"{name}_menu"
        page.locator("label.md-overlay").click(position={"x": 380, "y": 400})
        page.wait_for_timeout(500)
    look_for(page, "Betti matching error")
    yield f"{name}_search"


def look_for(page: Page, words: str) -> None:
    """Types words into the search, and waits for its answers."""
    button = page.locator("label.md-header__button[for=__search]")
    (button if button.is_visible() else page.locator(".md-search__input")).click()
    page.keyboard.type(words)
    with contextlib.suppress(TimeoutError):
        page.wait_for_selector(".md-search-result__link", timeout=10_000)
    page.wait_for_timeout(300)


def search(browser: Browser, address: str, words: str) -> list[str]:
    """Returns the pages that the search of the site answers with."""
    with opened(browser, address, VIEWS["desktop_light"]) as (page, said):
        look_for(page, words)
        links = page.eval_on_selector_all(
            ".md-search-result__link", "links => links.map(link => link.href)"
        )
        assert not said, said
    root = address.rpartition("/")[0]
    names = [link.partition("?")[0].partition("#")[0].removeprefix(f"{root}/") for link in links]
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """Serves the site on this machine as long as the address is used."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main(*(Path(word).absolute() for word in sys.argv[1:4]), *sys.argv[4:]))
