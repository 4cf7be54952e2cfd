"""A chat server on this machine: what is sent, what answers mean, and what is never stored."""

import json

import pytest

from evenhand.errors import BadInputError, ServiceError
from evenhand.models.chat_api import open_chat
from evenhand.models.chat_api.replies import read_chat
from image_server import ImageServer, problem, say

pytest.importorskip("httpx2", reason="the extra `api` is not installed")
pytest.importorskip("tenacity", reason="the extra `api` is not installed")

KEY = "sk-very-secret-0123456789"


def told(text, ended="stop", **more):
    message = {"role": "assistant", "content": text, **more}
    return say(200, {"choices": [{"index": 0, "message": message, "finish_reason": ended}]})


@pytest.fixture
def server():
    with ImageServer(lambda body: told("[]")) as started:
        yield started


def opened(server, **given):
    return open_chat("toy", server.url, sleep=lambda seconds: None, **given)


def test_what_is_sent(server, monkeypatch):
    monkeypatch.setenv("CHAT_KEY", KEY)
    assert opened(server, key_variable="CHAT_KEY").ask("what?", 7).text == "[]"
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    question = [{"role": "user", "content": "what?"}]
    assert call.body == {"model": "toy", "messages": question, "temperature": 1.0, "seed": 7}
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    opened(server).ask("what?", 7)
    assert "Authorization" not in server.calls[1].headers  # no variable was named for this server


def test_fields_that_the_server_rejects_are_left_out_from_then_on(server):
    def picky(body):
        for name in ("temperature", "seed"):
            if name in body:
                return problem(400, f"Unsupported parameter: '{name}'.", "unsupported_parameter", name)
        return told("fine")

    server.script = picky
    chat = opened(server)
    assert chat.ask("what?", 7).text == "fine"
    assert chat.ask("and?", 8).text == "fine"
    assert [sorted(set(call.body) - {"model", "messages"}) for call in server.calls] == [
        ["seed", "temperature"],
        ["seed"],
        [],
        [],
    ]


def test_what_may_pass_is_tried_again_and_what_stays_is_an_error(server, monkeypatch):
    script = iter([problem(429, "slow down", Retry_After="1"), problem(503, "busy"), told("fine")])
    server.script = lambda body: next(script)
    assert opened(server).ask("what?", 7).text == "fine"
    monkeypatch.setenv("CHAT_KEY", KEY)
    server.script = lambda body: problem(401, f"wrong key {KEY}", "invalid_api_key")
    with pytest.raises(ServiceError, match=r"toy at http://127.*What was answered is kept") as caught:
        opened(server, key_variable="CHAT_KEY").ask("what?", 7)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (told("  "), "broken", "no text"),
        (told(None), "broken", "no text"),
        (told('["a', "length"), "broken", "cut off"),
        (told(None, "content_filter"), "refused", "content_filter"),
        (told(None, refusal="I can't help"), "refused", "can't help"),
        (say(200, {"choices": []}), "broken", "choices"),
        (say(200, {"choices": [{"text": "x"}]}), "broken", "choices"),
        (say(200, [1]), "broken", "JSON list"),
        ((200, {}, b"<html>"), "broken", "no JSON"),
        (problem(400, "blocked by the content filter"), "refused", "content filter"),
        (problem(400, "what? holds a seed"), "failed", "400"),  # the question's own words are no reason
    ],
)
def test_what_answers_mean(answer, kind, words):
    status, _, body = answer
    sent = {"messages": [{"role": "user", "content": "what? holds a seed"}], "seed": 1}
    found = read_chat(status, {}, body, sent=sent, now=0.0)
    assert (found.kind, found.text) == (kind, None)
    assert words in found.message


@pytest.mark.parametrize(
    ("model", "url", "options", "message"),
    [
        (" ", "http://x", {}, "--chat-model"),
        ("m", "x:80", {}, "--chat-url: got no http"),
        ("m", "https://me:secret@x/v1", {}, "--chat-key-env"),
        ("m", "https://x/v1?key=secret", {}, "--chat-url of x"),
        ("m", "https://x", {"key_variable": "sk-secret"}, "--chat-key-env: .*never the key"),
        ("m", "https://x", {"temperature": 3}, "0 to 2"),
    ],
)
def test_refused(model, url, options, message):
    with pytest.raises(BadInputError, match=message) as caught:
        open_chat(model, url, **options)
    assert "secret" not in str(caught.value)


def test_an_address_is_stored_bare():
    chat = open_chat("m", "http://localhost:8000/v1/chat/completions")
    assert chat.endpoint.address == "http://localhost:8000/v1/chat/completions"
    assert json.loads(json.dumps(chat.settings)) == {
        "url": "http://localhost:8000/v1",
        "model": "m",
        "temperature": 1.0,
    }
