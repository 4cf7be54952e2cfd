"""Other wordings from a chat server on this machine: what is asked, kept, paid for once, and drawn."""

import json

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import (
    BadInputError,
    ChangedRunError,
    CorruptLedgerError,
    LedgerBusyError,
    ServiceError,
)
from evenhand.ledger import Ledger
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.models.chat_api import open_chat
from evenhand.pipeline.plans import ReadBy
from evenhand.run_folder import RunFolder
from evenhand.train.data import make_balanced_data
from evenhand.train.wordings import TRIES, WORDINGS, Rewording, reword
from image_server import ImageServer, problem, say

pytest.importorskip("httpx2", reason="the extra `api` is not installed")
pytest.importorskip("tenacity", reason="the extra `api` is not installed")

GENDER = load_attribute("gender")
READ_BY = (ReadBy(GENDER, "avatars"),)
FACE = "a photo of the face of a {occupation}, a person"
OIL = "an oil painting of the face of a {occupation}, a person"
KEY = "sk-very-secret-0123456789"
GOOD = ["a portrait of a {occupation}", "a picture of one {occupation}", "the face of a {occupation}, close up"]


def said(texts):
    content = texts if isinstance(texts, str) else json.dumps(texts)
    return say(200, {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})


@pytest.fixture
def server():
    with ImageServer(lambda body: said(GOOD)) as started:
        yield started


def asking(server, number=2, model="toy", **options):
    return Rewording(number, open_chat(model, server.url, sleep=lambda seconds: None, **options))


def made(server, out, templates=(FACE,), *, seed=0, **given):
    return reword(templates, asking(server, **given), [GENDER], out, seed=seed)


def stored(out):
    return json.loads((out / WORDINGS).read_text("utf-8"))


def test_answers_are_kept_with_what_was_asked_and_asked_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CHAT_KEY", KEY)
    server.script = lambda body: said([*GOOD, f"my key is {KEY}, {{occupation}}"])
    found = made(server, tmp_path, key_variable="CHAT_KEY")
    assert found.wordings == {FACE: tuple(GOOD[:2])}
    assert (found.answers, found.refused, found.lacking) == (1, {}, {})
    kept = stored(tmp_path)
    assert kept["request"]["model"] == "toy"
    assert kept["request"]["url"] == server.url
    assert kept["wordings"] == {FACE: GOOD[:2]}
    assert kept["answers"][0]["question"] == server.calls[0].body["messages"][0]["content"]
    assert kept["answers"][0]["seed"] == server.calls[0].body["seed"]
    assert KEY not in (tmp_path / WORDINGS).read_text()
    assert made(server, tmp_path).wordings == found.wordings
    assert len(server.calls) == 1


def test_what_breaks_a_rule_is_asked_again_then_counted(server, tmp_path):
    script = iter([said(["a {occupation} and his tools", GOOD[0]]), said("Sure!"), said([GOOD[0], "no place"])])
    server.script = lambda body: next(script, None) or problem(400, "content policy", "content_policy_violation")
    found = made(server, tmp_path)
    assert len(server.calls) == TRIES == 4
    assert "JSON array of 1 texts" in server.calls[1].body["messages"][0]["content"]  # one is there already
    assert "names a group of gender" in server.calls[1].body["messages"][0]["content"]
    assert len({call.body["seed"] for call in server.calls}) == 4
    assert found.wordings == {FACE: (GOOD[0],)}
    assert found.lacking == {FACE: 1}
    assert found.refused == {
        "names a group of gender": 1,
        "no JSON array of texts": 1,
        "like another one": 1,
        "without {occupation} exactly once": 1,
        "the server refused to answer": 1,
    }
    assert made(server, tmp_path) == found  # nothing is asked again, what came of it is the same
    assert len(server.calls) == 4


def test_no_wording_serves_two_sentences(server, tmp_path):
    script = iter([said(GOOD[:2]), said([GOOD[1], GOOD[2]]), said(["a {occupation} in oil"])])
    server.script = lambda body: next(script)
    found = made(server, tmp_path, (FACE, OIL, FACE))
    assert found.wordings == {FACE: tuple(GOOD[:2]), OIL: (GOOD[2], "a {occupation} in oil")}


