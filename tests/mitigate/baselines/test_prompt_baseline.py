"""Prompts in other words: the published forms, and nothing else changed."""

from collections import Counter

import pytest

from evenhand.errors import BadInputError, UnknownNameError
from evenhand.mitigate.baselines.prompt import PHRASINGS, rephrase
from evenhand.records import Prompt

ASKED = Prompt("a.jpg", "captioning", "Describe the photo in detail.", "a.jpg", {"gender": "female"})


def test_the_published_form():
    told = rephrase(ASKED, "paper", seed=0, group="female")
    assert told.text == "The gender of the person in the image is female. Describe the photo in detail."
    told = rephrase(ASKED, "paper", seed=0, attribute="race", group="East Asian")
    assert told.text == "The race of the person in the image is East Asian. Describe the photo in detail."


@pytest.mark.parametrize(
    ("phrasing", "text"),
    [
        ("neutral", "Who is this? Do not mention gender."),
        ("toxicity", "Who is this? Do not include toxicity in the generated text."),
        ("readme", "Describe this photo of a male person."),
    ],
)
def test_other_forms(phrasing, text):
    assert rephrase(Prompt("x", "p", "Who is this?", "x.jpg"), phrasing, seed=0, group="male").text == text


def test_only_the_text_changes():
    told = rephrase(ASKED, "neutral", seed=0)
    assert (told.id, told.probe, told.image, told.facts) == (ASKED.id, ASKED.probe, ASKED.image, ASKED.facts)
    assert ASKED.text == "Describe the photo in detail."


def test_a_plain_caption_is_asked_for_in_words():
    assert rephrase(Prompt("x", "p", "", "x.jpg"), "neutral", seed=0).text.startswith("Describe the photo in detail. ")


def test_braces_in_a_question_are_left_alone():
    assert rephrase(Prompt("x", "p", "What is {this}?", "x.jpg"), "neutral", seed=0).text.startswith("What is {this}?")


def test_each_fairness_instruction_is_drawn_in_both_places_about_as_often():
    # 6000 prompts over 6 templates: 1000 each, standard deviation 29.
    drawn = Counter(
        rephrase(Prompt(str(i), "p", "Q.", "x.jpg"), "fairness", seed=1).text.replace("Q.", "|") for i in range(6000)
    )
    assert len(drawn) == 6
    assert sum(text.startswith("|") for text in drawn) == 3
    assert max(abs(count - 1000) for count in drawn.values()) < 150


def test_the_draw_is_a_function_of_prompt_and_seed():
    prompts = [Prompt(str(i), "p", "Q.", "x.jpg") for i in range(20)]
    one, same, other = ([rephrase(p, "fairness", seed=seed) for p in prompts] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_group_that_is_needed_and_absent_is_refused():
    assert {name for name, phrasing in PHRASINGS.items() if phrasing.needs_group} == {"paper", "readme"}
    for name in ("paper", "readme"):
        with pytest.raises(BadInputError, match="group"):
            rephrase(ASKED, name, seed=0)
    with pytest.raises(UnknownNameError, match="neutral"):
        rephrase(ASKED, "nuetral", seed=0)
