import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.training.settings import Settings, parse_settings, valid_suffixes

STEM = "nnUNetTrainerTAFL"


def parse(suffixes, *, has_term=True):
    return parse_settings(STEM, suffixes, has_term=has_term)


def test_demirs_training_can_be_written():
    settings = parse("_200epochs_lr0.0005_adam_cosine_wd0.0001")
    expected = {"epochs": 200, "lr": 0.0005, "adam": True, "cosine": True, "wd": 0.0001}
    assert settings.given() == expected


def test_no_suffix_sets_nothing():
    assert parse("") == Settings()
    assert parse("").given() == {}


def test_weight_0_is_a_setting():
    assert parse("_weight0").given() == {"weight": 0}


def test_a_wanted_ratio_is_a_setting_in_the_place_of_a_weight():
    assert parse("_ratio0.5_from1").given() == {"ratio": 0.5, "start": 1}
    with pytest.raises(ValueError, match="wanted weight or ratio, got both"):
        parse("_weight0.1_ratio10")


def test_connectivity_is_named_as_everywhere():
    assert parse("_face").connectivity == "face"
    assert parse("").connectivity == "full"


numbers = st.floats(0, 0.99) | st.integers(0, 10**6).map(float)


@given(
    st.builds(
        Settings,
        epochs=st.none() | st.integers(100, 10**5),
        iters=st.none() | st.integers(1, 10**4),
        weight=st.none() | numbers,
        start=st.none() | st.integers(0, 99),
        every=st.none() | st.integers(1, 50),
        clamp=st.none() | st.floats(0, 0.99),
        optimal=st.booleans(),
        tile=st.none() | st.integers(1, 200),
        kernels=st.none() | st.sets(st.integers(1, 99), min_size=1).map(lambda n: (*sorted(n),)),
        planes=st.none() | st.sets(st.integers(0, 2), min_size=1).map(lambda n: (*sorted(n),)),
        published=st.booleans(),
        both=st.booleans(),
        push=st.booleans(),
        tau=st.none() | st.floats(0.51, 1),
        tube=st.none() | st.integers(0, 50),
        face=st.booleans(),
        ce=st.booleans(),
        lr=st.none() | numbers,
        adam=st.booleans(),
        step=st.booleans(),
        nospatial=st.booleans(),
        seed=st.none() | st.integers(0, 10**6),
    )
)
def test_every_setting_is_read_back_from_its_own_spelling(settings):
    assert parse(settings.suffixes()) == settings


@pytest.mark.parametrize(
    ("suffixes", "right"),
    [
        ("_weight0.0", "_weight0"),
        ("_weight1e-2", "_weight0.01"),
        ("_weight0.00001", "_weight1e-05"),
        ("_weight00.5", "_weight0.5"),
        ("_weight.5", None),
        ("_050epochs", "_50epochs"),
        ("_ratio10.0", "_ratio10"),
        ("_from1_ratio3", "_ratio3_from1"),
        ("_adam_lr0.1", "_lr0.1_adam"),
        ("_seed1_50epochs", "_50epochs_seed1"),
        ("_seed1_nospatial", "_nospatial_seed1"),
        ("_nospatial_nomirror", "_nomirror_nospatial"),
        ("_kernels8-4", "_kernels4-8"),
        ("_planes1-1", "_planes1"),
        ("_tile065", "_tile65"),
        ("_tile65_optimal", "_optimal_tile65"),
        ("_tube3_tau0.80", "_tau0.8_tube3"),
    ],
)
def test_another_spelling_is_refused_with_the_right_name(suffixes, right):
    expected = f"always written {STEM}{right} " if right else "is not a setting"
    with pytest.raises(ValueError, match=expected):
        parse(suffixes)


@pytest.mark.parametrize(
    ("suffixes", "message"),
    [
        ("_50epoch", r"'50epoch' is not a setting. Valid suffixes.*<n>epochs.*seed<n>"),
        ("_", "'' is not a setting"),
        ("__face", "'' is not a setting"),
        ("_weight-1", "'weight-1' is not a setting"),
        ("_5epochs_6epochs", "<n>epochs is given twice"),
        ("_face_face", "face is given twice"),
        ("_0epochs", "<n>epochs must be at least 1, got 0"),
        ("_every0", "every<n> must be at least 1, got 0"),
        ("_1.5epochs", "<n>epochs takes a whole number, got '1.5'"),
        ("_weight1.2.3", "weight<x> takes a number, got '1.2.3'"),
        ("_weight1e999", "weight<x> must be"),
        ("_ratio0", "ratio<x> must be above 0; weight0 switches the term off"),
        ("_ratio-3", "'ratio-3' is not a setting"),
        ("_clamp1", r"clamp<x> must lie in \[0, 1\), got 1"),
        ("_tile0", "tile<n> must be at least 1, got 0"),
        ("_kernels0-4", "kernels<n-n> must be at least 1, got 0-4"),
        ("_planes0-3", "planes<n-n> must be at most 2, got 0-3"),
        ("_tau0.5", r"tau<x> must lie in \(0.5, 1\], got 0.5"),
        ("_tau1.5", "tau<x> must be at most 1, got 1.5"),
        ("_planes1-", "'planes1-' is not a setting"),
        ("_ce_dice", "wanted ce or dice, got both"),
        ("_cosine_step", "wanted cosine or step, got both"),
        ("_3epochs_from3", "last epoch is 2, so the term would never start"),
    ],
)
def test_a_wrong_suffix_is_refused_by_name(suffixes, message):
    with pytest.raises(ValueError, match=message):
        parse(suffixes)


def test_a_setting_of_the_term_is_refused_where_there_is_no_term():
    with pytest.raises(ValueError, match="weight<x> needs a term, nnUNetTrainerTAFL has none"):
        parse("_weight0.1", has_term=False)
    assert parse("_50epochs_seed1", has_term=False).given() == {"epochs": 50, "seed": 1}


def test_a_setting_of_another_term_is_refused():
    taken = ("clamp<x>", "tile<n>")
    settings = parse_settings(STEM, "_clamp0_tile65", has_term=True, term_settings=taken)
    assert settings.given() == {"clamp": 0, "tile": 65}
    with pytest.raises(ValueError, match="optimal has no effect on nnUNetTrainerTAFL"):
        parse_settings(STEM, "_optimal", has_term=True, term_settings=taken)
    refused = set(valid_suffixes()) - set(valid_suffixes(term_settings=taken))
    assert refused == {
        *("ce", "dice", "optimal", "kernels<n-n>", "planes<n-n>", "published", "face"),
        *("both", "push", "tau<x>", "tube<n>"),
    }
