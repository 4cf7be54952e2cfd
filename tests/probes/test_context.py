"""Passages beside pictures: what they say, that they differ only where they should, and what is refused."""

import re
from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, LabelsError
from evenhand.probes.captioning import captioning
from evenhand.probes.context import QUESTION, context_neutral, context_none, context_opposite, with_context
from evenhand.records import Prompt

GENDER = load_attribute("gender")
WORD = re.compile(r"[a-z]+")
HERS = {"woman", "she", "her", "herself"}
HIS = {"man", "he", "his", "him", "himself"}


@pytest.fixture
def folder(tmp_path):
    lines = ["file,gender,scene"]
    for scene in ("dental_office", "desk", "taxi", "s12"):
        lines += [f"{scene}_{group}.jpg,{group},{scene}" for group in ("male", "female")]
    lines += [f"{index}.jpg,male,ann-lee" for index in range(2)]
    (tmp_path / "labels.csv").write_text("\n".join(lines), "utf-8")
    return str(tmp_path)


def words(text):
    return set(WORD.findall(text.lower()))


def gendered(text):
    return words(text) & {word for listed in GENDER.steering_words.values() for word in listed}


def test_no_context(folder):
    plain = captioning(folder, GENDER)
    found = context_none(folder, GENDER)
    assert [one.id for one in found] == [one.id for one in plain]
    assert {one.text for one in found} == {QUESTION}
    assert {(one.probe, one.facts["context"], one.facts["context_arm"]) for one in found} == {
        ("context_none", "", "none")
    }


def test_opposite_passages_speak_of_the_other_gender_only(folder):
    for prompt in context_opposite(folder, GENDER):
        expected = HERS if prompt.facts["gender"] == "male" else HIS
        found = gendered(prompt.facts["context"])
        assert found
        assert found <= expected
        assert prompt.probe == "context_opposite"


def test_every_passage_of_every_form():
    prompts = [
        Prompt(f"{index}.jpg", "captioning", "", "x", {"gender": group})
        for index in range(200)
        for group in GENDER.groups
    ]
    opposite = with_context(prompts, GENDER, arm="opposite", seed=0)
    neutral = with_context(prompts, GENDER, arm="neutral", seed=0)
    assert len({one.facts["context"] for one in neutral}) >= 5
    assert len({one.facts["context"] for one in opposite}) == 2 * len({one.facts["context"] for one in neutral})
    for one, other in zip(neutral, opposite, strict=True):
        text = one.facts["context"]
        assert not gendered(text)
        assert "{" not in text
        assert "they was" not in text.lower()
        # The two passages of a picture are the same but for the words of the group.
        swap = {"she": "they", "he": "they", "woman": "person", "man": "person", "his": "their", "him": "them"}
        swap |= {"herself": "themselves", "himself": "themselves"}
        neutralised = [swap.get(word, word) for word in WORD.findall(other.facts["context"].lower())]
        expected = WORD.findall(text.lower())
        assert len(neutralised) == len(expected)
        for left, right in zip(neutralised, expected, strict=True):
            assert left == right or (left == "her" and right in ("their", "them"))


def test_form_of_the_prompt(folder):
    for prompt in context_neutral(folder, GENDER):
        assert prompt.text == f"Context:\n{prompt.facts['context']}\n\n{QUESTION}"
        assert prompt.text.replace(prompt.facts["context"], "") == f"Context:\n\n\n{QUESTION}"


def test_a_question_of_its_own_stays(folder):
    asked = [replace(one, text="Who is this?") for one in captioning(folder, GENDER)]
    for prompt in with_context(asked, GENDER, arm="neutral", seed=0):
        assert prompt.text.endswith("\n\nWho is this?")
    assert {one.text for one in with_context(asked, GENDER, arm="none", seed=0)} == {"Who is this?"}


def test_a_scene_of_words_and_of_both_groups_opens_the_passage(folder):
    found = {one.id: one.facts["context"] for one in context_neutral(folder, GENDER)}
    assert found["dental_office_male.jpg"].startswith('Search result for "dental office". ')
    assert found["taxi_female.jpg"].startswith('Search result for "taxi". ')
    assert not found["s12_male.jpg"].startswith("Search")
    assert not found["0.jpg"].startswith("Search")  # a scene of one group may be a person's name


def test_pictures_of_a_scene_share_a_passage(folder):
    found = {one.id: one.facts["context"] for one in context_neutral(folder, GENDER)}
    assert found["desk_male.jpg"] == found["desk_female.jpg"]
    assert found["0.jpg"] == found["1.jpg"]


def test_seed_decides_and_order_does_not(folder):
    prompts = captioning(folder, GENDER)
    once = with_context(prompts, GENDER, arm="opposite", seed=1)
    assert with_context(prompts, GENDER, arm="opposite", seed=1) == once
    assert tuple(reversed(with_context(prompts[::-1], GENDER, arm="opposite", seed=1))) == once
    assert any(with_context(prompts, GENDER, arm="opposite", seed=seed) != once for seed in (2, 3))


def test_facts_and_pictures_stay(folder):
    for plain, prompt in zip(captioning(folder, GENDER), context_opposite(folder, GENDER), strict=True):
        assert prompt.image == plain.image
        assert {key: prompt.facts[key] for key in plain.facts} == dict(plain.facts)


def test_refused(folder):
    prompts = captioning(folder, GENDER)
    with pytest.raises(BadInputError, match="allowed: none, neutral, opposite"):
        with_context(prompts, GENDER, arm="toxic", seed=0)
    with pytest.raises(BadInputError, match="written for perceived gender"):
        with_context(prompts, replace(GENDER, name="age", groups=("young", "old")), arm="neutral", seed=0)
    with pytest.raises(BadInputError, match="declares gender as None"):
        with_context([Prompt("a", "captioning", "", "x")], GENDER, arm="none", seed=0)
    with pytest.raises(LabelsError, match="is not a folder"):
        context_opposite(folder + "none", GENDER)
