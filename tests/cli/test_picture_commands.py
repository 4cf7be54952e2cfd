"""The verbs for models that draw, as scripts see them. The model and the classifier are the example extension's."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import in_process, install_model, run


def audit(cwd: Path, out: str, *more: str, model: str = "painter:sewer=0.2,pilot=0.9"):
    given = ("--probe", "occupations", "--data", "two.txt", "--classifier", "colours", "--out", out)
    return run("audit", "--model", model, *given, "--samples", "60", "--answers", "10", *more, cwd=cwd)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A folder with two runs: ``runs/a`` of known bias, ``runs/even``."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "two.txt").write_text("sewer\npilot\n")
    done = audit(folder, "runs/a", "--json")
    assert done.returncode == 0, done.stderr
    assert audit(folder, "runs/even", model="painter:sewer=0.5,pilot=0.5").returncode == 0
    return folder, json.loads(done.stdout)


@pytest.fixture
def call(audited, monkeypatch, capfd):
    """The program in this process, in the folder of the runs."""
    return in_process(audited[0], monkeypatch, capfd)


def estimate(found, name, attribute="gender"):
    return next(one for one in found["attributes"][attribute]["estimates"] if one["name"] == name)


def numbers(value):
    """Every number of a JSON value, in order."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for part in inner for number in numbers(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_audit_prints_one_json_object_and_writes_the_report(audited):
    folder, found = audited
    rd = estimate(found, "RD")
    assert rd["low"] <= (0.6 + 0.8) / 2 <= rd["high"]
    assert Path(found["report"]) == Path("runs/a/report.html")
    for name in ("report.html", "report.json", "model-card.md"):
        assert (folder / "runs/a" / name).stat().st_size > 500


def test_every_number_of_the_report_is_made_again_by_score(audited):
    folder, _ = audited
    scored = json.loads(run("score", "runs/a", "--json", cwd=folder).stdout)
    fresh = json.loads(run("score", "runs/a", "--fresh", "--json", cwd=folder).stdout)
    (reported,) = json.loads((folder / "runs/a/report.json").read_text())["pictures"]
    assert scored == fresh == reported
    assert len(numbers(reported)) > 100
    checked = run("report", "runs/a", "--check", "--json", cwd=folder)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["figures_checked"] > len(numbers(reported))


def test_a_report_that_was_changed_is_refused(audited, tmp_path):
    folder, _ = audited
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("report.html", "report.json", "model-card.md"):
        (copy / name).write_bytes((folder / "runs/a" / name).read_bytes())
    assert run("report", "runs/a", "--out", str(copy), "--check", cwd=folder).returncode == 0
    page = (copy / "report.html").read_text("utf-8")
    at = page.index("</data>")
    (copy / "report.html").write_text(page[:at] + "9" + page[at:], "utf-8")
    refused = run("report", "runs/a", "--out", str(copy), "--check", cwd=folder)
    assert refused.returncode == 2
    assert "ReportMismatchError" in refused.stderr


def test_audit_shows_a_table_and_a_second_run_draws_nothing(audited):
    folder, found = audited
    done = audit(folder, "runs/a")
    assert done.returncode == 0, done.stderr
    assert "RD" in done.stdout
    assert "gender" in done.stdout
    shards = sorted(path.name for path in (folder / "runs/a").glob("samples-*.parquet"))
    assert len(shards) == 18  # 120 pictures by 7: one shard a batch, none after the first run
    assert found["counts"]["pictures"] == 120


def test_sample_then_score_in_another_way(audited, tmp_path):
    folder, _ = audited
    given = ("--probe", "occupations", "--data", "two.txt", "--answers", "0", "--samples", "5")
    out = str(tmp_path / "run")
    sampled = run("sample", "painter", *given, "--out", out, "--json", cwd=folder)
    assert json.loads(sampled.stdout) == {"run": out, "samples": 10, "errors": 0}
    unsaid = run("score", out, cwd=folder)
    assert unsaid.returncode == 2
    assert "--classifier" in unsaid.stderr
    scored = run("score", out, "--attribute", "gender", "--classifier", "gender=colours:0.7", "--json", cwd=folder)
    assert json.loads(scored.stdout)["counts"]["pictures"] == 10
    assert run("score", out, "--json", cwd=folder).stdout == scored.stdout  # how it was scored is kept


