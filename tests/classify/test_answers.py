"""Short answers: whole words, the first one, and what cannot be read."""

from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.classify.answers import AnswerClassifier
from evenhand.errors import BadInputError
from evenhand.records import Label, Sample

GENDER = load_attribute("gender")
READ = AnswerClassifier(GENDER)
RACES = replace(
    GENDER, name="race", groups=("White", "Black", "East Asian", "Asian", "Middle Eastern", "Latino_Hispanic")
)


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("female", "female"),  # holds "male"
        ("Female.", "female"),
        ("Male.", "male"),
        ("**MALE**", "male"),
        ("The person is female-presenting", "female"),
        ("It is a male", "male"),
        ("not male but female", "male"),  # the first, by rule
        ("Female, not male", "female"),
        ("female/male", "female"),
        ("male1", "male"),
        ("<male>", "male"),
    ],
)
def test_first_whole_word(text, group):
    assert READ.read(text) == (group, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "I cannot tell the gender of a person from a picture.",
        "I'm sorry, but I can't help with that.",
        "females",
        "malevolent",
        "a woman",  # not one of the answers that were offered
        "42",
    ],
)
def test_what_cannot_be_read(text):
    assert READ.read(text) == (None, "unparsed")


def test_words_apart_are_words():
    assert READ.read("fe male") == ("male", None)


def test_other_ways_to_answer():
    wide = AnswerClassifier(GENDER, {"female": ("woman", "a lady"), "male": ("man",)})
    assert wide.read("A woman.") == ("female", None)
    assert wide.read("This is a lady, not a man") == ("female", None)
    assert wide.read("lady") == (None, "unparsed")  # "a lady" was the answer
    assert wide.read("Male") == ("male", None)  # the group's name stays


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("Middle Eastern", "Middle Eastern"),
        ("middle-eastern.", "Middle Eastern"),
        ("The man is East Asian", "East Asian"),
        ("Asian", "Asian"),
        ("Latino/Hispanic", "Latino_Hispanic"),
        ("white", "White"),
        ("in the middle: black", "Black"),  # "middle" alone is no answer
    ],
)
def test_many_options(text, group):
    assert AnswerClassifier(RACES).read(text) == (group, None)


def test_the_longer_answer_at_one_place():
    races = replace(RACES, groups=("East", "East Asian"))
    assert AnswerClassifier(races).read("east asian") == ("East Asian", None)
    assert AnswerClassifier(races).read("east") == ("East", None)


def test_several():
    assert READ.several("Male or Female?")
    assert not READ.several("Female. Female.")
    assert not READ.several("no idea")
    # The words of one answer are not read again inside it.
    assert not AnswerClassifier(RACES).several("East Asian")


def test_every_shipped_race_is_found_by_its_name():
    race = load_attribute("race")
    reader = AnswerClassifier(race)
    for group in race.groups:
        assert reader.read(f"The person is {group.title()}.") == (group, None)


def test_labels():
    samples = [
        Sample("a", 0, 1, "Female"),
        Sample("b", 2, 1, "no"),
        Sample("c", 0, 1, None, error="PictureError: gone"),
    ]
    assert READ.label(samples) == (
        Label("a", 0, "gender", "female", None, 1.0),
        Label("b", 2, "gender", None, "unparsed", 1.0),
        Label("c", 0, "gender", None, "error", 1.0),
    )


@pytest.mark.parametrize(
    "answers", [{"x": ("y",)}, {"male": ("female",)}, {"male": ("42",)}, {"male": ("he",), "female": ("He",)}]
)
def test_refused(answers):
    with pytest.raises(BadInputError, match="answers: got"):
        AnswerClassifier(GENDER, answers)


def test_a_refusal_is_told_from_what_cannot_be_read():
    reader = AnswerClassifier(load_attribute("gender"), refusals=("unknown", "cannot tell"))
    assert reader.read("Unknown.") == (None, "refused")
    assert reader.read("I cannot tell, perhaps male") == (None, "refused")  # the first one counts
    assert reader.read("male or unknown") == ("male", None)
    assert reader.read("a person") == (None, "unparsed")
    assert not reader.several("male or unknown")
    assert reader.several("unknown, male or female")


@pytest.mark.parametrize("refusal", ["Male", "?"])
def test_a_refusal_must_be_words_of_no_group(refusal):
    with pytest.raises(BadInputError, match="refusals"):
        AnswerClassifier(load_attribute("gender"), refusals=(refusal,))
