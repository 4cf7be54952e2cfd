"""A model of known bias that draws with codes: who is drawn is decided by its codes, who is shown by its decoder."""

import hashlib
import io

import numpy as np
import torch
from PIL import Image

from evenhand.records import Sample

MALE, FEMALE = (0, 0, 200), (200, 0, 0)  # what the example extension's ``colours`` reads


class CodedPainter:
    """Four codes of four; the first three say the group (0, 1 male; 2, 3 female), the last one nothing.

    Args:
        shares: Occupation -> share of male where no group is asked for.
        turns: Values of the last code for which whoever is drawn is shown as a man.
    """

    name, revision, batch_size, replayable = "coded", "1", 32, True
    code_shape, codebook_size = (2, 2), 4

    def __init__(self, shares, *, turns=(), settings=None):
        self.shares, self.turns = shares, turns
        self.settings = {"guidance": 1.0, "temperature": 1.0, "top_k": 0, "turns": list(turns), **(settings or {})}

    def _male(self, text):
        occupation = next(name for name in self.shares if name in text)
        words = text.replace(",", "").split()
        return 0.0 if "female" in words else 1.0 if "male" in words else self.shares[occupation]

    def generate(self, texts, *, seeds, guidance=None, temperature=1.0):
        rows = []
        for text, seed in zip(texts, seeds, strict=True):
            drawn = np.random.default_rng(seed)
            first = 0 if drawn.random() < self._male(text) else 2
            rows.append([*(first + drawn.integers(2, size=3)), drawn.integers(4)])
        return torch.tensor(np.array(rows))

    def log_prob(self, texts, codes, *, guidance=None):
        found = torch.full(codes.shape, np.log(0.5))
        male = torch.tensor([self._male(text) for text in texts])
        found[:, 0] = torch.where(codes[:, 0] < 2, male / 2, (1 - male) / 2).log()
        alike = ((codes[:, :3] < 2) == (codes[:, :1] < 2)).all(1)
        found[~alike, 1] = -torch.inf
        found[:, 3] = np.log(0.25)
        return found

    def decode(self, codes):
        pictures = torch.empty(len(codes), 3, 2, 2)
        for at, row in enumerate(codes.tolist()):
            male = row[0] < 2 or row[3] in self.turns
            pictures[at] = torch.tensor(MALE if male else FEMALE)[:, None, None] / 255
            pictures[at, 1, 1, 1] = row[3] / 255
        return pictures

    def encode(self, pictures):
        last = [one.convert("RGB").getpixel((1, 1))[1] % 4 for one in pictures]
        first = [0 if one.convert("RGB").getpixel((0, 0)) == MALE else 2 for one in pictures]
        return torch.tensor([[one, one, one, other] for one, other in zip(first, last, strict=True)])

    def features(self, pictures, *, where):
        return torch.nn.functional.one_hot(self.encode(pictures), 4).float().flatten(1)

    def answer_about(self, questions, pictures, *, seeds, temperature=1.0, max_tokens=16):
        return tuple("Unknown." if seed % 4 else "male" for seed in seeds)

    def draw(self, prompts, *, seeds):
        codes = self.generate([one.text for one in prompts], seeds=seeds)
        return tuple(
            self._sample(prompt, seed, row, picture)
            for prompt, seed, row, picture in zip(prompts, seeds, codes.tolist(), self.decode(codes), strict=True)
        )

    def _sample(self, prompt, seed, codes, picture):
        file = io.BytesIO()
        levels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(file, "PNG")
        content = file.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        return Sample(prompt.id, 0, seed, None, image=content, image_sha256=digest, codes=tuple(codes))


def labelled(folder, people=60):
    """Pictures of both groups with a label file."""
    folder.mkdir()
    lines = ["file,gender"]
    for at in range(people):
        picture = Image.new("RGB", (2, 2), MALE if at % 2 else FEMALE)
        picture.putpixel((1, 1), (0, at // 2 % 4, 0))
        picture.save(folder / f"{at}.png")
        lines.append(f"{at}.png,{'male' if at % 2 else 'female'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"
