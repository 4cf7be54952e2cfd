"""Whether a server honours seeds: found out before the first picture, paid for once, said in the run."""

from collections.abc import Iterator

import pytest
from local_images_api import asked, made

from evenhand.errors import ServiceError
from evenhand.ledger import Ledger
from evenhand.models.protocol import ImageModel
from image_server import ImageServer, by_seed, ok, picture, problem, say

pytest.importorskip("httpx2", reason="the extra `api` is not installed")
pytest.importorskip("tenacity", reason="the extra `api` is not installed")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as started:
        yield started


def test_seeds_are_checked_before_the_first_picture(server):
    model = made(server, check_seed=True, price=0.5)
    assert model.cost(10).pictures == 13
    assert "13 in all, at 0.5 each: 6.50" in model.estimate_cost(10)
    assert server.calls == []
    assert isinstance(model, ImageModel)
    assert not model.replayable  # not known yet, and looking at it costs nothing
    assert server.calls == []
    model.draw(asked(2), seeds=[1, 2])
    assert len(server.calls) == 3 + 2
    assert model.replayable
    assert model.check_seed() is model.seed_check
    assert model.seed_check.honoured
    assert len(server.calls) == 5  # it is known now
    assert model.cost(10).pictures == 10


def test_a_server_that_ignores_seeds_is_not_replayable(server):
    number = [0]

    def ignores(body):
        number[0] += 1
        return ok(picture(number[0]))

    server.script = ignores
    model = made(server, check_seed=True)
    assert "two pictures" in model.check_seed().reason
    assert not model.replayable
    assert model.draw(asked(1), seeds=[1])[0].error is None


def test_fields_a_server_rejects_are_left_out(server):
    def like_gpt_image(body):
        for name in ("response_format", "seed"):
            if name in body:
                return problem(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
        return ok(picture(4))

    server.script = like_gpt_image
    model = made(server, check_seed=True)
    assert model.check_seed().reason == "the server takes no seed"
    assert not model.replayable
    assert len(server.calls) == 3  # two rejected for nothing, one picture
    assert [one.error for one in model.draw(asked(2), seeds=[1, 2])] == [None, None]
    assert all(set(call.body) == {"model", "prompt", "n"} for call in server.calls[2:])


def test_a_seed_is_never_left_out_midway(server):
    def later(body):
        return problem(400, "seed is out of range", None, "seed") if body["prompt"] == "prompt 1" else by_seed(body)

    server.script = later
    model = made(server, concurrency=1)
    samples = model.draw(asked(3), seeds=range(3))
    assert [one.error is None for one in samples] == [True, False, True]
    assert all("seed" in call.body for call in server.calls)


def test_a_seed_that_must_be_sent(server):
    server.script = lambda body: problem(400, "Unknown parameter: 'seed'.", None, "seed")
    with pytest.raises(ServiceError, match="change the option for seed"):
        made(server, options={"seed_field": True}).draw(asked(2), seeds=[1, 2])


@pytest.mark.parametrize("options", [{"check_seed": False}, {"check_seed": True, "options": {"seed_field": False}}])
def test_unchecked_is_not_replayable_and_costs_nothing(server, options):
    model = made(server, price=1.0, **options)
    assert not model.check_seed().honoured
    assert not model.replayable
    assert server.calls == []
    assert model.cost(10).total == 10.0


def test_a_check_without_pictures_ends_the_run(server):
    server.script = lambda body: say(200, {"data": [{"url": "http://elsewhere/x.png"}]})
    with pytest.raises(ServiceError, match="no picture for the check of seeds: got an address"):
        made(server, check_seed=True).draw(asked(8), seeds=range(8))
    assert len(server.calls) == 1


@pytest.mark.parametrize("honest", [True, False])
def test_a_run_says_whether_it_can_be_replayed_and_pays_for_the_check_once(server, tmp_path, honest):
    from evenhand.pipeline.drawing import draw

    drawn = iter(range(1000))
    server.script = by_seed if honest else lambda body: by_seed({**body, "seed": next(drawn)})
    occupations = tmp_path / "one.txt"
    occupations.write_text("sewer\n")
    given = {"probe": "occupations", "data": occupations, "out": tmp_path / "run"}
    draw(made(server, check_seed=True), samples=2, **given)
    assert Ledger.open(tmp_path / "run").settings["replayable"] is honest
    assert len(server.calls) == 2 + 3  # the check asks for three pictures
    draw(made(server, check_seed=False), samples=3, **given)
    assert len(server.calls) == 5 + 1
    assert Ledger.open(tmp_path / "run").settings["replayable"] is honest
