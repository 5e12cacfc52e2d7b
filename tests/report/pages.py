"""Pages as a browser reads them, and comparisons drawn at random."""

from html.parser import HTMLParser

import numpy as np

from nnunet_topo.report import make_table
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.records import Comparison


class Page(HTMLParser):
    """What a browser would make of a page: elements, and the text beside the style sheet."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "br", "img", "wbr"):
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def assert_harmless(self):
        """Asserts that nothing is loaded or run, whatever the names contain."""
        for name, attributes in self.elements:
            assert name not in ("script", "img", "iframe", "object", "base", "form"), name
            for key, value in attributes.items():
                assert not key.startswith("on"), (name, key)
                if key in ("src", "href", "xlink:href", "data", "action"):
                    assert value.startswith(("#", "data:image/png;base64,")), value


def comparison(cases=1000, labels=3, models=("stock", "a", "b"), shift=0.0, seed=1, primary="Dice"):
    """Returns a study drawn at random."""
    rng = np.random.default_rng(seed)
    metrics = ("Dice", "topo_cldice", "topo_hd95_mm", "topo_betti_error", "topo_betti_exact")
    values = {
        model: Cases(
            {
                f"a_case_with_a_rather_long_name_{case:05d}.nii.gz": {
                    str(label): dict(
                        zip(metrics, rng.random(5) + shift * (model != "stock"), strict=True)
                    )
                    | {f"topo_betti_ref_{k}": float(rng.integers(0, 3)) for k in range(3)}
                    for label in range(1, labels + 1)
                }
                for case in range(cases)
            }
        )
        for model in models
    }
    names = {str(label): f"label {label}" for label in range(1, labels + 1)}
    rows = make_table(values, list(names), metrics, primary=primary)
    found = ("Simulated", values, names, metrics, "full", rows, [], [], {"Command": "none"})
    return Comparison(*found, primary=primary)
