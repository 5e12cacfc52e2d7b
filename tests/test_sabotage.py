from dataclasses import replace

import pytest

from .sabotages.code import Code, Sabotage
from .sabotages.core import CORE
from .sabotages.table import SABOTAGES

SOUND = '''\
class Ring:
    def betti(self, image):
        """Counts the loops, called Schläfen on no scan."""
        if image.any(): return 1 - 0  # a comment that stays
        return (
            1
            - 0
        )
'''
RING = Sabotage("no loop", "Ring.betti", "image.any()", "False", "test_a_ring")


@pytest.fixture
def project(tmp_path):
    for folder in ("nnunet_topo/shapes", "trainers", "experiments", "tests/shapes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "nnunet_topo/shapes/ring.py").write_text(SOUND)
    (tmp_path / "trainers/Disk.py").write_text("class Disk:\n    def betti(self):\n        pass\n")
    (tmp_path / "tests/shapes/test_ring.py").write_text("def test_a_ring(): pass\n")
    return Code(tmp_path)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_every_sabotage_finds_its_function_its_expression_and_its_test(sabotage, the_code):
    the_code.change(sabotage)


def test_the_core_is_part_of_the_table():
    assert len(set(CORE)) == len(CORE)
    assert set(CORE) <= {sabotage.name for sabotage in SABOTAGES}


@pytest.fixture(scope="module")
def the_code():
    return Code()


def test_one_expression_is_replaced_and_all_else_stays(project):
    change = project.change(RING)
    assert change.broken == SOUND.replace("image.any()", "(False)")
    assert change.file.as_posix() == "nnunet_topo/shapes/ring.py"
    assert change.test == "tests/shapes/test_ring.py::test_a_ring"


def test_an_expression_is_found_in_any_layout_and_one_of_several_by_its_number(project):
    second = replace(RING, old="1-0", new="2", index=1)
    assert project.change(second).broken.endswith("return (\n            (2)\n        )\n")


def test_a_statement_is_removed(project):
    removed = replace(RING, old="if image.any(): return 1 - 0", new="")
    assert "        pass  # a comment that stays\n" in project.change(removed).broken


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"function": "Ring.euler"}, "function Ring.euler: not found"),
        ({"function": "betti"}, r"ring.Ring.betti and trainers.Disk.Disk.betti"),
        ({"old": "image.all()"}, "has 0 times 'image.all"),
        ({"old": "1 - 0"}, "has 2 times '1 - 0'"),
        ({"old": "1 - 0", "index": 2}, "number 2 is wanted"),
        ({"old": "image.any()", "index": 0}, "has 1 times"),
        ({"old": "a = 1; b = 2"}, "not one expression or statement"),
        ({"new": "image . any()"}, "changes nothing"),
        ({"new": "1 +"}, "not Python there"),
        ({"test": "test_a_rin"}, "test test_a_rin: not found"),
    ],
)
def test_a_missing_or_ambiguous_expression_is_an_error(wrong, message, project):
    with pytest.raises(ValueError, match=message):
        project.change(replace(RING, **wrong))
