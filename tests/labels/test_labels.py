import json

import numpy as np
import pytest

from nnunet_topo.labels.labels import (
    Labels,
    as_ranges,
    label_title,
    parse_groups,
    parse_labels,
    sorted_label_keys,
)
from nnunet_topo.labels.name_files import labels_by_name, read_label_names
from nnunet_topo.labels.values import (
    describe_foreign_labels,
    describe_fractions,
    describe_unknown_labels,
    distinct_values,
    refuse_values,
)

NAMES = {"aorta": 1, "vena cava": 2, "spleen": 10}
FILES = {
    "names.csv": 'label,name\n0,background\n1,aorta\n2,"vena cava"\n10,spleen\n',
    "name_first.csv": "Structure;R;G;Value\naorta;255;0;1\nvena cava;0;0;2\nspleen;1;1;10\n",
    "no_heading.csv": "1,aorta\n2,vena cava\n10,spleen\n",
    "bids_dseg.tsv": "index\tname\tcolor\n1\taorta\t#ff0000\n2\tvena cava\t#0\n10\tspleen\t#1\n",
    "with_mark.csv": "\ufeffLabelValue,Name,Color_R\n1,aorta,0\n2,vena cava,0\n10,spleen,3\n",
    "itk_snap.txt": "################\n# ITK-SnAP Label Description File\n################\n"
    '    0     0    0    0        0  0  0    "Clear Label"\n'
    '    1   255    0    0        1  1  1    "aorta"\n'
    '    2     0  255    0      0.5  1  1    "vena cava"\n'
    '   10     0    0  255        1  1  1    "spleen"\n',
    "color_table.ctbl": "# Color table file C:/Slicer\n# 3 values\n"
    '0 (none) 0 0 0 0\n1 aorta 255 0 0 255\n2 "vena cava" 0 0 9 255\n10 spleen 1 2 3 255\n',
    "dataset.json": json.dumps(
        {"labels": {"background": 0, "spleen": 10, "aorta": 1, "vena cava": 2}}
    ),
    "first_version.json": json.dumps(
        {"labels": {"0": "background", "1": "aorta", "10": "spleen", "2": "vena cava"}}
    ),
    "values.json": json.dumps({"1": "aorta", "2": "vena cava", "10": "spleen"}),
    "segmentation.seg.nrrd": "NRRD0004\ntype: unsigned char\nSegment0_LabelValue:=1\n"
    "Segment0_Name:=aorta\nSegment1_Name:=vena cava\nSegment1_LabelValue:=2\n"
    "Segment2_LabelValue:=10\nSegment2_Name:=spleen\n\n\x00\x01binary",
    "detached.seg.nhdr": "NRRD0004\nSegment0_LabelValue:= 1\nSegment0_Name:= aorta\n"
    "Segment1_Name:=vena cava\nSegment1_LabelValue:=2\nSegment2_LabelValue:=10\n"
    "Segment2_Name:=spleen\ndata file: x.raw\n",
    "separator.csv": "sep=;\nlabel;name\n1;aorta\n2;vena cava\n10;spleen\n",
    "empty_rows.csv": "label;name\n1;aorta\n2;vena cava\n;\n10;spleen\n;;\n;\n",
    "pandas.csv": ",label,name\n0,1.0,aorta\n1,2.0,vena cava\n2,10.0,spleen\n",
    "rows_are_counted.csv": "index,id,name\n0,1,aorta\n1,2,vena cava\n2,10,spleen\n",
    "rows_without_heading.csv": ",code,name\n0,1,aorta\n1,2,vena cava\n2,10,spleen\n",
    "idx.csv": "idx;Label ID;name\n1;1;aorta\n3;2;vena cava\n2;10;spleen\n",
    "label_is_a_name.csv": "index,label,number\n0,aorta,1\n1,vena cava,2\n2,spleen,10\n",
    "name_is_a_code.csv": "label,name,side,organ\n1,7,x,aorta\n2,8,x,vena cava\n10,9,x,spleen\n",
    "short_heading.csv": "title\naorta;1;x\nvena cava;2;x\nspleen;10;x\n",
    "two_lines.csv": 'label,name\n1,aorta\n2,"vena\ncava"\n10,spleen\n',
    "unicode.txt": "label\tname\r\n1\taorta\r\n2\tvena cava\r\n10\tspleen\r\n".encode("utf-16"),
    "itk_snap_more.label": '  # comment\r\n1 255 0 0 4.5e-05 1 1 "aorta"\r\n'
    '2 0 0 0 1 1 1 "vena cava"\r\n3 0 0 0 1 1 1 ""\r\n10 0 0 0 1 1 1 "spleen"\r\n',
    "remarks.ctbl": '1 aorta 255 0 0 255 a remark\n2 "vena cava" 0 0 9 255\n10 spleen 1 2 3 9 #\n',
}


