"""Bars of the strongest words: which are drawn, how long, in which direction; and the bytes."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from evenhand.errors import BadInputError
from evenhand.report.importance import importance_plot

WORDS = [
    ("man", 1.0, "male"),
    ("he", 0.5, "male"),
    ("dude", 0.25, "male"),
    ("woman", 0.75, "female"),
    ("she", 0.75, "female"),
    ("nurse", 0.0, "female"),
]
GROUPS = ("male", "female")


def drawn(words=WORDS, *, groups=GROUPS, attribute="gender", **options) -> str:
    names, weights, owners = zip(*words, strict=True) if words else ((), (), ())
    return importance_plot(names, weights, owners, groups=groups, attribute=attribute, **options)


def texts(svg: str) -> list[str]:
    return [text for element in ElementTree.fromstring(svg).iter("text") if (text := "".join(element.itertext()))]  # noqa: S314


def bars(svg: str) -> list[tuple[str, float]]:
    """Colour and signed length of every bar, in the order drawn; rightwards is positive."""
    found = []
    for path in re.findall(r'<path d="([^"]*)"[^>]*style="fill: (#0072b2|#d55e00|#00795a)"', svg):
        x = [float(x) for x in re.findall(r"[ML] (\S+)", path[0])]
        found.append((path[1], x[1] - x[0]))
    return found


def test_lengths_and_directions():
    found = bars(drawn())
    assert [colour for colour, _ in found] == ["#d55e00"] * 2 + ["#0072b2"] * 3
    lengths = [length for _, length in found]
    unit = lengths[2]
    assert unit > 100
    assert [length / unit for length in lengths] == pytest.approx([-0.75, -0.75, 1.0, 0.5, 0.25], abs=1e-6)


def test_words_values_and_what_they_are_of():
    found = texts(drawn())
    for text in ("Words that carry perceived gender", "← perceived female", "perceived male →", "man", "1.00", "0.25"):
        assert text in found
    assert found.index("she") < found.index("woman")  # equal weights: by alphabet
    assert "nurse" not in found  # weight 0


def test_only_the_strongest():
    found = texts(drawn(top=1))
    assert {"man", "she"} <= set(found)
    assert not {"he", "dude", "woman"} & set(found)


def test_three_groups_stand_side_by_side():
    words = [("a", 1.0, "x"), ("b", 0.5, "y"), ("c", 0.25, "z")]
    svg = drawn(words, groups=("x", "y", "z"), attribute="race")
    found = bars(svg)
    assert [colour for colour, _ in found] == ["#0072b2", "#d55e00", "#00795a"]
    assert [length / found[0][1] for _, length in found] == pytest.approx([1.0, 0.5, 0.25], abs=1e-6)
    assert {"perceived x", "perceived y", "perceived z"} <= set(texts(svg))


def test_a_group_without_words_is_still_named():
    svg = drawn([("man", 1.0, "male")])
    assert "← perceived female" in texts(svg)
    assert len(bars(svg)) == 1


def test_masked_words_show_their_first_letter_alone():
    found = texts(drawn(masked=True))
    assert "w····" in found
    assert "woman" not in found


def test_words_are_text_and_nothing_else():
    svg = drawn([("$x_1$", 1.0, "male"), ("<script>", 0.5, "female"), ("a\u202eb", 0.25, "male")])
    assert "<script" not in svg
    assert {"$x_1$", "<script>", "a‹U+202E›b"} <= set(texts(svg))


def test_the_same_words_give_the_same_bytes():
    assert drawn() == drawn(WORDS[::-1])
    assert drawn().startswith("<svg")
    assert "xmlns" not in drawn()


def test_no_torch():
    code = "import sys, evenhand.report.importance; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ([], GROUPS),
        ([("man", 0.0, "male")], GROUPS),
        ([("man", 1.1, "male")], GROUPS),
        ([("man", -0.1, "male")], GROUPS),
        ([("man", float("nan"), "male")], GROUPS),
        ([("man", 1.0, "other")], GROUPS),
        ([("man", 1.0, "male")], ("male",)),
    ],
)
def test_what_cannot_be_drawn_is_refused(words, groups):
    with pytest.raises(BadInputError):
        drawn(words, groups=groups)


def test_sizes_must_agree():
    with pytest.raises(BadInputError, match="2 words"):
        importance_plot(["a", "b"], [1.0], ["male"], groups=GROUPS, attribute="gender")
