"""``evenhand score``: every option that is typed changes how the run is scored, and is kept; none is ignored."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from evenhand.cli.main import app
from evenhand.errors import BadInputError, LedgerError
from evenhand.pipeline.plans import read_plan

RUNNER = CliRunner()
EXTENSION = Path(__file__).parents[1] / "extension"


@pytest.fixture(autouse=True)
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSION))


def evenhand(*arguments: object):
    return RUNNER.invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    (folder / "two.txt").write_text("sewer\npilot\n")
    asked = ("--probe", "occupations", "--data", folder / "two.txt", "--samples", 10, "--answers", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXTENSION))
        done = evenhand("audit", "painter", *asked, "--classifier", "colours", "--out", folder / "run")
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.fixture
def scored(first, tmp_path):
    return shutil.copytree(first, tmp_path / "run")


def refusal(done):
    assert done.stdout == ""
    return done.exception


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (("--denominator", "all"), {"denominator": "all"}),
        (("--min-confidence", "0.5"), {"min_confidence": 0.5}),
        (("--min-confidence", "0"), {"min_confidence": 0.0}),
        (("--prompts", "sampled"), {"prompts": "sampled"}),
        (("--classifier", "colours:0.7"), {"classifier": "colours:0.7"}),
        (("--classifier", "gender=colours:0.7"), {"classifier": "colours:0.7"}),
    ],
)
def test_an_option_changes_what_is_stored_and_nothing_else(scored, typed, kept):
    before = json.loads((scored / "scoring.json").read_text())
    done = evenhand("score", scored, *typed, "--json")
    assert done.exit_code == 0, done.output
    after = json.loads((scored / "scoring.json").read_text())
    reader = {key: kept[key] for key in kept if key == "classifier"}
    expected = before | {key: kept[key] for key in kept if key != "classifier"}
    expected["read_by"] = [one | reader for one in before["read_by"]]
    assert after == expected
    assert after != before
    assert evenhand("score", scored, "--json").stdout == done.stdout  # the next time as well


def test_two_options_are_kept_one_after_the_other(scored):
    assert evenhand("score", scored, "--denominator", "all").exit_code == 0
    assert evenhand("score", scored, "--min-confidence", "0.5").exit_code == 0
    plan = read_plan(scored)
    assert (plan.denominator, plan.min_confidence, plan.prompts) == ("all", 0.5, "fixed")


def test_counts_of_errors_go_with_their_classifier(scored, tmp_path):
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps({"groups": ["male", "female"], "counts": [[90, 10], [20, 80]]}))
    done = evenhand("score", scored, "--confusion", f"gender={counts}", "--json")
    assert done.exit_code == 0, done.output
    assert "RD_corrected" in done.stdout
    assert evenhand("score", scored, "--denominator", "all").exit_code == 0
    assert read_plan(scored).read_by[0].confusion == ((90, 10), (20, 80))
    other = evenhand("score", scored, "--classifier", "colours:0.95")
    assert read_plan(scored).read_by[0].confusion is None
    assert "the errors of colours are not those of what reads gender now" in " ".join(other.stderr.split())


def test_attributes_replace_the_stored_ones_and_need_a_classifier(scored):
    assert evenhand("score", scored, "--denominator", "all").exit_code == 0
    kept = (scored / "scoring.json").read_bytes()
    assert "nothing is said to read gender" in str(refusal(evenhand("score", scored, "--attribute", "gender")))
    assert "'race' is not among" in str(refusal(evenhand("score", scored, "--classifier", "race=colours")))
    assert isinstance(refusal(evenhand("score", scored, "--denominator", "some")), BadInputError)
    assert (scored / "scoring.json").read_bytes() == kept
    assert evenhand("score", scored, "--attribute", "gender", "--classifier", "colours:0.85").exit_code == 0
    plan = read_plan(scored)
    assert (plan.read_by[0].classifier, plan.denominator) == ("colours:0.85", "all")


def test_without_a_plan_attributes_are_asked_for(scored):
    (scored / "scoring.json").write_text("no plan")
    assert isinstance(refusal(evenhand("score", scored, "--denominator", "all")), LedgerError)
    assert evenhand("score", scored, "--attribute", "gender", "--classifier", "colours").exit_code == 0
    assert read_plan(scored).denominator == "face"


def test_numbers_are_printed_where_the_plan_cannot_be_kept(scored):
    wanted = evenhand("score", scored, "--json").stdout
    (scored / "scoring.json").unlink()
    (scored / "scoring.json").mkdir()  # no file can take its place
    done = evenhand("score", scored, "--attribute", "gender", "--classifier", "colours", "--json")
    assert (done.exit_code, done.stdout) == (0, wanted)
    assert "how this was scored is not kept" in done.stderr


@pytest.mark.parametrize(
    "typed",
    [
        ("--attribute", "gender"),
        ("--classifier", "colours"),
        ("--faces", "none"),
        ("--denominator", "all"),
        ("--min-confidence", "0.5"),
        ("--quality", "clip-s:x"),
        ("--prompts", "fixed"),
        ("--confusion", "gender=x.json"),
    ],
)
def test_a_run_of_texts_takes_none_of_them(texts, typed):
    error = refusal(evenhand("score", texts, *typed))
    assert isinstance(error, BadInputError)
    assert typed[0] in str(error)
    assert "is a run of texts" in str(error)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = ["file,gender"]
    for number, group in enumerate(("male", "female")):
        Image.new("RGB", (8, 8), (number * 90, 80, 120)).save(folder / f"{group}.png")
        rows.append(f"{group}.png,{group}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXTENSION))
        done = evenhand("audit", "says-person", "--data", folder, "--out", folder / "run")
    assert done.exit_code == 0, done.output
    assert evenhand("score", folder / "run").exit_code == 0
    return folder / "run"
