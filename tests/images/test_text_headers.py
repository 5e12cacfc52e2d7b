"""Text headers, and whether they give a spacing."""

import pytest

from nnunet_topo.images.text_headers import header_gives_spacing


@pytest.mark.parametrize(
    ("name", "header", "gives"),
    [
        ("a.nrrd", "NRRD0004\nsizes: 3 4 5\nspacings: 1 1 2\n\n", True),
        ("a.nrrd", "NRRD0004\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n\n", True),
        ("a.nrrd", "NRRD0004\nsizes: 3 4 5\nspace: LPS\nspacing note:=1\n\nspacings: 1 1 2", False),
        ("a.nrrd", "NRRD0004\r\nsizes: 3 4 5\r\nspacings: nan nan nan\r\n\r\n", False),
        ("a.mha", "NDims = 3\nElementSpacing = 1 1 2\nElementDataFile = LOCAL\n", True),
        ("a.mha", "NDims = 3\nElementSize = 1 1 2\nElementDataFile = LOCAL\n", True),
        ("a.mha", "NDims = 3\nElementDataFile = LOCAL\nElementSpacing = 1 1 2\n", False),
    ],
)
def test_a_spacing_is_looked_for_in_the_header_alone(tmp_path, name, header, gives):
    (tmp_path / name).write_bytes(header.encode())
    assert header_gives_spacing(tmp_path / name) == gives
