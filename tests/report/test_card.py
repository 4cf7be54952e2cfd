"""The model card: what the Hub reads, what people read, and that outside text is only text."""

import re

import pytest
import yaml
from drawn_runs import answers_of, label_row, prompt_of, score, small_run
from markdown_it import MarkdownIt
from pages import HOSTILE
from spoiling import spoil_pictures

from evenhand.report import model_card


def split(card):
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_front_matter_holds_the_numbers_of_the_records():
    run = small_run()
    front, _ = split(model_card([], [run]))
    (entry,) = front["model-index"]
    assert entry["name"] == "miniature"
    (result,) = entry["results"]
    assert result["task"]["type"] == "text-to-image"
    assert result["dataset"]["name"] == "occupations"
    first, due = result["metrics"][0], run.estimates["gender"][0]
    assert (first["type"], first["name"]) == ("rd", "RD (perceived gender)")
    assert first["value"] == due.value
    assert (first["args"]["low"], first["args"]["high"]) == (due.low, due.high)
    assert (first["args"]["largest"], first["args"]["n"], first["args"]["unit"]) == (1.0, 35, "picture")


def test_the_section_reads_as_the_report_does():
    answers = answers_of(small_run().prompts, shares=[(1, 0, 0.2)] * 3, n=20)
    run = small_run(answers={"gender": answers})
    means = {one.name: one for one in run.estimates["gender"]}
    rd, observed = means["RD"], means["RD_observed"]
    _, body = split(model_card([], [run]))
    assert f"RD {rd.value:.3f} \\[{rd.low:.3f}, {rd.high:.3f}\\] of at most 1" in body
    assert f"of at most 1; an even model leaves {rd.floor:.3f} on average. RD\\_observed" in body
    assert f"is {observed.value:.3f} \\[{observed.low:.3f}, {observed.high:.3f}\\]; an even model shows" in body
    assert f"an even model shows {observed.floor:.3f} on average." in body
    assert "1 of 3 prompts show more male than wanted, 0 of 3 prompts show more female than wanted" in body
    assert "- Nobody checked the classifier on pictures of this model." in body
    assert "- No known group, gender: no face 1, uncertain 1." in body
    assert "perceived presentation" in body
    assert "held\\_out\\_accuracy 0.984" in body
    gap = {one.name: one for one in answers.estimates}.get("gap")
    assert gap is None or f"| {gap.n} answers or pictures |" in body
    assert "Answers of the same model about people it is not shown" in body
    for word in ("unbiased", "debiased", "fair "):
        assert word not in body.lower()


def test_captions_have_their_own_entry(audit):
    runs, _ = audit
    front, body = split(model_card(runs[:1], [small_run()]))
    assert [entry["results"][0]["task"]["type"] for entry in front["model-index"]] == ["image-to-text", "text-to-image"]
    assert "| gender | MR\\_F | 37.5\u00a0% | 20.8 to 58.3 | 24 pictures |" in body


def test_an_undefined_number_is_not_in_the_front_matter():
    one, two = prompt_of("guard"), prompt_of("ghost")
    labels = label_row(one, "gender", ["male"] * 4) + label_row(two, "gender", ["[no face]"] * 4)
    front, _ = split(model_card([], [score([one, two], {"gender": labels})]))
    assert ".nan" not in yaml.safe_dump(front)


def test_the_hub_can_read_it():
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, which the extra hf brings")
    data = hub.ModelCard(model_card([], [small_run()])).data
    assert data.model_name == "miniature"
    assert data.eval_results[0].metric_args["unit"] == "picture"


MARKDOWN = (
    "[x](http://evil.example)",
    "| a |\n\n# Head\n- item",
    "**bold** `code` www.evil.example <b>",
    "![i](//e.e/x)",
    "1. one",
    "- one",
    "---",
    "x |---| y",
)


@pytest.mark.parametrize("text", [*HOSTILE, *MARKDOWN])
def test_outside_text_formats_nothing(text):
    clean, spoilt = small_run(), spoil_pictures(small_run(), text)
    front, body = split(model_card([], [spoilt]))
    assert len(front["model-index"]) == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", body)
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")

    def kinds(markdown):
        tokens = reader.parse(markdown)
        return {one.type for token in tokens for one in (token, *(token.children or ()))}

    assert kinds(body) <= kinds(split(model_card([], [clean]))[1]) | {"text_special"}
    assert "://" not in body
    assert "www." not in body
    assert len({row.replace("\\|", "").count("|") for row in body.split("\n") if row.startswith("|")}) == 1
