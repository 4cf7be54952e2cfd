"""What is another wording of a sentence, by hand: the place, the groups, the others, the form of the answer."""

import json
from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.train.wording_rules import LONGEST, group_words, judge, question_for, same_words

GENDER, TONE = load_attribute("gender"), load_attribute("skin_tone")
TEMPLATE = "a photo of the face of a {occupation}, a person"


def judged(*texts, attributes=(GENDER, TONE), taken=(TEMPLATE,), wanted=9):
    return judge(json.dumps(texts), attributes, taken=taken, wanted=wanted)


def test_what_is_fine_is_kept_in_order_and_no_more_than_wanted():
    texts = ("a portrait of a {occupation}", "the {occupation}'s face, close up", "{occupation}: a snapshot")
    assert judged(*texts).kept == texts
    assert judged(*texts).refused == ()
    assert judged(*texts, wanted=2).kept == texts[:2]
    assert judged("  a portrait of a {occupation} ").kept == ("a portrait of a {occupation}",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a portrait of a person", "exactly once"),
        ("a {occupation} and a {occupation}", "exactly once"),
        ("a {occupation} in a {place}", "exactly once"),
        ("a {Occupation} at work", "exactly once"),
        ("some {occupation}s at work", "exactly once"),  # no word of its own
        ("wo{occupation} at work", "exactly once"),
        ("a portrait of a female {occupation}", "of gender"),
        ("a female-{occupation} portrait", "of gender"),
        ("a {occupation} in her office", "of gender"),
        ("a {occupation} AND HIS tools", "of gender"),
        ("a grandfather who is a {occupation}", "of gender"),  # steers only, no measuring word
        ("a ｗｏｍａｎ, a {occupation}", "of gender"),  # full-width letters are letters
        ("a {occupation} with dark skin", "of skin_tone"),
        ("a photo of the face of a {occupation}, a person", "like another"),
        ("A photo of the face of a {occupation} - a person.", "like another"),
        ("", "readable"),
        ("a {occupation}\nat work", "readable"),
        ("a wo\u200bman, a {occupation}", "readable"),
        ("a {occupation} " + "x" * LONGEST, "readable"),
    ],
)
def test_what_breaks_a_rule_is_refused(text, why):
    found = judged(text)
    assert found.kept == ()
    ((_, said),) = found.refused
    assert why in said


def test_neutral_words_and_parts_of_words_are_no_groups():
    texts = ("a {occupation}, one of the people here", "a {occupation} in daylight", "the humane {occupation}")
    assert judged(*texts).kept == texts


def test_two_alike_in_one_answer_are_one():
    found = judged("a portrait of a {occupation}", "A portrait, of a {occupation}!")
    assert found.kept == ("a portrait of a {occupation}",)
    assert [why for _, why in found.refused] == ["like another one"]


def test_groups_of_several_words_and_of_digits_are_found():
    age = replace(TONE, name="age", groups=("20-29", "very old"))
    found = judged("a {occupation} of 20-29 years", "a very old {occupation}", "an old {occupation}", attributes=(age,))
    assert found.kept == ("an old {occupation}",)


@pytest.mark.parametrize(
    "answer",
    [
        'Here you are: ["a {occupation}"]',
        "a {occupation}",
        "",
        "[]",
        "{}",
        '["a {occupation}", 7]',
        '{"wordings": ["a {occupation}"]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_array_of_texts_is_refused_whole(answer):
    found = judge(answer, [GENDER], taken=[], wanted=3)
    assert found.kept == ()
    ((_, why),) = found.refused
    assert why == "no JSON array of texts"


def test_a_fence_around_the_array_is_no_harm():
    assert judge('```json\n["a {occupation}"]\n```', [GENDER], taken=[], wanted=1).kept == ("a {occupation}",)


def test_words_of_groups_and_their_counterparts():
    words = group_words([GENDER, TONE])
    assert {"man", "her", "grandmother", "king", "pregnant"} <= set(words)
    assert not {"person", "people", "child", "they"} & set(words)
    assert group_words([TONE]) == {}


def test_sameness():
    assert same_words("A  photo, of a {occupation}.") == ("a", "photo", "of", "a", "occupation")


def test_the_question_says_what_is_wanted_and_what_went_wrong():
    first = question_for(TEMPLATE, [GENDER, TONE], 3, [])
    assert TEMPLATE in first
    assert "JSON array of 3 texts" in first
    assert "no gender (male, female); no skin tone (light, medium, dark)" in first
    again = question_for(TEMPLATE, [GENDER], 1, [("a woman", "names a group of gender")])
    assert "'a woman': names a group of gender" in again
