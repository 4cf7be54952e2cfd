"""Token weights from fitted scorers, and the command that makes them."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evenhand.attributes import load_attribute
from evenhand.cli.mitigate import mitigate_app
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.fit import fit_text_signal
from evenhand.mitigate.ala.weigh import weigh_tokens
from evenhand.mitigate.ala.weights import load_weights

sys.path.insert(0, str(Path(__file__).parent / "text"))
from text_material import tokenizer_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with texts, an additive and a causal scorer, and a tokenizer in which `man` is a word."""
    folder = tmp_path_factory.mktemp("weigh")
    words = (("man", "male"), ("woman", "female"))
    rows = [f"the {word} {'on a bench ' * (i % 3)}{i},{group}" for i in range(150) for word, group in words]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    tokenizer = tokenizer_of("gemma", size=420)
    tokenizer.save_pretrained(folder / "tokenizer")
    gender = load_attribute("gender")
    for kind, options in (("additive", {}), ("causal", {"tokenizer": tokenizer, "epochs": 12})):
        fit_text_signal(kind, folder / "texts.csv", attribute=gender, out=folder / kind, seed=0, **options)
    return folder, tokenizer


def test_an_additive_scorers_words_weigh_what_they_weigh_in_it(made, tmp_path):
    folder, tokenizer = made
    rows = weigh_tokens(
        folder / "additive", attribute=load_attribute("gender"), tokenizer=tokenizer, out=tmp_path / "w"
    )
    assert {(row.word, row.group) for row in rows[:2]} == {("man", "male"), ("woman", "female")}
    assert rows[0].weight == pytest.approx(1.0)
    assert rows[2].weight < 0.2  # bench, on, a: nothing tells the groups apart
    weights = load_weights(tmp_path / "w" / "weights.safetensors", tokenizer)
    assert {"man", "woman"} <= set(weights.words)
    assert json.loads((tmp_path / "w" / "importance.json").read_text())[0]["weight"] == pytest.approx(1.0)


def test_a_networks_tokens_are_weighed_over_texts(made, tmp_path):
    folder, tokenizer = made
    rows = weigh_tokens(
        folder / "causal",
        attribute=load_attribute("gender"),
        tokenizer=tokenizer,
        out=tmp_path / "w",
        texts=folder / "texts.csv",
        most=60,
    )
    strongest = {row.group: row.word.strip("▁") for row in reversed(rows)}
    assert strongest["male"] in "man"
    assert strongest["female"] in "woman"
    assert all(row.count for row in rows)
    assert load_weights(tmp_path / "w" / "weights.safetensors", tokenizer).token_ids.numel() == len(rows)


def test_the_command_draws_and_names(made, tmp_path):
    folder, _ = made
    arguments = ["--scorer", folder / "additive", "--tokenizer", folder / "tokenizer", "--out", tmp_path / "w"]
    done = CliRunner().invoke(mitigate_app, ["ala-importance", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "woman" in done.stdout
    assert (tmp_path / "w" / "importance.svg").read_text().startswith("<svg")
    hidden = CliRunner().invoke(mitigate_app, ["ala-importance", *map(str, arguments), "--masked"])
    assert "woman" not in hidden.stdout


def test_refused(made, tmp_path):
    folder, tokenizer = made
    given = {"tokenizer": tokenizer, "out": tmp_path / "w"}
    with pytest.raises(BadInputError, match="need texts"):
        weigh_tokens(folder / "causal", attribute=load_attribute("gender"), **given)
    with pytest.raises(BadInputError, match="name its own"):
        weigh_tokens(folder / "additive", attribute=load_attribute("age"), **given)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mine.txt").write_text("mine")
    with pytest.raises(BadInputError, match="something else"):
        weigh_tokens(folder / "additive", attribute=load_attribute("gender"), **given)
