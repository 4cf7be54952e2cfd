"""The pure parts of the images API: addresses, what answers mean, pace, cost, seeds."""

import base64
import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from evenhand.errors import BadInputError, PictureError
from evenhand.models.images_api.cost import Cost, cost_in_words, cost_of
from evenhand.models.images_api.endpoint import open_endpoint
from evenhand.models.images_api.replies import as_png, read_reply
from evenhand.models.images_api.seeds import check_seeds
from evenhand.models.servers.addresses import OPENAI
from evenhand.models.servers.pace import Pace
from evenhand.models.servers.replies import retry_after
from evenhand.models.servers.seeds import sent_seed
from image_server import ok, picture, problem, say


@pytest.mark.parametrize(
    ("source", "base", "model", "url"),
    [
        ("gpt-image-1", None, "gpt-image-1", OPENAI),
        ("org/name", "http://localhost:8000", "org/name", "http://localhost:8000/v1"),
        ("org/name@http://localhost:8000/v1/", None, "org/name", "http://localhost:8000/v1"),
        ("a@b@https://example.org/x/v1/images/generations", None, "a@b", "https://example.org/x/v1"),
        ("m@http://[::1]:8/v1", None, "m", "http://[::1]:8/v1"),
    ],
)
def test_a_model_and_its_address(source, base, model, url):
    found = open_endpoint(source, base_url=base)
    assert (found.model, found.url) == (model, url)
    assert found.address == f"{url}/images/generations"


def test_a_key_is_sent_only_to_whom_it_was_meant_for(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    assert open_endpoint("m").key() == "sk-own"
    assert open_endpoint("m@http://localhost:8000").key() is None
    assert open_endpoint("m@http://localhost:8000", key_variable="OPENAI_API_KEY").key() == "sk-own"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BadInputError, match="OPENAI_API_KEY"):
        open_endpoint("m").key()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ünreadable")
    with pytest.raises(BadInputError, match="no header") as caught:
        open_endpoint("m").key()
    assert "nreadable" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": None}, "which model"),
        ({"source": "@http://x"}, "which model"),
        ({"source": "m@http://x/v1", "base_url": "http://y"}, "give one"),
        ({"source": "m", "base_url": "ftp://x"}, "no http"),
        ({"source": "m", "base_url": "localhost:8000"}, "no http"),
        ({"source": "m", "base_url": "http://x:99999999"}, "no http"),
        ({"source": "m", "base_url": "https://me:secret@x/v1"}, "name, password"),
        ({"source": "m", "base_url": "https://x/v1?key=secret"}, "query"),
        ({"source": "m", "key_variable": "sk-secret"}, "never the key"),
        ({"source": "m", "size": "big picture"}, "WIDTHxHEIGHT"),
        ({"source": "m", "seed_field": "yes"}, "seed_field"),
        ({"source": "m", "response_format": "url"}, "response_format"),
        ({"source": "m", "extra": "{"}, "no JSON"),
        ({"source": "m", "extra": "[1]"}, "JSON object"),
        ({"source": "m", "extra": '{"seed": 1}'}, "set by itself"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInputError, match=message) as caught:
        open_endpoint(**options)
    assert "secret" not in str(caught.value)


def test_the_body_of_a_request():
    endpoint = open_endpoint("m", size="512x512", extra='{"quality": "low"}')
    body = {"model": "m", "prompt": "p", "n": 1, "size": "512x512", "seed": 7, "response_format": "b64_json"}
    assert endpoint.body("p", 7, without=frozenset()) == body | {"quality": "low"}
    bare = open_endpoint("m", seed_field=False, response_format="none")
    assert bare.body("p", 7, without=frozenset()) == {"model": "m", "prompt": "p", "n": 1}
    base64_one = open_endpoint("m", response_format="base64")
    assert base64_one.body("p", 7, without=frozenset({"seed"})) == {
        "model": "m",
        "prompt": "p",
        "n": 1,
        "response_format": "base64",
    }


