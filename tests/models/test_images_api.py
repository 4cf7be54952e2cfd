"""Drawing through a real local server: what is asked, how often, and what becomes of its answers."""

import io
import json
import pickle
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from local_images_api import asked, made
from PIL import Image

from evenhand.errors import BadInputError, MissingExtraError, ServiceError
from evenhand.ledger import Ledger, seed_of
from evenhand.models.images_api.endpoint import open_endpoint
from evenhand.models.images_api.model import ImagesApiModel, load_images_api
from evenhand.models.protocol import ImageModel
from evenhand.models.servers.seeds import sent_seed
from image_server import ImageServer, by_seed, ok, picture, problem, say

pytest.importorskip("httpx2", reason="the extra `api` is not installed")
pytest.importorskip("tenacity", reason="the extra `api` is not installed")

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as started:
        yield started


def test_members(server):
    assert isinstance(made(server), ImageModel)


def test_pictures_come_back_in_order_with_their_seeds(server):
    def slow_first(body):
        if body["prompt"] == "prompt 0":
            time.sleep(0.1)
        return by_seed(body)

    server.script = slow_first
    samples = made(server, concurrency=5).draw(asked(5), seeds=[10, 11, 12, 13, 14])
    assert [(one.prompt_id, one.k, one.seed, one.error) for one in samples] == [
        (f"p{i}", 0, 10 + i, None) for i in range(5)
    ]
    for seed, sample in zip(range(10, 15), samples, strict=True):
        found = Image.open(io.BytesIO(sample.image))
        assert (found.format, found.mode) == ("PNG", "RGB")
        sent = sent_seed(seed)
        assert found.getpixel((0, 0)) == (sent * 37 % 256, sent * 91 % 256, sent * 53 % 256)
    first = next(call for call in server.calls if call.body["prompt"] == "prompt 0")
    assert first.path == "/v1/images/generations"
    assert first.body == {"model": "toy", "prompt": "prompt 0", "n": 1, "seed": 11, "response_format": "b64_json"}
    assert "Authorization" not in first.headers


def test_requests_run_together(server):
    # Each answer waits until three are there: with fewer at a time nobody would be answered.
    together = threading.Barrier(3, timeout=5)

    def meet(body):
        together.wait()
        return by_seed(body)

    server.script = meet
    samples = made(server, concurrency=3).draw(asked(6), seeds=range(6))
    assert [one.error for one in samples] == [None] * 6


def test_retry_after_is_honoured(server):
    script = iter([problem(429, "slow down", Retry_After="7"), problem(503, "busy", Retry_After="0"), None])
    server.script = lambda body: next(script) or by_seed(body)
    slept = []
    (sample,) = made(server, slept=slept).draw(asked(1), seeds=[1])
    assert sample.error is None
    assert len(server.calls) == 3
    # As long as asked, and up to one second more so that threads do not come back together.
    assert 7 <= slept[0] < 8
    assert 0 <= slept[1] < 1


def test_waits_grow(server):
    server.script = lambda body: problem(500, "broken")
    slept = []
    (sample,) = made(server, slept=slept, retries=6).draw(asked(1), seeds=[1])
    assert sample.error == "ServiceError: HTTP 500: broken"
    assert len(server.calls) == 7
    # Full jitter: the n-th wait is drawn from 0 to 2**(n-1), at most 60.
    assert len(slept) == 6
    assert all(0 <= wait <= 2**n for n, wait in enumerate(slept))
    assert max(slept) > 0


def test_a_timeout_and_a_broken_connection_are_tried_again(server):
    script = iter(["hang", "garbage", None])

    def misbehave(body):
        step = next(script)
        if step == "hang":
            time.sleep(0.5)
        return (200, {"Content-Encoding": "gzip"}, b"no gzip") if step == "garbage" else by_seed(body)

    server.script = misbehave
    (sample,) = made(server, timeout=0.2).draw(asked(1), seeds=[1])
    assert sample.error is None
    assert len(server.calls) == 3


def test_nobody_listens():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
    model = ImagesApiModel(open_endpoint("m", base_url=url), check_seed=False, retries=2, sleep=lambda seconds: None)
    (sample,) = model.draw(asked(1), seeds=[1])
    assert sample.error.startswith("ServiceError: ConnectError")


