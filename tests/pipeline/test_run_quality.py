"""Quality of a run's pictures: measured once, kept, and made of what is stored."""

import io

import numpy as np
import pytest
from PIL import Image

from evenhand.errors import TooFewSamplesError
from evenhand.ledger import Ledger
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.quality import measure_quality
from evenhand.records import Sample


class Brightness:
    """The mean red of a picture, in [0, 1]."""

    name = "brightness"

    def __init__(self, version: str = "1") -> None:
        self.settings = {"statistic": "mean", "columns": ["brightness"], "largest": 1.0, "weights": version}
        self.texts: list[str] = []

    def rows(self, pictures, texts):
        self.texts += texts
        return np.array([[np.asarray(one)[..., 0].mean() / 255] for one in pictures])


class Greys:
    """Draws greys: 51, 102, 153 ... by number; the last one is no picture."""

    name, revision, batch_size, replayable = "greys", "1", 4, True
    settings: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, broken: int = -1) -> None:
        self.drawn, self.broken = 0, broken

    def draw(self, prompts, *, seeds):
        return tuple(self._one(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))

    def _one(self, prompt, seed):
        self.drawn += 1
        file = io.BytesIO()
        Image.new("RGB", (2, 2), (51 * self.drawn, 0, 0)).save(file, "PNG")
        content = file.getvalue()[:40] if self.drawn == self.broken else file.getvalue()
        return Sample(prompt.id, 0, seed, None, image=content)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "one.txt").write_text("sewer\n")

    def made(samples=4, **given):
        model = Greys(**given)
        return draw(model, probe="occupations", data=tmp_path / "one.txt", out=tmp_path / "run", samples=samples)

    return made


def test_the_mean_of_what_is_stored(run):
    out, metric = run(), Brightness()
    (found,) = measure_quality(str(out), Ledger.open(out), [metric])
    assert found.value == pytest.approx((0.2 + 0.4 + 0.6 + 0.8) / 4)
    assert found.name == "brightness"
    assert metric.texts == ["a photo of the face of a sewer, a person"] * 4


def test_rows_are_kept_for_the_same_metric_and_the_same_pictures(run):
    out = run()
    first = measure_quality(str(out), Ledger.open(out), [Brightness()])
    again, other = Brightness(), Brightness("2")
    assert measure_quality(str(out), Ledger.open(out), [again]) == first
    assert again.texts == []
    measure_quality(str(out), Ledger.open(out), [other])
    assert len(other.texts) == 4
    fresh = Brightness()
    assert measure_quality(str(out), Ledger.open(out), [fresh], reading="anew") == first
    assert len(fresh.texts) == 4


def test_a_picture_that_cannot_be_decoded_is_left_out(run):
    out = run(broken=4)
    (found,) = measure_quality(str(out), Ledger.open(out), [Brightness()])
    assert found.value == pytest.approx((0.2 + 0.4 + 0.6) / 3)
    assert "3 pictures" in found.method


def test_too_few_pictures_are_an_error_not_a_number(run):
    out = run(samples=1)
    with pytest.raises(TooFewSamplesError):
        measure_quality(str(out), Ledger.open(out), [Brightness()])


def test_no_metric_no_estimate(run):
    out = run()
    assert measure_quality(str(out), Ledger.open(out), []) == ()