@pytest.mark.parametrize("name", FILES)
def test_names_of_labels_are_read_from_the_files_in_which_people_keep_them(name, tmp_path):
    content = FILES[name]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    assert read_label_names(tmp_path / name) == NAMES


def test_letters_in_the_encoding_of_windows_are_read(tmp_path):
    (tmp_path / "names.csv").write_bytes("label;name\r\n1;Gefäß\r\n".encode("cp1252"))
    assert read_label_names(tmp_path / "names.csv") == {"Gefäß": 1}


@pytest.mark.parametrize(
    "content", ["", "nothing\n", "a,b\nc,d\n", "1\n2\n", "# 1 2 3\n", '1 9 0 0 1 1 "a"\n']
)
def test_a_file_without_names_of_labels_is_refused_by_its_name(content, tmp_path):
    (tmp_path / "names.csv").write_text(content)
    with pytest.raises(ValueError, match=r"names\.csv holds no names of labels: wanted a dataset"):
        read_label_names(tmp_path / "names.csv")


def test_two_labels_of_one_name_are_refused(tmp_path):
    (tmp_path / "names.csv").write_text("label,name\n1,rib\n2,rib\n")
    with pytest.raises(ValueError, match="the labels 1 and 2 are both called rib"):
        read_label_names(tmp_path / "names.csv")


def test_numbers_written_as_text_are_numbers_and_others_are_refused():
    given = {"background": "0", "a": "1", "b": 2.0, "both": ["1", 2]}
    assert labels_by_name(given, "labels") == {"background": 0, "a": 1, "b": 2, "both": (1, 2)}
    for wrong in ("x", 1.5, None, True, {}):
        with pytest.raises(ValueError, match="labels > a must be a whole number, got"):
            labels_by_name({"background": 0, "a": wrong}, "labels")
    with pytest.raises(ValueError, match="labels > a: a region without labels"):
        labels_by_name({"background": 0, "a": []}, "labels")
    with pytest.raises(ValueError, match="labels must be names with values, got list"):
        labels_by_name(["background", "a"], "labels")  # pyright: ignore[reportArgumentType]


def test_keys_are_sorted_as_numbers_and_regions_after_labels():
    keys = ["(10, 11)", "10", "(2, 3)", "2", "(2,)", "1", "-1", "other"]
    assert sorted_label_keys(keys) == [
        *("-1", "1", "2", "10", "(2,)", "(2, 3)", "(10, 11)", "other")
    ]


def test_labels_are_written_as_values_ranges_and_names():
    named = {"spleen": 10, "vessels, all": (1, 2)}
    assert parse_labels(["1", "3-5", "spleen"], named, "-l") == [1, 3, 4, 5, 10]
    assert parse_labels(["5,1", "vessels, all", "1"], named, "-l") == [5, 1, (1, 2)]
    assert parse_groups(["ribs=10-12", "one = 7"], named) == {"ribs": (10, 11, 12), "one": (7,)}
    assert parse_groups(["kidneys=2,3", "most=1,5-7,spleen"], named) == {
        "kidneys": (2, 3),
        "most": (1, 5, 6, 7, 10),
    }
    for wrong in ("liver", "5-3", "1.5", "-1"):
        with pytest.raises(ValueError, match=f"-l takes labels .* got '{wrong}'; known names are"):
            parse_labels([wrong], named, "-l")
    for wrong in (["1-100000000"], ["2", "5,7-65543"]):
        with pytest.raises(ValueError, match=r"-l takes ranges of up to 65536 labels, got \d+-\d+"):
            parse_labels(wrong, named, "-l")
    assert len(parse_labels(["0-65535"], named, "-l")) == 65536
    for wrong in ("ribs", "=1", "ribs=", "all=0-3"):
        with pytest.raises(ValueError, match="--group"):
            parse_groups([wrong], named)
    with pytest.raises(ValueError, match="--group a is given twice"):
        parse_groups(["a=1", "a=2"], named)


