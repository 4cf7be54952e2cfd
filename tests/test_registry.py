"""Names: what ships, what an installed package adds, and what happens to a name that nobody has."""

import sys
from pathlib import Path

import pytest

from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.models.protocol import TextModel
from evenhand.registry import KINDS, load, names

EXTENSION = Path(__file__).parent / "extension"


@pytest.fixture
def extension(monkeypatch):
    """The folder stands on the path as site-packages does: a package beside its dist-info."""
    sys.modules.pop("evenhand_example", None)  # another test may have used it
    monkeypatch.syspath_prepend(str(EXTENSION))
    yield
    sys.modules.pop("evenhand_example", None)


def test_what_ships():
    pictures = {"picture_classifiers", "face_stages", "encoders", "quality"}
    assert set(KINDS) == {"models", "image_models", "probes", "classifiers", "mitigations", *pictures}
    assert "captioner" in names("models")
    assert "captioning" in names("probes")
    assert "words" in names("classifiers")
    assert {"align", "neutral", "paper"} <= set(names("mitigations"))
    assert all(list(names(kind)) == sorted(names(kind)) for kind in KINDS)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind]])
def test_every_name_that_ships_is_there(kind, name):
    if kind in ("models", "image_models", "mitigations", "picture_classifiers", "face_stages", "encoders", "quality"):
        pytest.importorskip("torch", reason="the extra `hf` is not installed")
    assert callable(load(kind, name))


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        KINDS["models"]["mine"] = "a:b"  # type: ignore[index]


def test_an_installed_package_adds_a_model(extension):
    assert "evenhand_example" not in sys.modules
    assert "says-person" in names("models")
    assert "evenhand_example" not in sys.modules  # listing imports nothing
    make = load("models", "says-person")
    assert isinstance(make(), TextModel)


def test_a_package_adds_to_its_kind_only(extension):
    with pytest.raises(UnknownNameError):
        load("probes", "says-person")


def test_a_package_cannot_take_a_name_that_ships(extension):
    # The example's entry points also claim `captioner`.
    assert names("models").count("captioner") == 1
    pytest.importorskip("torch", reason="the extra `hf` is not installed")
    assert load("models", "captioner").__module__ == "evenhand.models.captioner"


def test_without_the_package_the_name_is_unknown():
    assert "says-person" not in names("models")
    with pytest.raises(UnknownNameError):
        load("models", "says-person")


@pytest.mark.parametrize("ask", [names, lambda kind: load(kind, "captioner")])
def test_unknown_kind_lists_the_kinds(ask):
    known = (
        "classifiers, encoders, face_stages, image_models, mitigations, models, picture_classifiers, probes, quality"
    )
    with pytest.raises(UnknownNameError, match=f"no kind named 'model'; known: {known}"):
        ask("model")


def test_unknown_name_lists_names_and_near_misses():
    with pytest.raises(UnknownNameError, match=r"known: .*captioning.* Did you mean captioning\?") as caught:
        load("probes", "captoining")
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, EvenhandError)


def test_a_far_miss_gets_no_guess():
    with pytest.raises(UnknownNameError) as caught:
        load("probes", "zzzzzzzz")
    assert "Did you mean" not in str(caught.value)
