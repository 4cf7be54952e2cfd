"""Fitting a text signal from a file, for every kind: held-out figures, what is stored, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from text_material import tokenizer_of, weights_for

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.fit import fit_text_signal
from evenhand.mitigate.ala.text.artefact import load_scorer
from evenhand.mitigate.ala.weights import tokenizer_hash
from evenhand.records import Attribute

GENDER = Attribute("gender", ("male", "female"), (0.5, 0.5), {}, {}, (), {}, {}, "test")


def texts_file(path: Path, *, told: float = 1.0, each: int = 150) -> Path:
    """Texts that name their group in a share ``told`` of the cases, else the other group."""
    random = np.random.default_rng(0)
    filler = ["bench", "suit", "red", "hat", "horse", "newspaper"]
    with path.open("w") as file:
        for number in range(2 * each):
            said = number % 2 if random.random() < told else 1 - number % 2
            words = random.choice(filler, 4)
            text = f"A {words[0]} {words[1]}, {('man', 'woman')[said]} number {number} {words[2]} {words[3]}"
            file.write(json.dumps({"text": text, "label": GENDER.groups[number % 2]}) + "\n")
    return path


def lm_of(tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
        return LlamaForCausalLM(config).eval()


def test_additive_needs_nothing_but_texts(tmp_path: Path):
    report = fit_text_signal("additive", texts_file(tmp_path / "t.jsonl"), attribute=GENDER, out=tmp_path / "s", seed=0)
    assert report.accuracy == 1.0
    assert report.train + report.calibration + report.held_out == 300
    assert 0.4 < report.majority < 0.65
    assert load_scorer(tmp_path / "s").settings["temperature"] == report.temperature


def test_held_out_accuracy_is_that_of_the_texts(tmp_path: Path):
    # One text in four names the other group: no scorer can be right on more than about 3 of 4 held-out ones.
    data = texts_file(tmp_path / "t.jsonl", told=0.75, each=1000)
    report = fit_text_signal("additive", data, attribute=GENDER, out=tmp_path / "s", seed=0)
    assert report.accuracy == pytest.approx(0.75, abs=0.08)
    assert report.ece < 0.1


@pytest.mark.parametrize(("kind", "rate"), [("causal", 5e-3), ("paper", 1e-3)])
def test_kinds_of_a_tokenizer(tmp_path: Path, kind: str, rate: float):
    tokenizer = tokenizer_of("gemma")
    seen: list[tuple[int, int]] = []
    data = tmp_path / "t.jsonl"
    rows = [{"text": f"A {i} {('man', 'woman')[i % 2]}", "label": GENDER.groups[i % 2]} for i in range(300)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = fit_text_signal(
        kind, data, attribute=GENDER, out=tmp_path / "s", seed=0, tokenizer=tokenizer,
        epochs=4, learning_rate=rate, progress=lambda done, wanted: seen.append((done, wanted)),
    )  # fmt: skip
    assert report.accuracy > 0.9
    assert seen[-1][0] == seen[-1][1] == 4 * report.train
    stored = json.loads((tmp_path / "s" / "scorer.json").read_text())
    assert stored["tokenizer"] == tokenizer_hash(tokenizer)
    state = load_scorer(tmp_path / "s").start(weights_for(stored["tokenizer"]), tokenizer)
    ids = [tokenizer.encode(f"A 7 {word}", add_special_tokens=False) for word in ("man", "woman")]
    alphas = []
    for row in ids:
        shares = state.shares(torch.tensor([row[:-1]]), torch.tensor([[row[-1]]]))[0, 0]
        alphas.append(float(shares[0] - shares[1]))
    assert alphas[0] > 0 > alphas[1]


def test_probe_of_a_language_model_in_a_folder(tmp_path: Path):
    tokenizer = tokenizer_of("byte-level")
    lm_of(tokenizer).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    data = tmp_path / "t.jsonl"
    rows = [{"text": f"number {i} a {('man', 'woman')[i % 2]}", "label": i % 2} for i in range(300)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = fit_text_signal("probe", data, attribute=GENDER, out=tmp_path / "s", seed=0, lm=tmp_path / "lm")
    assert report.accuracy > 0.9  # the last token tells, and a state shows its own token even in a random model
    state = load_scorer(tmp_path / "s").start(weights_for(tokenizer_hash(tokenizer)), tokenizer)
    assert state.by_token is None


def test_a_scorer_that_guesses_is_refused_and_not_written(tmp_path: Path):
    # The labels have nothing to do with the texts, whose words but one number are all the same.
    rows = [{"text": f"the thing number {i}", "label": i * 7919 % 13 % 2} for i in range(400)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ArtefactError, match="commonest group"):
        fit_text_signal("additive", tmp_path / "t.jsonl", attribute=GENDER, out=tmp_path / "s", seed=0)
    assert not (tmp_path / "s").exists()


def test_foreign_folders_are_left_alone_before_any_work(tmp_path: Path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("x")
    with pytest.raises(BadInputError, match="not empty"):
        fit_text_signal("additive", tmp_path / "absent.csv", attribute=GENDER, out=tmp_path / "s", seed=0)


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        ("magic", {}, "kind"),
        ("causal", {}, "tokenizer"),
        ("probe", {}, "lm="),
        ("sequence", {}, "classifier"),
        ("paper", {"tokenizer": "absent-folder"}, "cannot be opened"),
        ("causal", {"tokenizer": tokenizer_of("gemma"), "epochs": -1}, "epochs"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, kind: str, options: dict[str, object], match: str):
    data = texts_file(tmp_path / "t.jsonl")
    with pytest.raises(BadInputError, match=match):
        fit_text_signal(kind, data, attribute=GENDER, out=tmp_path / "s", seed=0, **options)
    assert not (tmp_path / "s").exists()


def test_three_groups(tmp_path: Path):
    groups = replace(GENDER, name="age", groups=("young", "adult", "old"))
    rows = [
        {"text": f"number {i} a {('boy', 'man', 'elder')[i % 3]}", "label": groups.groups[i % 3]} for i in range(300)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = fit_text_signal("additive", tmp_path / "t.jsonl", attribute=groups, out=tmp_path / "s", seed=0)
    assert report.accuracy == 1.0