def test_labels_and_groups_are_titled_in_words():
    names = {"7": "spleen", "(1, 2, 3, 5)": "ribs"}
    assert label_title("7", names) == "label 7 (spleen)"
    assert label_title("8", names) == "label 8"
    assert label_title("(1, 2, 3, 5)", names) == "ribs (labels 1-3, 5)"
    assert label_title("(1, 2)", names) == "labels 1, 2"
    assert as_ranges([3, 1, 2, 2, 9]) == "1-3, 9"


@pytest.mark.parametrize(
    "values", [[0, 3, 1], [-2, 0, 70], [0.0, 2.5, 1.0], [0, 300000, 1], [0, np.nan, 1, np.inf]]
)
def test_the_values_of_a_label_map_are_those_of_numpy(values):
    label_map = np.random.default_rng(0).choice(np.array(values, np.float32), (5, 6, 7))
    np.testing.assert_array_equal(distinct_values(label_map), np.unique(label_map))


def test_values_that_cannot_be_labels_are_named_with_enough_digits_and_the_reason():
    def told(*values):
        return describe_fractions(np.array(values, np.float32))

    assert told(0, 1, 7) == told() == ""
    assert told(0, 1.0000002) == (
        "holds 1.0000002, close to 1 but not equal: round the values to whole numbers"
    )
    assert "holds 0.25, 0.5, between 0 and 1: probabilities (a soft mask)" in told(0, 0.25, 0.5, 1)
    assert "holds 1.5, which are not whole numbers: resampled with an interpol" in told(0, 1.5, 2)
    for wrong in (np.nan, np.inf, -np.inf):
        assert "contains NaN or infinite values" in told(0, 1, wrong)
    assert "holds labels of 16777216 or more" in told(0, 2**25)


def test_values_of_an_image_or_of_a_compressed_mask_are_not_labels():
    def told(values, *, is_choice=False, photograph=True):
        values, labels = np.array(values), Labels((1,), known=(0, 1, 255), is_choice=is_choice)
        return refuse_values(values, labels, values, photograph=photograph)

    image = range(-150, 150)
    assert told(image, photograph=False) == (
        "holds 298 different values that are not labels, from -150 to 149: an image instead of a "
        "segmentation?"
    )
    assert told(image, is_choice=True) == ""
    compressed = [0, 1, 2, 3, 4, 5, 251, 252, 253, 254, 255]
    assert "holds 8 different values, 2, 3, 4, 5, 251, ..., up to 254: grey lev" in told(compressed)
    assert told(compressed, photograph=False) == told(compressed, is_choice=True) == ""
    for labels in (range(200), [0, 1, 255], [0, 1, *range(12, 255, 12)], [0, 1, *range(248, 256)]):
        assert told(labels) == ""


def test_a_mask_without_any_label_that_is_wanted_names_the_likely_cause():
    def told(values, wanted):
        return describe_foreign_labels(np.array(values), wanted)

    assert told([0, 255], [1]) == (
        "holds 255 but none of the wanted labels (1): a binary mask saved in black and white, 0 "
        "and 255? Its foreground must have the value 1"
    )
    assert told([0, 1], [255]).endswith("a binary mask? Its foreground must have the value 255")
    assert told([1], [255]).startswith("holds 1 but none of the wanted labels (255)")
    assert "grey levels for viewing?" in told([0, 127, 255], [1, 2])
    assert told([0], [1]) == told([0, 1, 9], [1]) == told([], [1]) == ""
    assert describe_unknown_labels(np.array([0, 1, 9]), [0, 1]) == (
        "holds 9, not among the labels (0, 1); such voxels count as background"
    )
