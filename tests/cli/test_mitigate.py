"""``evenhand mitigate ala-fit`` as scripts see it: stdout, stderr, exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evenhand.cli.mitigate import mitigate_app
from evenhand.errors import ArtefactError, BadInputError, EvenhandError
from evenhand.mitigate.ala.text.artefact import load_scorer

RUNNER = CliRunner()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    words = (("man", "male"), ("woman", "female"))
    rows = [f"the {word} {'on a bench ' * (i % 3)}{i},{group}" for i in range(200) for word, group in words]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def fit(*arguments: object):
    return RUNNER.invoke(mitigate_app, ["ala-fit", *map(str, arguments)])


def test_json_is_all_there_is_on_stdout(texts: Path, tmp_path: Path):
    done = fit("--kind", "additive", "--attribute", "gender", "--text", texts, "--out", tmp_path / "s", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["kind"] == "additive"
    assert result["accuracy"] == 1.0
    assert {"ece", "temperature", "train", "held_out", "majority", "calibration", "out", "attribute"} <= set(result)
    assert load_scorer(tmp_path / "s").settings["temperature"] == result["temperature"]


def test_table_names_every_figure(texts: Path, tmp_path: Path):
    done = fit("--kind", "additive", "--text", texts, "--out", tmp_path / "s")
    assert done.exit_code == 0, done.output
    for name in ("accuracy", "ece", "temperature", "held_out", "majority"):
        assert name in done.stdout
    assert "stored in" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--kind", "magic", "--text", "t.csv"), "allowed: additive"),
        (("--kind", "additive"), "needs --text"),
        (("--kind", "causal", "--text", "TEXTS"), "tokenizer"),
        (("--kind", "additive", "--text", "TEXTS", "--pictures", "x"), "takes no --pictures"),
        (("--kind", "picture", "--text", "TEXTS"), "takes no --text"),
        (("--kind", "picture", "--pictures", "x"), "needs --pictures"),
        (("--kind", "additive", "--text", "TEXTS", "--features", "x"), "takes no --features"),
        (("--kind", "sequence", "--text", "TEXTS", "--classifier", "x", "--label", "toxic"), "LABEL=GROUP"),
    ],
)
def test_mistakes_are_said(texts: Path, tmp_path: Path, arguments: tuple[str, ...], match: str):
    done = fit(*(texts if a == "TEXTS" else a for a in arguments), "--out", tmp_path / "s")
    assert isinstance(done.exception, EvenhandError)
    assert match in str(done.exception)
    assert done.stdout == ""


def test_a_signal_that_guesses_is_refused(tmp_path: Path):
    path = tmp_path / "texts.csv"
    rows = [f"the thing number {i} {'x' * (i % 7)},{('male', 'female')[i * 7919 % 13 % 2]}" for i in range(400)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    done = fit("--kind", "additive", "--text", path, "--out", tmp_path / "s", "--json")
    assert isinstance(done.exception, ArtefactError)
    assert done.stdout == ""
    assert not (tmp_path / "s").exists()


def test_unknown_group_names_are_refused(tmp_path: Path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "a thing,thing\n" * 100)
    done = fit("--kind", "additive", "--text", path, "--out", tmp_path / "s")
    assert isinstance(done.exception, BadInputError)