def test_retry_after_by_hand():
    # RFC 9110's own example date is 1999-12-31 23:59:59 GMT; half a minute before, 30 s are left.
    now = datetime(1999, 12, 31, 23, 59, 29, tzinfo=UTC).timestamp()
    assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT", now=now) == 30.0
    assert retry_after("Fri, 31 Dec 1999 23:59:00 GMT", now=now) == 0.0
    assert retry_after("120", now=now) == 120.0
    assert retry_after("0.5", now=now) == 0.5
    assert retry_after("-3", now=now) == 0.0
    assert [retry_after(one, now=now) for one in (None, "soon", "nan", "inf", "Fri, 99 Foo")] == [None] * 5


def reply_to(answer, **sent):
    status, headers, body = answer
    named = {name.lower(): value for name, value in headers.items()}
    return read_reply(status, named, body, sent={"prompt": "a nurse", **sent}, now=0.0)


def test_a_picture():
    found = reply_to(ok(picture(3)))
    assert found.kind == "picture"
    # seed 3 is (111, 273 % 256, 159)
    assert Image.open(io.BytesIO(found.image)).getpixel((0, 0)) == (111, 17, 159)
    data_url = "data:image/png;base64," + base64.b64encode(picture(3)).decode()
    assert reply_to(say(200, {"data": [{"b64_json": data_url}]})).image == found.image
    wrapped = base64.encodebytes(picture(3)).decode().rstrip("=\n")  # lines, no padding
    assert reply_to(say(200, {"data": [{"b64_json": wrapped}]})).image == found.image


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(400, "Your request was rejected by the safety system.", "moderation_blocked"), "refused", "safety"),
        (problem(400, "no", "content_policy_violation"), "refused", "content_policy_violation"),
        (problem(400, "Your request was rejected as a result of our safety system."), "refused", "rejected"),
        (problem(403, "blocked by the content filter"), "refused", "403"),
        (say(200, {"data": [{"finish_reason": "CONTENT_FILTERED", "b64_json": ""}]}), "refused", "CONTENT_FILTERED"),
        (problem(400, "size must be 1024x1024", "invalid_value", "size"), "failed", "param size"),
        (problem(413, "too long"), "failed", "413"),
        (problem(429, "slow down"), "again", "429"),
        (problem(429, "no money", "insufficient_quota"), "stop", "quota"),
        (problem(503, "content filter is down"), "again", "503"),
        ((500, {}, b"<html>oops</html>"), "again", "oops"),
        (problem(401, "bad key"), "stop", "key"),
        (problem(402, "pay"), "stop", "credit"),
        (problem(403, "no"), "stop", "may not use"),
        (problem(404, "no such model"), "stop", "no such model"),
        ((302, {"Location": "http://elsewhere"}, b""), "stop", "moved"),
        (problem(503, "later", Retry_After="86400"), "stop", "86,400"),
        ((200, {}, b"<html></html>"), "broken", "no JSON"),
        ((200, {}, b"[" * 100000), "broken", "no JSON"),
        ((200, {}, b"[1, 2]"), "broken", "JSON list"),
        (say(200, {"data": []}), "broken", "data"),
        (say(200, {"data": [7]}), "broken", "data"),
        (say(200, {"data": [{"b64_json": None}]}), "broken", "no picture"),
        (say(200, {"data": [{"url": "http://elsewhere/x.png"}]}), "broken", "not fetched"),
        (say(200, {"data": [{"b64_json": "§§§"}]}), "broken", "base64"),
        (ok(b"GIF89a" + bytes(50)), "broken", "no whole PNG"),
        (ok(picture(1, side=64)[:60]), "broken", "no whole PNG"),
    ],
)
def test_what_answers_mean(answer, kind, words):
    found = reply_to(answer, seed=1)
    assert found.kind == kind
    assert words in found.message
    assert found.image is None


def test_a_rejected_field():
    openai = problem(400, "Unknown parameter: 'response_format'.", "unknown_parameter", "response_format")
    fastapi = say(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "input": 3}]})
    assert reply_to(openai, seed=1, response_format="b64_json").field == "response_format"
    assert reply_to(fastapi, seed=1).field == "seed"
    assert reply_to(fastapi).kind == "failed"  # it was not sent


