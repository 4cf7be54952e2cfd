"""The command line as scripts see it: exit codes, stdout, stderr. The model is the example extension package's."""

import json
import subprocess
from pathlib import Path

import pytest
from command_line import run
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file,gender"]
    for number in range(8):
        group = "male" if number % 2 else "female"
        Image.new("RGB", (32, 32), (number * 20, 80, 120)).save(folder / f"{number}-{group}.png")
        rows.append(f"{number}-{group}.png,{group}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def audit(cwd: Path, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run("audit", "says-person", "--probe", "captioning", "--data", "photos", "--out", out, *more, cwd=cwd)


def test_audit_prints_one_json_object_and_nothing_else_on_stdout(photos: Path):
    done = audit(photos, "runs/a", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"run", "estimates", "counts"}
    assert result["run"] == "a"
    names = [estimate["name"] for estimate in result["estimates"]]
    assert names[:4] == ["MR_M", "MR_F", "MR_O", "MR_C"]
    for estimate in result["estimates"]:
        assert {"name", "value", "low", "high", "n"} <= set(estimate)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert result["counts"]["pictures"] == 8


def test_a_second_run_gives_the_same_answer(photos: Path):
    assert audit(photos, "runs/a", "--json").stdout == audit(photos, "runs/a", "--json").stdout


def test_audit_shows_a_table(photos: Path):
    done = audit(photos, "runs/a")
    assert done.returncode == 0, done.stderr
    assert "MR_C" in done.stdout


def test_report_is_written_and_checked_and_a_tampered_one_refused(photos: Path):
    for out in ("runs/plain", "runs/other"):
        assert audit(photos, out).returncode == 0
    written = run("report", "runs", "--json", cwd=photos)
    assert written.returncode == 0, written.stderr
    page = photos / json.loads(written.stdout)["report"]
    checked = run("report", "runs", "--check", "--json", cwd=photos)
    assert json.loads(checked.stdout)["figures_checked"] > 100
    text = page.read_text("utf-8")
    key = 'data-key="plain/estimate/MR_F/value">'
    at = text.index(key) + len(key)
    page.write_text(text[:at] + "9" + text[at:], "utf-8")
    refused = run("report", "runs", "--check", cwd=photos)
    assert refused.returncode == 2
    assert "ReportMismatchError" in refused.stderr


def test_compare(photos: Path):
    audit(photos, "runs/a")
    audit(photos, "runs/b")
    done = run("compare", "runs/a", "runs/b", "--json", cwd=photos)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    by_name = {estimate["name"]: estimate for estimate in result["estimates"]}
    assert by_name["MR_C difference"]["value"] == 0
    assert result["counts"]["captions_changed"] == 0
    assert run("compare", "runs/a", "runs/b", cwd=photos).returncode == 0


def test_list_names_what_ships_and_what_is_installed(tmp_path: Path):
    known = json.loads(run("list", "--json", cwd=tmp_path).stdout)
    assert {"captioner", "says-person"} <= set(known["models"])
    assert known["mitigations"] == ["align", "nearest", "neutral", "paper"]
    assert known["attributes"] == ["age", "gender", "race", "race4", "skin_tone", "toxicity"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("audit", "captionr", "--data", "photos"), "Did you mean captioner"),
        (("audit", "says-person", "--data", "nowhere"), "is not a folder"),
        (("audit", "says-person", "--data", "photos", "--probe", "captionin"), "Did you mean captioning"),
        (("audit", "says-person", "--data", "photos", "--mitigate", "aline"), "Did you mean align?"),
        (("audit", "says-person", "--data", "photos", "--attribute", "gendre"), "Did you mean gender?"),
        (("report", "nothing"), "make one with evenhand audit"),
        (("compare", "nothing", "photos"), "nothing"),
    ],
)
def test_an_error_of_ours_is_one_line_and_exit_code_2(photos: Path, arguments: tuple[str, ...], said: str):
    done = run(*arguments, cwd=photos)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("evenhand: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in done.stderr


def test_a_run_folder_of_other_settings_is_refused(photos: Path):
    assert audit(photos, "runs/a").returncode == 0
    done = audit(photos, "runs/a", "--seed", "1")
    assert done.returncode == 2
    assert "ChangedRunError" in done.stderr


def test_help_and_version(tmp_path: Path):
    assert run("--help", cwd=tmp_path).returncode == 0
    assert run("--version", cwd=tmp_path).stdout.strip() == "0.1.0"
