"""Runs of pictures by a model of known bias."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawing import ColourReader, Painter, digest
from PIL import Image

from evenhand.errors import BadInputError, ChangedRunError, UnknownNameError
from evenhand.ledger import Ledger
from evenhand.pipeline.captions import audit
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.pictures import score_pictures

SHARES = {"sewer": 0.2, "sergeant": 0.9}


@pytest.fixture
def occupations(tmp_path):
    file = tmp_path / "occupations.txt"
    file.write_text("sewer\nsergeant\n")
    return file


def run(painter, occupations, out, samples=30):
    return draw(painter, probe="occupations", data=occupations, out=out, samples=samples)


def estimate(scored, name, attribute="gender"):
    return next(one for one in scored.estimates[attribute] if one.name == name)


def test_what_is_drawn_is_counted(occupations, tmp_path):
    out = run(Painter(SHARES), occupations, tmp_path / "run", samples=200)
    scored = score_pictures(out, [ColourReader()])
    samples = Ledger.open(out).samples()
    for prompt in scored.prompts:
        drawn = [sample.codes[0] for sample in samples if sample.prompt_id == prompt.id]
        shares = scored.per_prompt["gender"][prompt.id][:2]
        assert [one.value for one in shares] == pytest.approx([sum(drawn) / 200, 1 - sum(drawn) / 200])
        # The declared share is inside its interval, and RD of the sample is |male - female|.
        assert shares[0].low <= SHARES[prompt.facts["occupation"]] <= shares[0].high
        observed = next(one for one in scored.per_prompt["gender"][prompt.id] if one.name == "RD_observed")
        assert observed.value == pytest.approx(abs(2 * sum(drawn) / 200 - 1))
    assert estimate(scored, "RD").low <= (0.6 + 0.8) / 2 <= estimate(scored, "RD").high
    assert scored.counts["pictures"] == 400
    assert scored.counts["gender: male"] + scored.counts["gender: female"] == 400
    assert scored.classifiers == {"gender": {"name": "colour"}}
    assert score_pictures(out, [ColourReader()]) == scored  # from the folder alone, again


def test_one_group_only_gives_the_largest_value(occupations, tmp_path):
    out = run(Painter(dict.fromkeys(SHARES, 1.0)), occupations, tmp_path / "run", samples=100)
    found = score_pictures(out, [ColourReader()])
    assert estimate(found, "RD_observed").value == estimate(found, "RD_observed").largest == 1.0
    assert estimate(found, "RD").value == 1.0


def test_a_run_is_topped_up_and_batches_change_nothing(occupations, tmp_path):
    first = Painter(SHARES, batch_size=4)
    run(first, occupations, tmp_path / "one", samples=5)
    more = Painter(SHARES, batch_size=1)
    run(more, occupations, tmp_path / "one", samples=9)
    assert len(first.asked) == 10
    assert len(more.asked) == 8
    assert set(first.asked).isdisjoint(more.asked)
    run(Painter(SHARES, batch_size=100), occupations, tmp_path / "other", samples=9)
    assert digest(tmp_path / "one") == digest(tmp_path / "other")


def test_a_model_that_draws_otherwise_may_not_go_on(occupations, tmp_path):
    run(Painter(SHARES), occupations, tmp_path / "run", samples=2)
    changed = Painter(SHARES)
    changed.settings = {"guidance": 5.0}
    with pytest.raises(ChangedRunError, match="guidance"):
        run(changed, occupations, tmp_path / "run", samples=4)


def test_what_fails_is_counted_and_loses_nothing(occupations, tmp_path):
    out = run(Painter(SHARES, fails="sewer"), occupations, tmp_path / "run", samples=20)
    scored = score_pictures(out, [ColourReader()])
    assert (scored.counts["pictures"], scored.counts["errors"], scored.counts["gender: error"]) == (20, 20, 20)
    failed = next(one for one in scored.prompts if one.facts["occupation"] == "sewer")
    assert all(one.method.startswith("undefined") for one in scored.per_prompt["gender"][failed.id])


def test_a_model_that_answers_in_another_order_is_refused(occupations, tmp_path):
    class Shuffler(Painter):
        def draw(self, prompts, *, seeds):
            return super().draw(prompts, seeds=seeds)[::-1]

    with pytest.raises(BadInputError, match="seed"):
        run(Shuffler(SHARES), occupations, tmp_path / "run")


def test_what_is_no_model_is_refused(occupations, tmp_path):
    with pytest.raises(UnknownNameError, match=r"these draw: .*unified"):
        run("janus", occupations, tmp_path / "run")
    with pytest.raises(BadInputError, match="answers about pictures, it does not draw"):
        run("hf:folder", occupations, tmp_path / "run")
    with pytest.raises(BadInputError, match=r"'guidanse'; allowed --option: .*guidance"):
        draw(
            "diffusers:x",
            probe="occupations",
            data=occupations,
            out=tmp_path / "run",
            samples=1,
            options={"guidanse": 2},
        )
    with pytest.raises(BadInputError, match="batch_size"):
        run(Painter(SHARES, batch_size=0), occupations, tmp_path / "run")


def test_an_audit_of_texts_says_that_a_probe_or_a_model_is_for_pictures(occupations, tmp_path):
    for probe in ("occupations", "blank_image"):
        with pytest.raises(BadInputError, match="declares no gender of 2 of 2"):
            audit("captioner", probe=probe, data=occupations, out=tmp_path / "run")
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "labels.csv").write_text("file,gender\na.png,male\n")
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    for model in ("unified", "unified:folder"):
        with pytest.raises(BadInputError, match="draws"):
            audit(model, probe="captioning", data=folder, out=tmp_path / "run")


def test_no_samples_and_no_labellers_are_refused(occupations, tmp_path):
    with pytest.raises(BadInputError, match="samples"):
        run(Painter(SHARES), occupations, tmp_path / "run", samples=0)
    out = run(Painter(SHARES), occupations, tmp_path / "run", samples=2)
    for labellers in ([], [ColourReader(), ColourReader()]):
        with pytest.raises(BadInputError, match="labellers"):
            score_pictures(out, labellers)


def test_killed_ten_times_the_run_is_what_it_would_have_been(occupations, tmp_path):
    script = str(Path(__file__).parent / "drawing.py")
    generator = random.Random(0)  # noqa: S311
    for _ in range(10):
        with subprocess.Popen([sys.executable, script, str(occupations), str(tmp_path / "killed"), "0.05"]) as process:  # noqa: S603
            until = time.monotonic() + 20
            while not (tmp_path / "killed").exists() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(generator.uniform(0.2, 0.9))
            process.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, script, str(occupations), str(tmp_path / "killed"), "0"], check=True)  # noqa: S603
    run(Painter(SHARES), occupations, tmp_path / "whole")
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    shards = [name for name in os.listdir(tmp_path / "killed") if name.startswith("samples-")]
    assert len(shards) == 20  # 60 samples by three: nothing was drawn twice