def test_an_echoed_prompt_is_not_taken_for_a_reason():
    echoed = problem(400, "size is wrong; prompt was: a safety inspector with a seed")
    assert reply_to(echoed, prompt="a safety inspector with a seed", seed=1).kind == "failed"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_every_format_becomes_png(kind):
    found = Image.open(io.BytesIO(as_png(picture(2, kind=kind))))
    assert (found.format, found.mode, found.size) == ("PNG", "RGB", (8, 8))
    # seed 2 is (74, 182, 106); JPEG and WebP lose a little
    assert np.abs(np.array(found.getpixel((3, 3)), dtype=int) - (74, 182, 106)).max() <= 3


def test_transparency_is_laid_on_white():
    clear = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(clear, "PNG")
    assert Image.open(io.BytesIO(as_png(clear.getvalue()))).getpixel((0, 0)) == (255, 255, 255)


def test_an_enormous_picture_is_refused_by_its_header():
    wide = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(wide, "PNG")
    with pytest.raises(PictureError, match="50,000,000"):
        as_png(wide.getvalue())


def test_pace_by_hand():
    # 30 a minute are 2 s apart; the clock stands still between the first three calls, then jumps 10 s ahead.
    now, slept = [100.0], []
    pace = Pace(30, clock=lambda: now[0], sleep=slept.append)
    for _ in range(3):
        pace.wait()
    assert slept == [2.0, 4.0]
    now[0] = 110.0
    pace.wait()
    pace.wait()
    assert slept == [2.0, 4.0, 2.0]
    free = Pace(None, clock=lambda: now[0], sleep=slept.append)
    free.wait()
    free.wait()
    assert len(slept) == 3


def test_cost_by_hand():
    # 8,000 pictures and 3 for the check at 0.04: 8,003 x 0.04 = 320.12
    found = cost_of(8000, checks=3, price=0.04)
    assert found == Cost(8003, 0.04, found.total)
    assert found.total == pytest.approx(320.12)
    assert cost_of(8000, checks=3, price=None) is None
    said = cost_in_words(8000, checks=3, price=0.04, requests_per_minute=60)
    # 8,002 gaps of 1 s are 133.4 min
    assert "8,003 in all" in said
    assert "320.12" in said
    assert "2 h 13 min" in said
    unknown = cost_in_words(10, checks=0, price=None, requests_per_minute=None)
    assert unknown.startswith("10 pictures; what they cost is not known: give price=")


def test_sent_seeds_by_hand():
    # 1 + seed mod (2**31 - 1): never 0, which some servers take for "any", never above 31 bits
    assert [sent_seed(seed) for seed in (0, 2**31 - 2, 2**31 - 1, 2**63 - 1)] == [1, 2**31 - 1, 1, 2]


@pytest.mark.parametrize(
    ("drawn", "takes", "honoured", "words", "pictures"),
    [
        ([1, 1, 2], True, True, "another seed another", 3),
        ([1, 2, 3], True, False, "two pictures", 3),
        ([1, 1, 1], True, False, "no effect", 3),
        ([1], False, False, "takes no seed", 1),
    ],
)
def test_what_three_pictures_say(drawn, takes, honoured, words, pictures):
    asked = []

    def draw(prompt, seed):
        asked.append((prompt, seed))
        return picture(drawn[len(asked) - 1])

    found = check_seeds(draw, lambda: takes)
    assert (found.honoured, found.pictures, len(asked)) == (honoured, pictures, pictures)
    assert words in found.reason
    if pictures == 3:
        assert asked[0] == asked[1]
        assert asked[2][0] == asked[0][0]
        assert asked[2][1] != asked[0][1]


def test_how_far_two_pictures_of_one_seed_are_apart():
    # seeds 1 and 2 are (37, 91, 53) and (74, 182, 106): (37 + 91 + 53) / 3 = 60.33
    drawn = iter([1, 2, 3])
    assert "60.33 of 255" in check_seeds(lambda prompt, seed: picture(next(drawn)), lambda: True).reason
    sizes = iter([8, 9, 8])
    found = check_seeds(lambda prompt, seed: picture(1, side=next(sizes)), lambda: True)
    assert not found.honoured
    assert "two sizes" in found.reason


def test_a_long_message_is_one_short_line():
    found = reply_to((500, {}, json.dumps({"error": {"message": "x\n\x1b[31m" * 500}}).encode()))
    assert len(found.message) < 330
    assert found.message.isprintable()
