"""``evenhand mitigate data``, ``sft`` and ``bpo`` as scripts see them: the miniature, a few pictures and steps."""

import json
import re
from pathlib import Path

import pytest
from command_line import in_process

from image_server import ImageServer, say

FEW = ("--steps", "2", "--batch-size", "2", "--rank", "2", "--set", "use_cpu=true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("training")
    (found / "two.txt").write_text("sewer\nroustabout\n")
    (found / "held.txt").write_text("nurse\n")
    return found


@pytest.fixture
def call(folder, monkeypatch, capfd):
    return in_process(folder, monkeypatch, capfd)


@pytest.mark.slow
def test_from_data_to_an_adapter_and_back_to_an_audit(call):
    done = call(
        "mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "data", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {one["group"] for one in found["groups"]} == {"male", "female"}
    assert found["tuples"] > 0
    again = call("mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "data")
    assert f"{found['tuples']} tuples of 2 sentences in data" in again.stdout
    trained = call("mitigate", "sft", "miniature", "--data", "data", "--out", "sft", *FEW, "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout) == {"out": "sft", "steps": 2, "before": None, "after": None}
    held = ("--held-out", "held.txt", "--pictures", "4")
    balanced = call("mitigate", "bpo", "miniature", "--data", "data", "--start", "sft", "--out", "bpo", *held, *FEW)
    assert balanced.returncode == 0, balanced.stderr
    assert "disparity (RD)" in balanced.stdout
    assert "--option adapter=bpo" in balanced.stderr
    audited = call(
        *("audit", "miniature", "--data", "held.txt", "--samples", "4", "--answers", "0"),
        *("--option", "adapter=bpo", "--out", "run", "--json"),
    )
    assert audited.returncode == 0, audited.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--set", "warp=1"), "--set: got 'warp'"),
        (("--set", "seed=3"), "--set: 'seed' has an option of its own"),
        (("--set", "weight_decay=much"), "--set: .*invalid float value"),
        (("--set", "load_best_model_at_end=true"), "arguments of training: .*save and eval strategy"),
        (("--set", "guidance=0"), "guidance: got 0.0; allowed: above 0"),
        (("--every", "2"), "--every: nothing is audited"),
        (("--preset", "best"), "known: recommended, paper"),
        (("--target", "0.7"), "one share above 0"),
        (("--held-out", "two.txt"), "2 of 2 are trained on"),
    ],
)
def test_what_is_refused(call, given, message):
    made = call(
        "mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "data", "--json"
    )
    assert made.returncode == 0, made.stderr
    done = call("mitigate", "bpo", "miniature", "--data", "data", "--out", "refused", *FEW, *given)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("evenhand: ")
    assert re.search(message, last), last


def test_wordings_from_a_server(call):
    pytest.importorskip("httpx2", reason="the extra `api` is not installed")
    pytest.importorskip("tenacity", reason="the extra `api` is not installed")
    script = iter([["a man, a {occupation}"], ["a photo of a {occupation}, a person"]])

    def answer(body):
        return say(200, {"choices": [{"message": {"content": json.dumps(next(script))}, "finish_reason": "stop"}]})

    with ImageServer(answer) as server:
        chat = ("--wordings", "1", "--chat-url", server.url, "--chat-model", "toy")
        data = ("mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "worded")
        done = call(*data, *chat, "--keep-pictures", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["wordings"]
        again = call(*data, *chat)
        assert len(server.calls) == 2
    sentence = "a photo of the face of a {occupation}, a person"
    assert found == {
        "wordings": {sentence: ["a photo of a {occupation}, a person"]},
        "answers": 2,
        "refused": {"names a group of gender": 1},
        "lacking": {},
    }
    assert "1 wordings of 1 sentences, from 2 answers" in again.stderr
    assert "no wording: names a group of gender 1" in again.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--wordings", "2"), "got --wordings without --chat-url, --chat-model; allowed"),
        (("--chat-key-env", "KEY"), "without --wordings"),
        (("--wordings", "2", "--chat-url", "https://me:secret@x", "--chat-model", "m"), "--chat-url of x: a name"),
        (("--pictures-from", "none.csv", "--pictures", "3"), "--pictures-from: got --pictures too"),
        (("--pictures-from", "none.csv", "--occupations", "two.txt"), r"got --occupations \(data\) too"),
        (("--pictures-from", "none.csv"), "no such file; give --pictures-from"),
    ],
)
def test_options_of_data_that_are_refused(call, given, message):
    done = call("mitigate", "data", "miniature", "--out", "refused", *given)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("evenhand: ")
    assert re.search(message, last), last
    assert "secret" not in done.stderr


def test_a_model_without_codes(call):
    done = call(
        "mitigate", "data", "painter:sewer=0.1", "--classifier", "colours", "--occupations", "two.txt", "--out", "x"
    )
    assert done.returncode == 2
    assert "writes no picture codes" in done.stderr


def test_where_the_launch_files_are(call):
    done = call("mitigate", "launch-file", "fsdp")
    assert done.returncode == 0
    assert "distributed_type: FSDP" in Path(done.stdout.strip()).read_text()
    assert call("mitigate", "launch-file", "tpu").returncode == 2


@pytest.mark.slow
def test_a_study_its_page_and_its_check(call, folder):
    made = call("mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "data")
    assert made.returncode == 0, made.stderr
    asked = ("--data", "data", "--held-out", "held.txt", "--out", "study", "--samples", "4", "--asked", "1", *FEW)
    done = call("study", "bpo", "miniature", *asked, "--arms", "start,understanding", "--guidance", "1,2", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["arm"], one["guidance"]) for one in told["study"]["rows"]] == [
        ("start", 1.0),
        ("start", 2.0),
        ("understanding", 1.0),
        ("understanding", 2.0),
    ]
    again = call("study", "bpo", "miniature", *asked, "--arms", "start", "--guidance", "1")
    assert again.returncode == 0, again.stderr
    assert "understanding" in again.stdout  # what is there is shown
    checked = call("report", "study", "--check")
    assert "figures are what the ledger gives" in checked.stdout
    (folder / "study" / "study.html").write_text((folder / "study" / "study.html").read_text().replace("0.95", "0.9"))
    assert call("report", "study", "--check").returncode == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--arms", "best"), "known: start, prompt"),
        (("--seeds", "a"), "--seeds: got 'a'"),
        (("--guidance", "1,1"), "each once"),
        (("--held-out", "two.txt"), "2 of 2 are trained on"),
        (("--set", "warp=1"), "--set: got 'warp'"),
    ],
)
def test_what_a_study_refuses(call, folder, given, message):
    if not (folder / "data" / "tuples.parquet").is_file():
        call("mitigate", "data", "miniature", "--occupations", "two.txt", "--pictures", "3", "--out", "data")
    done = call(
        *("study", "bpo", "miniature", "--data", "data", "--held-out", "held.txt", "--out", "refused-study", *FEW),
        *given,
    )
    assert done.returncode == 2
    assert re.search(message, done.stderr.strip().splitlines()[-1])
    assert not (folder / "refused-study").exists()