def test_compare_pairs_by_prompt_and_number(audited):
    folder, _ = audited
    done = run("compare", "runs/a", "runs/even", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"]["pairs"] == 120
    (difference,) = (one for one in found["estimates"]["gender"] if one["name"] == "RD difference")
    assert difference["high"] < 0  # .7 before, 0 after
    assert "RD" in run("compare", "runs/a", "runs/even", cwd=folder).stdout


@pytest.mark.parametrize(
    ("run_of", "bound", "code"),
    [
        ("a", "gender:RD=0.95", 0),  # true .7
        ("a", "RD=0.95", 0),  # the only attribute
        ("a", "gender:RD=0.3", 1),
        ("a", "gender:RD=0.7", 3),
        ("even", "gender:RD=0.95", 3),  # passes, and has the caveat that it cannot be told from an even model
        ("a", "gender:RDX=0.3", 4),
        ("a", "gender:gap=0.9", 0),
        ("a", "gender:RD", 2),
        ("a", "gender:RD=much", 2),
        ("a", "gender:RD=inf", 2),
        ("a", "gender:RD=-inf", 2),
        ("a", "gender:RD=1e400", 2),
    ],
)
def test_gate_judges_the_interval(call, run_of, bound, code):
    done = call("gate", f"runs/{run_of}", "--at-most", bound, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    assert call("gate", f"runs/{run_of}", "--at-most", bound).returncode == code


def test_a_gate_of_what_shows_no_group_is_undefined(audited, tmp_path):
    folder, _ = audited
    out = str(tmp_path / "run")
    unread = ("--denominator", "confident", "--min-confidence", "0.95")
    assert audit(folder, out, *unread).returncode == 2
    assert run("score", out, "--attribute", "gender", "--classifier", "colours", *unread, cwd=folder).returncode == 2
    done = run("gate", out, "--at-most", "gender:RD=0.3", cwd=folder)
    assert done.returncode == 4
    assert "undefined" in done.stdout


def test_plan_says_how_many_and_how_long(audited):
    folder, _ = audited
    given = ("--probe", "occupations", "--data", "two.txt", "--half-width", "0.1", "--json")
    found = json.loads(run("plan", *given, "--model", "painter", cwd=folder).stdout)
    assert found["pictures"] == found["pictures_of_each"] * 2
    assert found["half_width"] <= 0.1
    assert len(found["seconds_of_two_pictures"]) == 2
    # A known share near the ends needs fewer pictures than the widest table does.
    from_run = json.loads(run("plan", *given, "--run", "runs/a", cwd=folder).stdout)
    assert from_run["pictures"] <= found["pictures"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("audit", "painter", "--probe", "occupations"), "nothing is said to read gender"),
        (("audit", "miniature", "--classifier", "avatar"), "Did you mean avatars"),
        (("audit", "miniature", "--attribute", "gendre"), "Did you mean gender"),
        (("audit", "miniature", "--attribute", "gender,gender"), "each once"),
        (("audit", "miniature", "--classifier", "race=avatars"), "'race' is not among the attributes"),
        (("audit", "miniature", "--option", "guidanse=2"), "allowed --option: device, guidance"),
        (("audit", "miniature", "--option", "guidance"), "KEY=VALUE"),
        (("audit", "miniature", "--mitigate", "align"), "--mitigate"),
        (("audit", "miniature", "--probe", "captioning", "--data", "."), "labels.csv"),
        (("audit", "unified:nowhere", "--classifier", "colours"), "nowhere"),
        (("audit", "captioner"), "--data"),
        (("audit", "says-person", "--data", "two.txt", "--classifier", "colours"), "registered under evenhand.image_m"),
        (("audit", "says-person", "--data", "two.txt"), "registered under evenhand.image_models"),
        (("audit", "painte", "--data", "two.txt"), "Did you mean painter or"),
        (("audit", "captionr", "--data", "."), "Did you mean captioner or"),
        (("audit", "captioner", "--data", ".", "--option", "steps=2"), "--option: model 'captioner' is asked about"),
        (("plan", "--half-width", "1e-300"), "got 1e-300"),
        (("plan", "--half-width", "nan"), "got nan"),
        (("report", "runs/a", "--out", "/dev/null"), "cannot write to '/dev/null'"),
        (("report", "runs/a", "--out", "two.txt/inside"), "give another one with --out"),
        (("compare", "runs/a", "runs/../runs/a"), "given twice: runs/a and runs/../runs/a"),
        (("audit",), "name one"),
        (("score", "nowhere"), "not a run folder"),
        (("gate", "nowhere", "--at-most", "RD=1"), "not a run folder"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_code_2(call, arguments, said):
    done = call(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_runs_of_one_name_are_told_apart_by_their_paths(audited):
    folder, _ = audited
    for source, place in (("runs/a", "x/a"), ("runs/even", "y/a")):
        shutil.copytree(folder / source, folder / place)
    found = json.loads(run("compare", "x/a", "y/a", "--json", cwd=folder).stdout)
    assert (found["baseline"], found["other"]) == ("x/a", "y/a")
    for check in ((), ("--check",)):
        done = run("report", "x/a", "y/a", "--out", "both", *check, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert "y/a" in (folder / "both/report.html").read_text("utf-8")


def test_a_report_of_runs_names_the_broken_one(audited):
    folder, _ = audited
    for name in ("fine", "broken"):
        shutil.copytree(folder / "runs/a", folder / "many" / name)
    (folder / "many/broken/scoring.json").write_text("{}")
    done = run("report", "many", cwd=folder)
    assert done.returncode == 2
    assert "evenhand: LedgerError: many/broken: " in done.stderr
    (folder / "many/broken/manifest.json").write_text("{}")
    assert "many/broken: " in run("report", "many", cwd=folder).stderr


PAID = """
from evenhand_example.painting import painter
def open_paid(argument=None):
    model = painter(argument)
    model.estimate_cost = lambda pictures: f"{pictures} to pay"
    return model
"""


@pytest.mark.parametrize("verb", [("audit", "--classifier", "colours"), ("sample",)], ids=lambda verb: verb[0])
def test_what_is_stored_is_not_paid_for_again(tmp_path, verb):
    (tmp_path / "two.txt").write_text("sewer\npilot\n")
    paths = [install_model(tmp_path / "extension", "paid", PAID)]
    asked = ("--probe", "occupations", "--data", "two.txt", "--answers", "0", "--out", "run")
    told = {}
    for samples in ("40", "60", "60"):  # 80 pictures, 40 more, none
        done = run(verb[0], "paid", *verb[1:], *asked, "--samples", samples, cwd=tmp_path, paths=paths)
        assert done.returncode == 0, done.stderr
        told[len(told)] = done.stderr
    assert "80 to pay" in told[0]
    assert "80 of 120 pictures are stored; the others: 40 to pay" in told[1]
    assert "all 120 pictures are stored" in told[2]
    assert "to pay" not in told[2]


@pytest.mark.parametrize("typed", [",", "gender,gender"])
@pytest.mark.parametrize("verb", ["audit", "sample"])
def test_no_attribute_and_one_twice_are_refused(tmp_path, verb, typed):
    done = run(verb, "miniature", "--attribute", typed, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "BadInputError: attributes: got " in done.stderr
    assert not (tmp_path / "run").exists()
