"""``--balance``, ``--strength`` and ``--quota`` on the miniature, as a user types them."""

import json
from collections import Counter

import pytest
from command_line import in_process

from evenhand.ledger import Ledger

GIVEN = ("--data", "two.txt", "--answers", "0", "--samples", "12", "--option", "batch_size=12")


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    (tmp_path / "two.txt").write_text("nurse\nplumber\n")
    return in_process(tmp_path, monkeypatch, capfd)


def asked(folder):
    """How often each sentence was drawn from, by prompt."""
    return Counter(sample.text for sample in Ledger.open(folder).samples())


def test_audit_with_a_quota_can_be_checked_and_goes_on(call, tmp_path):
    how = ("--attribute", "gender,skin_tone", "--balance", "gender:even", "--quota", "--out", "run")
    done = call("audit", "miniature", *GIVEN, *how, "--json")
    assert done.returncode == 0, done.stderr
    assert any("balanced while it drew" in caveat for caveat in json.loads(done.stdout)["caveats"])
    settings = Ledger.open(tmp_path / "run").settings
    assert settings["replayable"] is False
    told = settings["model"]["balance"]
    assert (told["attributes"], told["target"], told["strength"]) == (["gender"], {"male": 0.5, "female": 0.5}, 1.0)
    assert [one["name"] for one in told["quota"]] == ["avatar-judge/gender"]
    assert call("report", "run", "--check").returncode == 0
    more = call("audit", "miniature", *GIVEN, "--samples", "18", *how, "--json")
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["counts"]["pictures"] == 36
    assert "--balance" in call("audit", "miniature", *GIVEN, "--help").stdout


def test_sample_plans_groups(call, tmp_path):
    done = call(
        "sample", "miniature", *GIVEN, "--balance", "male=0.25,female=0.75", "--strength", "1.5", "--out", "run"
    )
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path / "run") == {
        f"a photo of the face of a {group} {occupation}, a person": number
        for occupation in ("nurse", "plumber")
        for group, number in (("male", 3), ("female", 9))
    }
    assert Ledger.open(tmp_path / "run").settings["replayable"] is True
    assert Ledger.open(tmp_path / "run").settings["model"]["balance"]["planned for"] == "occupations-0"


def test_sample_reads_pictures_for_a_quota_alone(call, tmp_path):
    done = call("sample", "miniature", *GIVEN, "--balance", "even", "--quota", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert sum(asked(tmp_path / "run").values()) == 24
    refused = call("sample", "miniature", *GIVEN, "--balance", "even", "--classifier", "avatars", "--out", "other")
    assert refused.returncode == 2
    assert "looks at no picture but for --quota" in refused.stderr


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--quota",), "--quota: it says how --balance is done"),
        (("--strength", "1"), "--strength: it says how --balance is done"),
        (("--balance", "male=0.7"), "one for each of male, female"),
        (("--balance", "age:even"), "'age' is not among the attributes; allowed: gender"),
        (("--balance", "even", "--quota", "--strength", "0"), "with strength 0 no group is asked for"),
    ],
)
def test_bad_options_draw_nothing(call, tmp_path, typed, message):
    done = call("audit", "miniature", *GIVEN, "--out", "run", *typed)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_that_answers_is_not_balanced(call):
    done = call("audit", "captioner", "--data", "somewhere", "--balance", "even")
    assert done.returncode == 2
    assert "--balance: model 'captioner' is asked about pictures" in done.stderr