def test_a_refused_prompt_is_a_sample_and_is_asked_once(server):
    def policy(body):
        refuses = body["prompt"] == "prompt 1"
        return problem(400, "rejected by the safety system", "moderation_blocked") if refuses else by_seed(body)

    server.script = policy
    samples = made(server).draw(asked(3), seeds=range(3))
    assert [one.error is None for one in samples] == [True, False, True]
    assert samples[1].error.startswith("RefusedError: the server refused the prompt: HTTP 400")
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ok(b"\x89PNG\r\n\x1a\nbroken"), "PictureError: the answer is no whole PNG"),
        ((200, {}, b"no json"), "PictureError: got no JSON"),
        (say(200, {"data": [{"url": "http://elsewhere/x.png"}]}), "PictureError: got an address (url)"),
        (problem(400, "bad size"), "ServiceError: HTTP 400"),
    ],
)
def test_what_is_not_a_picture_is_an_error_asked_once(server, answer, error):
    server.script = lambda body: answer
    (sample,) = made(server).draw(asked(1), seeds=[1])
    assert sample.error.startswith(error)
    assert sample.image is None
    assert len(server.calls) == 1


def test_too_large_an_answer(server, monkeypatch):
    from evenhand.models.servers import asking

    monkeypatch.setattr(asking, "MAX_ANSWER_BYTES", 1000)
    server.script = lambda body: (200, {}, b"x" * 100_000)
    (sample,) = made(server).draw(asked(1), seeds=[1])
    assert sample.error.startswith("PictureError: the answer is larger than 1,000 bytes")


def test_jpeg_becomes_png(server):
    server.script = lambda body: ok(picture(1, kind="JPEG"))
    (sample,) = made(server).draw(asked(1), seeds=[1])
    assert Image.open(io.BytesIO(sample.image)).format == "PNG"


@pytest.mark.parametrize(("status", "words"), [(401, "key"), (403, "may not"), (404, "no such model"), (402, "credit")])
def test_what_no_request_will_mend_ends_the_run(server, status, words):
    server.script = lambda body: problem(status, "no")
    with pytest.raises(ServiceError, match=words):
        made(server, concurrency=2).draw(asked(8), seeds=range(8))
    assert len(server.calls) <= 2  # one per thread, and nobody else is asked


def test_paid_pictures_of_the_last_batch_are_kept(server):
    lock, number = threading.Lock(), [0]

    def runs_out(body):
        with lock:
            number[0] += 1
            return by_seed(body) if number[0] <= 2 else problem(429, "spent", "insufficient_quota")

    server.script = runs_out
    model = made(server, concurrency=1)
    samples = model.draw(asked(4), seeds=range(4))
    assert [one.error is None for one in samples] == [True, True, False, False]
    assert "quota is used up" in samples[2].error
    assert "not asked" in samples[3].error
    with pytest.raises(ServiceError, match="quota is used up"):
        model.draw(asked(4), seeds=range(4))
    assert len(server.calls) == 3


def test_total_failure_ends_the_run(server):
    server.script = lambda body: problem(400, "size is wrong")
    model = made(server, batch_size=8)
    for _ in range(2):
        assert {one.error for one in model.draw(asked(8), seeds=range(8))} == {"ServiceError: HTTP 400: size is wrong"}
    with pytest.raises(ServiceError, match="20 requests in a row failed, the last with: HTTP 400: size is wrong"):
        model.draw(asked(8), seeds=range(8))
    assert 20 <= len(server.calls) <= 23  # what four threads had under way
    server.calls.clear()
    server.script = by_seed
    assert model.draw(asked(1), seeds=[1])[0].error is None  # the user may mend it and go on


def test_failures_between_pictures_do_not_end_a_run(server):
    number = [0]

    def every_other(body):
        number[0] += 1
        return by_seed(body) if number[0] % 2 else problem(400, "now and then")

    server.script = every_other
    samples = made(server, concurrency=1).draw(asked(50), seeds=range(50))
    assert sum(one.error is not None for one in samples) == 25


def test_busy_answers_are_no_failure_of_the_server(server):
    number = [0]

    def busy(body):
        number[0] += 1
        return by_seed(body) if number[0] % 30 == 0 else problem(429, "slow down", Retry_After="1")

    server.script = busy
    model = made(server, concurrency=1, retries=20)
    samples = [model.draw(asked(1), seeds=[1])[0] for _ in range(2)]
    # 21 tries of the first fail; the second is answered with the 30th request.
    assert samples[0].error.startswith("ServiceError: HTTP 429")
    assert samples[1].error is None


