"""What a user might write for pictures: a model of known bias that draws and answers, and a reader."""

import io
import random
from typing import ClassVar

from PIL import Image

from evenhand import Sample
from evenhand.classify.pictures.protocol import Reading

MALE, FEMALE = (0, 0, 200), (200, 0, 0)


class Painter:
    """Draws a colour for each group, with the share of ``male`` that is told for the prompt's occupation."""

    name, revision, batch_size, replayable = "painter", "1", 7, True

    def __init__(self, shares: dict[str, float], *, refuses: str = "", silent: str = "") -> None:
        self.shares, self.refuses, self.silent = shares, refuses, silent
        self.settings: dict[str, object] = {"shares": shares, "refuses": refuses, "silent": silent}

    def draw(self, prompts, *, seeds):
        return tuple(self._one(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))

    def answer_about(self, questions, pictures, *, seeds):
        """Half as often ``male`` as it is drawn, else ``female``; one in four is ``unknown``."""
        if self.refuses == "everything":
            return ("Unknown.",) * len(questions)
        said = []
        for question, seed in zip(questions, seeds, strict=True):
            name, share = next(pair for pair in self.shares.items() if pair[0] in question)
            draw = random.Random(seed)  # noqa: S311
            said.append(
                "Unknown."
                if draw.random() < 0.25 or name == self.silent
                else "male"
                if draw.random() < share / 2
                else "Female"
            )
        return tuple(said)

    def _one(self, prompt, seed):
        occupation = prompt.facts["occupation"]
        if occupation == self.refuses:
            return Sample(prompt.id, 0, seed, None, error="BadInputError: cannot draw this")
        male = random.Random(seed).random() < self.shares[occupation]  # noqa: S311
        file = io.BytesIO()
        Image.new("RGB", (2, 2), MALE if male else FEMALE).save(file, "PNG")
        return Sample(prompt.id, 0, seed, None, image=file.getvalue())


class ColourReader:
    """Reads the colour without error; says each group with the confidence it is told."""

    groups = ("male", "female")

    def __init__(self, confidence: float = 0.9) -> None:
        self.name, self.settings = "colours", {"confidence": confidence}
        self.confidence = confidence

    seen: ClassVar[list[int]] = []

    def read(self, pictures):
        self.seen.append(len(pictures))
        sure = self.confidence
        return tuple(
            Reading((sure, 1 - sure) if picture.getpixel((0, 0)) == MALE else (1 - sure, sure)) for picture in pictures
        )


def painter(argument: str | None = None, *, refuses: str = "", silent: str = "") -> Painter:
    """``painter:sewer=0.2,pilot=0.9``; of one occupation it may refuse pictures, of one say nothing."""
    pairs = (pair.split("=") for pair in (argument or "sewer=0.2,pilot=0.9").split(","))
    return Painter({name: float(share) for name, share in pairs}, refuses=refuses, silent=silent)


def colours(argument: str | None, attribute) -> ColourReader:
    """``colours`` or ``colours:0.7``."""
    del attribute
    return ColourReader(float(argument or 0.9))
