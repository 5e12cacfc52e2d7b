"""Labels and colours of topological errors in a map, for ITK-SNAP and 3D Slicer."""

from typing import get_args

from nnunet_topo.topology.error_places import ErrorKind

LABELS: dict[ErrorKind, int] = {kind: label for label, kind in enumerate(get_args(ErrorKind), 1)}
"""Value of each kind in a map; 0 is no error."""

COLOURS: dict[ErrorKind, tuple[int, int, int]] = {
    # Warm: what is false. Cold: what is missing.
    "false component": (230, 25, 75),
    "missing component": (0, 130, 200),
    "false joint": (245, 130, 48),
    "gap": (70, 240, 240),
    "false loop": (255, 225, 25),
    "missing loop": (60, 180, 75),
    "false hole": (240, 50, 230),
    "missing hole": (0, 128, 128),
    "false wall": (170, 110, 40),
    "missing wall": (120, 90, 220),
    "false cavity": (250, 190, 190),
    "missing cavity": (170, 255, 195),
}

ITK_SNAP_FILE = "errors.label.txt"
SLICER_FILE = "errors.ctbl"


def colours_by_label() -> dict[int, tuple[int, int, int]]:
    """Returns red, green and blue, 0 to 255, of each label."""
    return {LABELS[kind]: colour for kind, colour in COLOURS.items()}


def itk_snap_labels() -> str:
    """Returns ITK-SNAP's label descriptions: index, colour, opacity, visibility twice, name."""
    line = '  {:>3}   {:>3}  {:>3}  {:>3}  {:>7}  {}  {}    "{}"'.format
    return "\n".join(
        [
            _RULE,
            "# ITK-SnAP Label Description File",
            "# File format: ",
            "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
            "# Fields: ",
            "#    IDX:   Zero-based index ",
            "#    -R-:   Red color component (0..255)",
            "#    -G-:   Green color component (0..255)",
            "#    -B-:   Blue color component (0..255)",
            "#    -A-:   Label transparency (0.00 .. 1.00)",
            "#    VIS:   Label visibility (0 or 1)",
            "#    IDX:   Label mesh visibility (0 or 1)",
            "#  LABEL:   Label description ",
            _RULE,
            line(0, 0, 0, 0, 0, 0, 0, "Clear Label"),
            *(line(LABELS[kind], *COLOURS[kind], 1, 1, 1, kind) for kind in LABELS),
            "",
        ]
    )


_RULE = "#" * 48


def slicer_colours() -> str:
    """Returns a color table of 3D Slicer: index, name without spaces, colour, opacity to 255."""
    return "\n".join(
        [
            f"# Color table file {SLICER_FILE}",
            f"# {len(LABELS) + 1} values",
            "0 background 0 0 0 0",
            *(
                " ".join(map(str, (LABELS[kind], kind.replace(" ", "_"), *COLOURS[kind], 255)))
                for kind in LABELS
            ),
            "",
        ]
    )
