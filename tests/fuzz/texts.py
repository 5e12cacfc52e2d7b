"""Doors for names and for files of text: JSON and CSV."""

import csv
import io
import json
from pathlib import Path

from hypothesis import strategies as st

from nnunet_topo.dataset import Channels, read_dataset_json, read_plans_file
from nnunet_topo.evaluation.summary import read_summary
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.name_files import read_label_names
from nnunet_topo.own_folder import OwnFolder
from nnunet_topo.priors.case_priors import read_case_priors
from nnunet_topo.priors.topology_json import TopologyJson
from nnunet_topo.training.named_trainers import trainer_with_settings
from nnunet_topo.training.settings import valid_suffixes
from nnunet_topo.training.splits import check_folds

from .door import NUMBERS, TEXTS, Door, changed, files_of, refused

TRAINERS = Path(__file__).parents[2] / "trainers"
CHANNELS = Channels(("ring", "blob"), ((1,), (2,)), has_regions=False, ignore=None)

# -- trainer names -------------------------------------------------------------------------------

STEMS = st.sampled_from([file.stem for file in sorted(TRAINERS.glob("nnUNetTrainer*.py"))])
WRITTEN = st.one_of(
    NUMBERS.map(str), st.sampled_from(["1-2", "٣", "1e3", "+1", "1_0", "inf", "0x1", "007", "1-"])
)


@st.composite
def suffixes(draw) -> str:
    spelling = draw(st.sampled_from(valid_suffixes()))
    before, opening, rest = spelling.partition("<")
    return before + (draw(WRITTEN) + rest.partition(">")[2] if opening else "")


NAMES = st.one_of(
    st.builds(
        lambda stem, parts: "_".join([stem, *parts]),
        STEMS,
        st.lists(suffixes() | TEXTS, max_size=4),
    ),
    TEXTS.map("nnUNetTrainer{}".format),
    TEXTS,
).filter(lambda name: "\n" not in name)


def look_up(name: str, folder: Path) -> None:
    def find():
        try:
            trainer = trainer_with_settings(name, TRAINERS)
        except AttributeError:  # it is not one of ours, and nnU-Net searches elsewhere
            return
        except RuntimeError as error:  # it resembles one of ours
            raise ValueError(str(error)) from None
        assert trainer.__name__ == name
        json.dumps(trainer.settings.given(), allow_nan=False)

    refused(find, name)


# -- JSON ----------------------------------------------------------------------------------------

RANGE = {"ring": [1, [0, 2], 0], "blob": [1, 0, 0], "both": "none"}
TOPOLOGY = {
    "dataset": "Dataset901_TinyRings",
    "priors": {kind: {"volumes": RANGE, "slices": {"ring": [1, 1]}} for kind in ("full", "face")},
    "unions": {"both": ["ring", "blob"]},
    "loss": {"form": "quadratic", "dimension_weights": {"volumes": [1, 1, 0.5]}},
    "written_by": {"nnunet_topo": "0.1", "digest": "0"},
}


def written(content: bytes, folder: Path, name: str) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def topology_json(content: bytes, folder: Path) -> bool:
    file = written(content, folder, "topology.json")

    def read():
        topology = TopologyJson.read(file)
        assert isinstance(topology.is_edited, bool)
        topology.check(CHANNELS)
        for space in (2, 3):
            topology.priors(CHANNELS, space=space, connectivity="full")

    return refused(read, file.name)


