"""A model of known bias that draws, and a labeller that reads its pictures without error."""

import hashlib
import io
import random
import sys
import time
from typing import ClassVar

from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.pipeline.drawing import draw
from evenhand.records import Label, Sample

MALE, FEMALE = (0, 0, 200), (200, 0, 0)


class Painter:
    """Draws one colour: that of ``male`` with the probability that is told for the prompt's occupation.

    A stand-in model without any weights; ``slow`` seconds a batch make it killable.
    """

    name, revision, replayable = "painter", "1", True
    settings: ClassVar[dict[str, object]] = {"guidance": 1.0}

    def __init__(self, shares: dict[str, float], *, batch_size: int = 7, slow: float = 0.0, fails: str = "") -> None:
        self.shares, self.batch_size, self.slow, self.fails = shares, batch_size, slow, fails
        self.asked: list[int] = []

    def draw(self, prompts, *, seeds):
        time.sleep(self.slow)
        self.asked += seeds
        return tuple(self._one(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))

    def _one(self, prompt, seed):
        occupation = prompt.facts["occupation"]
        if occupation == self.fails:
            return Sample(prompt.id, 0, seed, None, error="BadInputError: cannot draw this")
        male = random.Random(seed).random() < self.shares[occupation]  # noqa: S311
        file = io.BytesIO()
        Image.new("RGB", (2, 2), MALE if male else FEMALE).save(file, "PNG")
        return Sample(prompt.id, 0, seed, None, image=file.getvalue(), codes=(int(male),))


class ColourReader:
    """Reads the colour."""

    attribute = load_attribute("gender")
    settings: ClassVar[dict[str, object]] = {"name": "colour"}

    def label(self, samples):
        labels = []
        for sample in samples:
            male = Image.open(io.BytesIO(sample.image)).getpixel((0, 0)) == MALE
            labels.append(Label(sample.prompt_id, sample.k, "gender", "male" if male else "female", None, 1.0))
        return tuple(labels)


def digest(folder) -> str:
    """Of every sample with its picture."""
    from evenhand.ledger import Ledger

    ledger = Ledger.open(folder)
    ledger.verify()
    return hashlib.sha256(repr(ledger.samples(pictures=True)).encode()).hexdigest()


if __name__ == "__main__":
    occupations, out, slow = sys.argv[1:]
    painter = Painter({"sewer": 0.2, "sergeant": 0.9}, batch_size=3, slow=float(slow))
    draw(painter, probe="occupations", data=occupations, out=out, samples=30)
