"""Draws report.png for the README: `python docs/draw_report.py nnunet-topo-demo`.

Takes the report of a demo: its head, the answer to the primary outcome that is best, and the first
case. Needs playwright and Debian's chromium.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "pictures" / "report.png"
PARTS = """() => {
    const claims = [...document.querySelectorAll("#summary ~ .claim")];
    const best = claims.find(claim => claim.matches(".better")) ?? claims[0];
    const shown = [document.querySelector("h1"), document.querySelector("nav"),
        document.querySelector("#summary"), ...document.querySelectorAll("#summary ~ p"), best];
    const cases = document.querySelector("#cases");
    const first = cases.parentElement.querySelector("h3");
    shown.push(first, first.nextElementSibling);
    const main = document.querySelector("main");
    main.replaceChildren(...shown.filter(part => part !== null && !part.closest("header")));
}"""


def main(demo: Path) -> None:
    """Writes the picture, 1200 pixels wide."""
    (report,) = demo.rglob("report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 780})
        page.goto(report.resolve().as_uri())
        page.evaluate(PARTS)
        page.screenshot(path=PICTURE, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
