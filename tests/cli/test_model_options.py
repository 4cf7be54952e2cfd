"""``--option KEY=VALUE``: what a text becomes is what the loader's annotation says, nothing else."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from evenhand.cli.picture_options import model_options
from evenhand.errors import ArtefactError, BadInputError
from evenhand.miniature.named import open_miniature
from evenhand.models.images_api.model import load_images_api
from evenhand.pipeline import opening
from evenhand.pipeline.typed_options import typed_options

if TYPE_CHECKING:
    import absent


def loader(
    argument: str | None = None,
    *,
    word: str = "",
    maybe: str | None = None,
    whole: int | None = None,
    real: float = 1.0,
    yes: bool = False,
    either: str | float = "",
    flag: bool | str = "auto",
    size: tuple[int, int] | None = None,
    many: Sequence[float] = (),
    named: Mapping[str, object] | None = None,
    one_of: Literal["low", "high", 0] = "low",
    dtype: "absent.dtype | str" = "auto",
    anything: Any = None,
    plain=None,
    **others,
):
    return argument


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        # YAML 1.1 makes of these False, 493, 90, 2001-01-01, None
        ("word", "no", "no"),
        ("word", "0755", "0755"),
        ("word", "1:30", "1:30"),
        ("word", "2001-01-01", "2001-01-01"),
        ("maybe", "null", "null"),
        ("word", "", ""),
        ("word", " a ", " a "),
        ("whole", "0755", 755),
        ("whole", "-3", -3),
        ("real", "1e-3", 0.001),
        ("real", "5", 5.0),
        ("yes", "true", True),
        ("yes", "false", False),
        ("either", "0.5", 0.5),
        ("either", "half", "half"),
        ("either", "nan", "nan"),  # no finite number, so a text
        ("flag", "true", True),
        ("flag", "auto", "auto"),
        ("flag", "1", "1"),
        ("size", "[512, 384]", (512, 384)),
        ("many", "[1, 0.5]", (1.0, 0.5)),
        ("named", '{"quality": "low"}', {"quality": "low"}),
        ("one_of", "high", "high"),
        ("one_of", "0", 0),
        ("dtype", "float16", "float16"),
        ("anything", "1.5", 1.5),
        ("anything", "no", "no"),
        ("plain", "3", 3),
        ("plain", "NaN", "NaN"),
        ("more", "true", True),
    ],
)
def test_a_text_becomes_what_is_annotated(name, text, value):
    found = typed_options(loader, {name: text})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("whole", "2.5", "a whole number"),
        ("whole", "1e3", "a whole number"),
        ("whole", "1_000", "a whole number"),
        ("whole", "true", "a whole number"),
        ("whole", "null", "a whole number"),
        ("whole", "9" * 5000, "a whole number"),
        ("whole", 2.0, "a whole number"),
        ("whole", True, "a whole number"),
        ("real", "nan", "a finite number"),
        ("real", "1e400", "a finite number"),
        ("real", "much", "a finite number"),
        ("real", math.inf, "a finite number"),
        ("real", 10**400, "a finite number"),
        ("real", None, "a finite number"),
        ("yes", "yes", "true or false"),
        ("yes", "1", "true or false"),
        ("yes", 1, "true or false"),
        ("word", 3, "a text"),
        ("either", True, "a finite number, or a text"),
        ("size", "[512]", "a list, as JSON"),
        ("size", "[512, 0.5]", "a list, as JSON"),
        ("size", "512", "a list, as JSON"),
        ("many", "[NaN]", "a list, as JSON"),
        ("named", "[1]", "an object, as JSON"),
        ("named", "quality=low", "an object, as JSON"),
        ("one_of", "middle", "low, high, 0"),
    ],
)
def test_another_type_is_refused_and_said(name, value, allowed):
    with pytest.raises(BadInputError) as refused:
        typed_options(loader, {name: value})
    assert str(refused.value) == f"option {name}: got {value!r}; allowed: {allowed}"


def test_values_with_a_type_are_kept():
    dtype = object()  # as a torch.dtype: what JSON does not know is the loader's affair
    given = {"word": "a", "maybe": None, "whole": 3, "real": 2, "yes": True, "size": (1, 2), "dtype": dtype}
    assert typed_options(loader, given) == given
    assert typed_options(loader, {"device": dtype, "word": dtype}) == {"device": dtype, "word": dtype}


def test_the_loaders_that_ship():
    given = {"guidance": "5", "temperature": "1e-3", "batch_size": "4", "device": "cpu"}
    assert typed_options(open_miniature, given) == {
        "guidance": 5.0,
        "temperature": 0.001,
        "batch_size": 4,
        "device": "cpu",
    }
    given = {"price": "0.02", "seed_field": "false", "retries": "2", "check_seed": "true", "size": "1024x1024"}
    assert typed_options(load_images_api, given) == {
        "price": 0.02,
        "seed_field": False,
        "retries": 2,
        "check_seed": True,
        "size": "1024x1024",
    }
    model = opening.open_image_model("images-api:m@http://localhost:1/v1", {"extra": '{"quality": "low"}'})
    assert model.settings["extra"] == {"quality": "low"}


@pytest.mark.parametrize("kind", [TypeError, ValueError, RuntimeError, AssertionError])
def test_what_a_loader_raises_is_one_line_of_ours(monkeypatch, kind):
    def broken(argument=None, *, device: str = "cpu"):
        raise kind(f"no device {device}.\nC++ stack")

    monkeypatch.setattr(opening, "load", lambda *_: broken)
    monkeypatch.setattr(opening, "names", lambda *_: ("broken",))
    with pytest.raises(BadInputError) as refused:
        opening.open_image_model("broken", {"device": "banana"})
    assert str(refused.value) == "model broken: no device banana; check what is given; allowed --option: device."
    assert isinstance(refused.value.__cause__, kind)


def test_an_error_of_ours_passes_a_loader_unchanged(monkeypatch):
    def broken(argument=None):
        raise ArtefactError("these weights are not finite")

    monkeypatch.setattr(opening, "load", lambda *_: broken)
    monkeypatch.setattr(opening, "names", lambda *_: ("broken",))
    with pytest.raises(ArtefactError, match=r"^these weights are not finite$"):
        opening.open_image_model("broken")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "banana"}, "banana"),
        ({"batch_size": "2.5"}, "model miniature: option batch_size: got '2.5'; allowed: a whole number"),
        ({"guidance": "nan"}, "option guidance: got 'nan'; allowed: a finite number"),
        ({"guidance": True}, "option guidance: got True"),
    ],
)
def test_the_miniature_refuses_in_one_line(options, said):
    with pytest.raises(BadInputError) as refused:
        opening.open_image_model("miniature", options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_are_cut_at_the_first_equals_sign_and_not_read():
    assert model_options(["a-b=1:30", "extra={}", "word=x=y", "none="]) == {
        "a_b": "1:30",
        "extra": "{}",
        "word": "x=y",
        "none": "",
    }
    for wrong in (["guidance"], ["a=1", "a=2"], ["1a=2"]):
        with pytest.raises(BadInputError, match="each key once"):
            model_options(wrong)