def test_what_was_stopped_goes_on(server, tmp_path):
    script = iter([said(GOOD[:2]), problem(401, "no", "invalid_api_key")])
    server.script = lambda body: next(script)
    with pytest.raises(ServiceError, match="What was answered is kept"):
        made(server, tmp_path, (FACE, OIL))
    assert len(stored(tmp_path)["answers"]) == 1
    server.script = lambda body: said(["an oil portrait of a {occupation}", "a {occupation} in oil"])
    assert len(made(server, tmp_path, (FACE, OIL)).wordings[OIL]) == 2
    assert len(server.calls) == 3


def test_no_wording_at_all(server, tmp_path):
    server.script = lambda body: said("I would rather not.")
    with pytest.raises(ServiceError, match=r"got 4 answers and not one wording .*no JSON array of texts 4"):
        made(server, tmp_path)
    with pytest.raises(ServiceError, match="--chat-model"):
        made(server, tmp_path)
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"number": 3}, "wordings: 2 in the folder, 3 now"),
        ({"model": "other"}, "model: toy in the folder, other now"),
        ({"seed": 1}, "seed: 0 in the folder, 1 now"),
        ({"templates": (OIL,)}, "sentences: "),
    ],
)
def test_another_request_is_refused_before_anything_is_asked(server, tmp_path, given, says):
    made(server, tmp_path)
    with pytest.raises(ChangedRunError, match=says):
        made(server, tmp_path, **given)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": 1, "request": {}, "wordings": {}, "answers": [1]}']
)
def test_a_damaged_file_is_refused(server, tmp_path, content):
    (tmp_path / WORDINGS).write_text(content)
    with pytest.raises(CorruptLedgerError, match="paid for, again"):
        made(server, tmp_path)
    assert not server.calls


def test_one_asks_at_a_time(server, tmp_path):
    other = RunFolder(tmp_path)
    other.take_lock()
    with pytest.raises(LedgerBusyError):
        made(server, tmp_path)
    other.release_lock()
    with pytest.raises(BadInputError, match="1 to 50"):
        made(server, tmp_path, number=51)
    assert not server.calls


@pytest.fixture(scope="module")
def miniature():
    return load_miniature()


def test_wordings_are_drawn_confirmed_and_paired_like_sentences(server, miniature, tmp_path):
    server.script = lambda body: said(["a photo of a {occupation}, a person", *GOOD])
    (tmp_path / "one.txt").write_text("sewer\n")
    options = {"data": str(tmp_path / "one.txt"), "pictures": 6}
    found = make_balanced_data(miniature, READ_BY, tmp_path / "d", rewording=asking(server, 1), **options)
    assert found.wordings.wordings == {FACE: ("a photo of a {occupation}, a person",)}
    prompts = Ledger.open(tmp_path / "d" / "drawn").prompts()
    assert [one.text for one in prompts] == [
        "a photo of the face of a male sewer, a person",
        "a photo of the face of a female sewer, a person",
        "a photo of a male sewer, a person",
        "a photo of a female sewer, a person",
    ]
    assert prompts[2].facts["template"] == "a photo of a {occupation}, a person"
    assert prompts[2].facts["occupation"] == "sewer"
    told = {one.prompt: one.asked for one in read_tuples(tmp_path / "d").tuples}
    assert told["a photo of a sewer, a person"] == tuple(one.text for one in prompts[2:])
    with pytest.raises(ChangedRunError, match="no wordings are wanted now"):
        make_balanced_data(miniature, READ_BY, tmp_path / "d", **options)
    make_balanced_data(miniature, READ_BY, tmp_path / "plain", **options)
    with pytest.raises(ChangedRunError, match="drawn without wordings"):
        make_balanced_data(miniature, READ_BY, tmp_path / "plain", rewording=asking(server, 1), **options)
    assert len(server.calls) == 1
