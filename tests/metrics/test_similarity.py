"""Similarity of captions by hand."""

import pytest

from evenhand.errors import BadInputError
from evenhand.metrics.similarity import caption_similarity, mean_similarity


@pytest.mark.parametrize(
    ("plain", "other", "expected"),
    [
        ("A man sits.", "a man sits", 1.0),  # case and punctuation do not count
        ("a man sits", "a woman sits", 2 / 3),  # 1 of 3 replaced
        ("a man sits", "a tall man sits", 3 / 4),  # 1 put in, the longer has 4
        ("a man and his dog", "a woman and her dog", 3 / 5),
        ("a man sits", "two dogs", 0.0),  # 2 replaced, 1 taken out, of 3
        ("a man sits", "", 0.0),
        ("", "...", 1.0),
        ("the dog bites the man", "the man bites the dog", 3 / 5),  # order counts
        ("a b c d", "b c d a", 1 / 2),  # 1 out, 1 in, of 4
    ],
)
def test_by_hand(plain, other, expected):
    assert caption_similarity(plain, other) == pytest.approx(expected)
    assert caption_similarity(other, plain) == pytest.approx(expected)


def test_mean_by_hand():
    # 1, 2/3 and 3/4: mean 29/36.
    plain = ["A man sits."] * 3
    other = ["a man sits", "a woman sits", "a tall man sits"]
    found = mean_similarity(plain, other, ["a", "b", "c"], unit_name="picture", seed=0)
    assert found.value == pytest.approx(29 / 36)
    assert found.low <= found.value <= found.high <= 1.0
    assert (found.name, found.n, found.largest) == ("similarity", 3, 1.0)


def test_same_captions_are_surely_the_same():
    found = mean_similarity(["x y"] * 5, ["x y"] * 5, list("abcde"), unit_name="picture", seed=0)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


def test_pairs():
    with pytest.raises(BadInputError, match="got 2 plain and 1 others"):
        mean_similarity(["a", "b"], ["a"], ["x", "y"], unit_name="picture", seed=0)
