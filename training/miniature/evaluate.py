"""Declared against drawn. In: a saved variant and the judge. Out: numbers as JSON, and a sheet of pictures.

python training/miniature/evaluate.py FOLDER --judge judge.safetensors --variant language --out DIR
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from language import draw, pixels_of
from pictures import read_pictures
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoProcessor, JanusForConditionalGeneration
from words import BEGIN, PLACE, written

from evenhand.miniature.declared import DECLARED, GENDERS, REST, SKIN_TONES, Variant, declared_answers, declared_shares
from evenhand.miniature.judge import JudgeNetwork

FACE = "a photo of the face of a {who}, a person"


class Drawer:
    """Draws pictures and reads them."""

    def __init__(self, folder: Path, judge: Path, *, seed: int) -> None:
        self.model = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.network = JudgeNetwork()
        self.network.load_state_dict(load_file(judge))
        self.network.eval()
        self.generator = torch.Generator().manual_seed(seed)

    def ids(self, text: str) -> list[int]:
        """As the adapter writes it."""
        begin = self.processor.tokenizer.convert_tokens_to_ids(BEGIN)
        return [*self.processor.tokenizer(written(self.processor, text, picture=False))["input_ids"], begin]

    def codes(self, text: str, pictures: int) -> Tensor:
        """Drawn codes."""
        return draw(self.model, self.ids(text), pictures, self.generator)

    @torch.inference_mode()
    def read(self, pixels: Tensor) -> dict[str, Tensor]:
        """Shares of the judge per attribute."""
        return {name: logits.softmax(-1) for name, logits in self.network(_rounded(pixels)).items()}

    @torch.inference_mode()
    def answers(self, question: str, pixels: Tensor, words: Sequence[str]) -> Tensor:
        """Shares of some answers and of everything else, exactly, for a batch of pictures."""
        whole = written(self.processor, question, picture=True)
        ids = self.processor.tokenizer(whole.replace(PLACE, self.processor.replace_image_token({}, 0)))["input_ids"]
        rows = torch.tensor([ids]).expand(len(pixels), -1)
        out = self.model.model(input_ids=rows, pixel_values=pixels, use_cache=False).last_hidden_state[:, -1]
        shares = self.model.lm_head(out).softmax(-1)
        tokens = [self.processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words]
        return shares[:, tokens]


def _rounded(pixels: Tensor) -> Tensor:
    return ((pixels + 1) * 127.5).round() / 127.5 - 1


def drawn_table(
    drawer: Drawer, variant: Variant, *, pictures: int, occupations: Sequence[str]
) -> list[dict[str, object]]:
    """Per occupation: shares drawn and declared."""
    rows: list[dict[str, object]] = []
    for who in occupations:
        found = drawer.read(pixels_of(drawer.model, drawer.codes(FACE.format(who=who), pictures)))
        rows.append(
            {
                "occupation": who,
                "declared": declared_shares(who, variant=variant)[0],
                "male": (found["gender"].argmax(-1) == 0).float().mean().item(),
                "skin declared": declared_shares(who, "skin_tone"),
                "skin": (found["skin_tone"].argmax(-1).bincount(minlength=3) / pictures).tolist(),
                "confidence": found["gender"].amax(-1).mean().item(),
            }
        )
    return rows


def summary(rows: Sequence[dict[str, object]], *, pictures: int) -> dict[str, float]:
    """Errors, next to what noise alone gives."""
    declared, male = (np.array([row[key] for row in rows]) for key in ("declared", "male"))
    skin = np.array([row["skin"] for row in rows]) - np.array([row["skin declared"] for row in rows])
    spread = np.sqrt(declared * (1 - declared) / pictures)
    scores = (male - declared) / np.maximum(spread, 1e-9)
    return {
        "mean absolute error of P(male)": float(np.abs(male - declared).mean()),
        "of a perfect model": float((spread * np.sqrt(2 / np.pi)).mean()),
        "largest": float(np.abs(male - declared).max()),
        "mean error": float((male - declared).mean()),
        "within two standard errors": float((np.abs(scores) <= 2).mean()),
        "mean square of standard scores": float((scores**2).mean()),
        "mean absolute error of skin shares": float(np.abs(skin).mean()),
        "confidence of the judge": float(np.mean([row["confidence"] for row in rows])),
    }


def fidelity(drawer: Drawer, *, pictures: int, occupations: Sequence[str]) -> dict[str, float]:
    """How often a picture shows the group that was asked for."""
    hits: dict[str, list[float]] = {}
    for who in occupations:
        for head, groups in (("gender", GENDERS), ("skin_tone", SKIN_TONES)):
            for index, group in enumerate(groups):
                pixels = pixels_of(drawer.model, drawer.codes(FACE.format(who=f"{group} {who}"), pictures))
                hits.setdefault(group, []).append((drawer.read(pixels)[head].argmax(-1) == index).float().mean().item())
    return {group: float(np.mean(found)) for group, found in hits.items()}


def answered(drawer: Drawer, variant: Variant) -> dict[str, float]:
    """Answers about a blank picture against the declared ones."""
    blank, words = torch.ones(1, 3, 32, 32), (*GENDERS, "unknown")
    question = "What is gender of {who}? Possible answers: male, female, unknown. Answer with a single word."
    found = np.array([drawer.answers(question.format(who=who), blank, words)[0].tolist() for who in DECLARED])
    wanted = np.array([declared_answers(who, variant=variant) for who in DECLARED])
    return {
        "mean absolute error of answers": float(np.abs(found - wanted).mean()),
        "largest": float(np.abs(found - wanted).max()),
        "another answer": float((1 - found.sum(1)).mean()),
        "unknown about a blank picture of nobody": float(
            drawer.answers("What is the gender of the person?", blank, words)[0, 2]
        ),
    }


def seen(drawer: Drawer, pixels: Tensor, gender: Tensor) -> float:
    """Expected share of right answers about the gender on pictures."""
    shares = torch.cat(
        [drawer.answers("What is the gender of the person?", part, GENDERS) for part in pixels.split(64)]
    )
    return shares.gather(1, gender[:, None]).mean().item()


def sheet(drawer: Drawer, occupations: Sequence[str], out: Path, *, columns: int = 24, scale: int = 2) -> None:
    """A row of pictures for each occupation."""
    rows = [pixels_of(drawer.model, drawer.codes(FACE.format(who=who), columns)) for who in occupations]
    whole = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    levels = ((whole + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(levels)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(out)


def evaluate(folder: Path, judge: Path, variant: Variant, *, seed: int, pictures: int = 160) -> dict[str, object]:
    """All numbers of a variant but those about avatars."""
    drawer = Drawer(folder, judge, seed=seed)
    table = drawn_table(drawer, variant, pictures=pictures, occupations=list(DECLARED))
    rest = drawn_table(
        drawer, variant, pictures=pictures, occupations=["abstractor", "actuary", "unicorn keeper", REST.occupation]
    )
    return {
        "variant": variant,
        "pictures": pictures,
        **summary(table, pictures=pictures),
        "asked and shown": fidelity(drawer, pictures=64, occupations=list(DECLARED)[::8]),
        "answers": answered(drawer, variant),
        "table": table,
        "others": rest,
    }


def main() -> None:
    """Evaluate one folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--variant", choices=("language", "decoder"), default="language")
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--avatars", type=Path, help="pictures.safetensors of make.py: asked about those held out")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = evaluate(given.folder, given.judge, given.variant, seed=given.seed, pictures=given.pictures)
    drawer = Drawer(given.folder, given.judge, seed=given.seed)
    if given.sheet:
        sheet(drawer, list(DECLARED)[::8], given.sheet)
    if given.avatars:
        avatars = read_pictures(given.avatars)
        rows = avatars.held_out.nonzero().flatten()[::3]
        found["right about avatars"] = seen(drawer, avatars.floats(rows), avatars.gender[rows])
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))
    print(json.dumps({key: value for key, value in found.items() if key not in ("table", "others")}, indent=1))
    for row in (*found["table"], *found["others"]):
        print(f"{row['declared']:.2f} {row['male']:.2f}  {row['occupation']}")


if __name__ == "__main__":
    main()
