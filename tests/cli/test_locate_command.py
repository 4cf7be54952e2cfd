"""``evenhand locate`` and ``report`` of a location, as scripts see them. Model and classifier are the extension's."""

import json

import pytest
from command_line import in_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("located")
    (found / "two.txt").write_text("sewer\npilot\n")
    return found


@pytest.fixture
def call(folder, monkeypatch, capfd):
    """The program in this process, in the folder of the runs."""
    return in_process(folder, monkeypatch, capfd)


_GIVEN = ("--classifier", "colours", "--data", "two.txt", "--pictures", "20", "--asked", "5", "--answers", "8")


def test_a_model_without_codes_from_start_to_check(call):
    done = call("locate", "--model", "painter:sewer=0.1,pilot=0.9", *_GIVEN, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "not enough evidence" in done.stdout
    assert found["page"] == "run/locate.html"
    again = call("locate", "painter:sewer=0.1,pilot=0.9", *_GIVEN, "--out", "run")
    assert again.returncode == 0, again.stderr
    assert "language" in again.stdout
    assert "page: run/locate.html" in again.stdout
    assert "no likelihood" in again.stderr
    checked = call("report", "run", "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "figures are what the ledger gives" in checked.stdout


def test_a_changed_figure_is_found(call, folder):
    assert call("locate", "painter:sewer=0.1,pilot=0.9", *_GIVEN, "--out", "told").returncode == 0
    page = folder / "told" / "locate.html"
    text = page.read_text("utf-8")
    at = text.index('<data value="0.') + len('<data value="0.')
    page.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :], "utf-8")
    checked = call("report", "told", "--check")
    assert checked.returncode == 2
    assert "ReportMismatchError" in checked.stderr


def test_a_location_stands_alone_in_a_report(call):
    assert call("locate", "painter:sewer=0.1,pilot=0.9", *_GIVEN, "--out", "alone").returncode == 0
    both = call("report", "alone", "alone/neutral")
    assert both.returncode == 2
    assert "a location alone" in both.stderr
    # The neutral run inside is a run like any other.
    assert call("report", "alone/neutral").returncode == 0


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--margin", "0"), "margin: got 0.0"),
        (("--labelled", "nothing.csv"), "nothing.csv"),
        (("--attribute", "gender,gender"), "each once"),
        (("--classifier", "photograph"), "photograph"),
        (("--data", "three.txt"), "three.txt"),
    ],
)
def test_what_is_typed_wrongly_ends_with_one_line(call, more, word):
    done = call("locate", "painter", *_GIVEN, "--out", "wrong", *more)
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert call("locate", *_GIVEN).returncode == 2
    assert call("locate", "says-person", *_GIVEN).returncode == 2
