"""A model that draws a colour per group and obeys as it is told to, and a labeller that reads the colours."""

import io
import random
from typing import ClassVar

from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.records import Label, Prompt, Sample

GENDER = load_attribute("gender")
TEMPLATE = "a photo of the face of a {occupation}, a person"
COLOURS = {"male": (0, 0, 200), "female": (200, 0, 0), "nobody": (0, 200, 0)}


def neutral(occupation: str = "nurse") -> Prompt:
    """A prompt as the probe makes it."""
    facts = {"occupation": occupation, "template": TEMPLATE, "asked": "neutral"}
    return Prompt(f"{occupation}/neutral", "occupations", TEMPLATE.format(occupation=occupation), None, facts)


class Obeying:
    """Shows what it is asked for with the shares it is told; asked for nobody, ``alone``.

    Args:
        shown: What is asked for -> shares of what is shown.
        alone: The same where no group is named.
    """

    name, revision, replayable = "obeying", "1", True
    settings: ClassVar[dict[str, object]] = {"kind": "fake"}

    def __init__(self, shown: dict[str, dict[str, float]], alone: dict[str, float], *, batch_size: int = 1) -> None:
        self.shown, self.alone, self.batch_size = shown, alone, batch_size
        self.texts: list[str] = []

    def draw(self, prompts, *, seeds):
        self.texts += [prompt.text for prompt in prompts]
        return tuple(self._one(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))

    def _one(self, prompt, seed):
        words = prompt.text.split()
        asked = next((group for group in self.shown if group in words), None)
        shares = self.alone if asked is None else self.shown[asked]
        (group,) = random.Random(seed).choices(list(shares), weights=list(shares.values()))  # noqa: S311
        if group == "fails":
            return Sample(prompt.id, 0, seed, None, error="ServiceError: refused")
        file = io.BytesIO()
        Image.new("RGB", (2, 2), COLOURS[group]).save(file, "PNG")
        return Sample(prompt.id, 0, seed, None, image=file.getvalue())


class ColourLabels:
    """Reads the colour; green shows no face."""

    attribute = GENDER
    settings: ClassVar[dict[str, object]] = {"name": "colour"}

    def __init__(self) -> None:
        self.read = 0

    def label(self, samples):
        self.read += len(samples)
        names = {colour: name for name, colour in COLOURS.items()}
        said = [names[Image.open(io.BytesIO(one.image)).getpixel((0, 0))] for one in samples]
        return tuple(
            Label(one.prompt_id, one.k, "gender", *((None, "no face") if group == "nobody" else (group, None)), 1.0)
            for one, group in zip(samples, said, strict=True)
        )


def shown(samples) -> dict[str, int]:
    """Pictures of each group."""
    told = [label.group for label in ColourLabels().label([one for one in samples if one.image is not None])]
    return {group: told.count(group) for group in GENDER.groups}