def test_requests_keep_the_pace(server):
    now, lock = [0.0], threading.Lock()

    def sleep(seconds):
        with lock:
            now[0] += seconds

    endpoint = open_endpoint("toy", base_url=server.url)
    model = ImagesApiModel(
        endpoint,
        check_seed=False,
        requests_per_minute=20,
        concurrency=1,
        sleep=sleep,
        clock=lambda: now[0],
        timeout=1000.0,
    )
    model.draw(asked(5), seeds=range(5))
    # 20 a minute: 3 s apart, four gaps; no time passes but in waits.
    assert now[0] == 12.0


def test_settings_say_how_was_asked_and_do_not_change(server):
    model = made(server, check_seed=True, options={"size": "64x64", "extra": '{"steps": 4}'})
    before = json.dumps(model.settings)
    model.draw(asked(1), seeds=[1])
    assert json.dumps(model.settings) == before
    assert model.settings["size"] == "64x64"
    assert server.calls[-1].body["steps"] == 4
    assert (
        made(server).revision
        != model.revision
        == made(server, options={"size": "64x64", "extra": '{"steps": 4}'}).revision
    )


def test_the_key_is_sent_and_shows_nowhere_else(server, monkeypatch, capsys):
    monkeypatch.setenv("TOY_KEY", KEY)
    script = iter(["ok", "echo", "refuse", "html", "deny"])

    def echo(body):
        step = next(script)
        return {
            "ok": lambda: by_seed(body),
            "echo": lambda: problem(400, f"bad request with {KEY}"),
            "refuse": lambda: problem(400, f"{KEY}: content policy", "content_policy_violation"),
            "html": lambda: (418, {}, f"<p>{KEY}</p>".encode()),
            "deny": lambda: problem(401, f"Incorrect API key provided: {KEY}"),
        }[step]()

    server.script = echo
    model = made(server, concurrency=1, options={"key_variable": "TOY_KEY"})
    samples = model.draw(asked(4), seeds=range(4))
    assert all(call.headers["Authorization"] == f"Bearer {KEY}" for call in server.calls)
    with pytest.raises(ServiceError) as caught:
        model.draw(asked(1), seeds=[1])
    shown = [repr(samples), str(caught.value), json.dumps(model.settings), repr(vars(model))]
    shown += [repr(vars(model._asker)), model.revision, model.name, model.estimate_cost(5), *capsys.readouterr()]
    assert not any(KEY in text for text in shown)
    assert "***" in samples[1].error
    assert KEY.encode() not in pickle.dumps((model.endpoint, model.settings, samples))


def test_the_key_is_not_in_the_ledger(server, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_KEY", KEY)
    server.script = lambda body: by_seed(body) if body["prompt"] == "prompt 0" else problem(400, f"no, {KEY}")
    model = made(server, options={"key_variable": "TOY_KEY"})
    described = {"name": model.name, "revision": model.revision, **model.settings}
    with Ledger.create_or_resume(
        tmp_path / "run", run="r-0", settings={"model": described}, prompts=asked(2)
    ) as ledger:
        seeds = [seed_of("r-0", f"p{i}", 0) for i in range(2)]
        ledger.append(model.draw(asked(2), seeds=seeds))
        shown = repr((ledger.samples(), ledger.settings, ledger.manifest))
    assert "no, ***" in shown
    assert KEY not in shown
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_an_absent_key_is_said_before_anything_is_asked(server, monkeypatch):
    monkeypatch.delenv("TOY_KEY", raising=False)
    with pytest.raises(BadInputError, match="set the environment variable TOY_KEY"):
        made(server, options={"key_variable": "TOY_KEY"}).draw(asked(3), seeds=range(3))
    assert server.calls == []


def test_redirects_are_not_followed(server):
    with ImageServer() as other:
        server.script = lambda body: (307, {"Location": f"{other.url}/images/generations"}, b"")
        with pytest.raises(ServiceError, match="moved"):
            made(server).draw(asked(1), seeds=[1])
        assert other.calls == []


def test_the_loader(server):
    model = load_images_api(f"toy@{server.url}", check_seed=False, concurrency=2, batch_size=3, price=1)
    assert (model.name, model.batch_size, model.replayable) == ("toy", 3, False)
    assert model.draw(asked(1), seeds=[1])[0].error is None


@pytest.mark.parametrize("package", ["httpx2", "tenacity"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "evenhand.models.servers.asking", raising=False)
    with pytest.raises(MissingExtraError, match=package):
        load_images_api("toy@http://localhost:1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": -1.0}, "price"),
        ({"price": float("nan")}, "price"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0.0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(BadInputError, match=message):
        load_images_api("toy@http://localhost:1", **options)


def test_a_seed_a_prompt(server):
    with pytest.raises(BadInputError, match="one per prompt"):
        made(server).draw(asked(2), seeds=[1])