DATASET = {
    "channel_names": {"0": "noise"},
    "labels": {"background": 0, "ring": 1, "all": [1, 2], "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 6,
    "file_ending": ".nii.gz",
}


def dataset_json(content: bytes, folder: Path) -> bool:
    file = written(content, folder, "dataset.json")
    of_labels = refused(lambda: labels_of_dataset(read_dataset_json(file), file, None), file.name)
    return refused(lambda: read_label_names(file), file.name) and of_labels


PLANS = {
    "dataset_name": "Dataset901_TinyRings",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "label_manager": "LabelManager",
    "configurations": {"2d": {"data_identifier": "x", "inherits_from": "3d"}, "3d": {"a": 1}},
}


def plans(content: bytes, folder: Path) -> bool:
    file = written(content, folder, "nnUNetPlans.json")
    description = {"labels": {"background": 0, "ring": 1}, "file_ending": ".nii.gz"}
    of_plans = refused(lambda: read_plans_file(file), file.name)
    declared = written(json.dumps(description).encode(), folder, "dataset.json")
    return refused(lambda: labels_of_dataset(description, declared, file), file.name) or of_plans


METRICS = {"Dice": 0.5, "topo_betti_error_0": 1.0}
SUMMARY = {
    "metric_per_case": [
        {
            "prediction_file": "/p/a.nii.gz",
            "reference_file": "/r/a.nii.gz",
            "metrics": {"1": METRICS},
        }
    ],
    "mean": {"1": METRICS},
    "foreground_mean": METRICS,
    "nnunet_topo": {
        "version": "0.1",
        "cases": {"a.nii.gz": {"digest": "0"}},
        "undefined": {"1": {"Dice": 1}},
        "troubles": ["b: not evaluated"],
        "unit": "mm",
    },
}


def summary(content: bytes, folder: Path) -> None:
    file = written(content, folder, "summary.json")
    refused(lambda: read_summary(file), file.name)


RECORD = {
    "written_by": "nnunet-topo correct",
    "version": "0.1",
    "settings": {"a": 1},
    "cases": {"x": {"digest": "0", "files": ["x.nii.gz"], "voxels": 1}},
    "files": {"x.nii.gz": ["0"]},
}


def record(content: bytes, folder: Path) -> bool:
    file = written(content, folder, "correction.json")

    def read():
        own = OwnFolder(folder, file.name, "nnunet-topo correct", settings={"a": 1})
        own.finished("x", "0")
        own.refuse_others(["x.nii.gz"])

    return refused(read, file.name, str(folder))


SPLITS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]


def splits(content: bytes, folder: Path) -> bool:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for case in "abc":
        (data / f"{case}.b2nd").touch()
        (data / f"{case}.pkl").touch()
    file = written(content, folder, "splits_final.json")
    return refused(lambda: check_folds(folder, data, ["0", "1"], number=901), file.name)


# -- CSV -----------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(
        ["ring", "ring+blob", "1", "0", "1-2", "1..", "inf", "a", "case_1", '"', "a;b"]
    ),
    TEXTS,
    NUMBERS.map(str),
)


@st.composite
def tables(draw, *header: str) -> bytes:
    """Draws a table as programs write it, under a heading that may be damaged."""
    heads = draw(st.permutations(header)) if draw(st.booleans()) else list(header)
    if draw(st.integers(0, 5)) == 0:
        heads = draw(st.lists(TEXTS, max_size=5))
    rows = draw(st.lists(st.lists(CELLS, max_size=len(header) + 1), max_size=4))
    text = io.StringIO()
    csv.writer(text, delimiter=draw(st.sampled_from(",;\t"))).writerows([heads, *rows])
    content = text.getvalue().encode(
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace"
    )
    kind = draw(st.integers(0, 9))
    return content + {0: b"\xff\xfe", 1: b"x" * 200_000, 2: b"\x00"}.get(kind, b"")


def case_priors(content: bytes, folder: Path) -> None:
    file = written(content, folder, "priors.csv")
    for space in (2, 3):
        refused(lambda space=space: read_case_priors(file, CHANNELS, space=space), file.name)


def label_table(content: bytes, folder: Path) -> None:
    file = written(content, folder, "labels.csv")
    refused(lambda: read_label_names(file), file.name)


DOORS = [
    Door("trainer names", NAMES, look_up, 150),
    Door("topology.json", files_of(TOPOLOGY), topology_json, 150),
    Door("dataset.json", files_of(DATASET), dataset_json, 100),
    Door("plans", files_of(PLANS), plans, 100),
    Door("summary.json", files_of(SUMMARY), summary, 100),
    Door("records of folders", files_of(RECORD), record, 100),
    Door("splits", changed(SPLITS).map(lambda v: json.dumps(v).encode()), splits, 100),
    Door(
        "priors of cases", tables("case", "label", "betti0", "betti1", "betti2"), case_priors, 100
    ),
    Door("tables of labels", tables("label", "name"), label_table, 100),
]
