"""Word labels by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.attributes import load_attribute
from evenhand.classify.words import WordClassifier, words_of
from evenhand.errors import BadInputError
from evenhand.records import Sample

WORDS = WordClassifier(load_attribute("gender"))
BOTH, NEUTRAL, NONE = (None, "both"), (None, "neutral"), (None, "none")
MALE, FEMALE = ("male", None), ("female", None)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a man in a suit", MALE),
        ("a woman in a suit", FEMALE),
        # Split at everything that is not a letter.
        ("a man/woman at a desk", BOTH),
        ("he/she", BOTH),
        ("a female-led team", FEMALE),
        ("Mr. Smith", MALE),
        ("Ms.Smith", FEMALE),
        ("a man's hat", MALE),
        ("a woman’s hat", FEMALE),
        ("(her)", FEMALE),
        ("man_woman", BOTH),
        ("man\u200bwoman", BOTH),
        ("his\u00a0hat", MALE),
        ("2men", MALE),
        # Whole words only.
        ("a human manager in Manchester", NONE),
        ("theory", NONE),
        ("sheep", NONE),
        # Without case.
        ("MAN", MALE),
        ("She", FEMALE),
        ("the chairman of the board", MALE),
        # A group's word wins over neutral ones; any word of the other group makes both, without a majority.
        ("a man among people", MALE),
        ("two men, three men and a woman", BOTH),
        ("a person", NEUTRAL),
        ("People.", NEUTRAL),
        ("a surfer on a wave", NEUTRAL),
        # The holes of the published lists are kept.
        ("a king", NONE),
        ("a queen", FEMALE),
        ("a pregnant person", FEMALE),
        ("two males and two females", NONE),
        ("a businessman", NONE),
        # Other alphabets and signs.
        ("Übermensch, Señora, mañana", NONE),
        ("mån", NONE),
        ("Женщина", NONE),
        ("👨 and 👩", NONE),
        ("", NONE),
        (" \n\t", NONE),
        ("123 !?", NONE),
    ],
)
def test_read_by_hand(text, read):
    assert WORDS.read(text) == read


def test_words_of_by_hand():
    assert words_of("Mr. O'Neil's  half-eaten 3kg Crème_brûlée!") == (
        *("mr", "o", "neil", "s", "half", "eaten", "kg"),
        *("crème", "brûlée"),
    )
    assert words_of("") == ()


def test_labels_keep_order_and_count_errors():
    samples = (
        Sample("b.jpg", 0, 1, "a man"),
        Sample("a.jpg", 0, 2, None, error="PictureError: broken"),
        Sample("a.jpg", 1, 3, "a dog"),
        Sample("c.jpg", 0, 4, ""),
    )
    labels = WORDS.label(samples)
    assert [(label.prompt_id, label.k, label.group, label.reason) for label in labels] == [
        ("b.jpg", 0, "male", None),
        ("a.jpg", 0, None, "error"),
        ("a.jpg", 1, None, "none"),
        ("c.jpg", 0, None, "none"),
    ]
    assert {label.attribute for label in labels} == {"gender"}
    assert {label.confidence for label in labels} == {1.0}
    assert WORDS.label(()) == ()


@given(
    chosen=st.lists(
        st.tuples(
            st.sampled_from([("man", "m"), ("his", "m"), ("woman", "f"), ("ms", "f"), ("people", "n"), ("desk", "-")]),
            st.sampled_from([" ", "/", "-", ". ", "'", "_", "7", "\n", "—"]),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_only_the_set_of_words_counts(chosen):
    text = "".join((word.upper() if loud else word) + gap for (word, _), gap, loud in chosen)
    kinds = {kind for (_, kind), _, _ in chosen}
    wanted = {
        (True, True): BOTH,
        (True, False): MALE,
        (False, True): FEMALE,
        (False, False): NEUTRAL if "n" in kinds else NONE,
    }
    assert WORDS.read(text) == wanted["m" in kinds, "f" in kinds]


def test_an_attribute_without_words_is_refused():
    with pytest.raises(BadInputError, match="no words"):
        WordClassifier(load_attribute("toxicity"))
