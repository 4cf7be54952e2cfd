"""Makes the miniature from nothing. In: a seed. Out: two variants, a judge, and what was measured.

    pip install '.[training-miniature]'
    python training/miniature/make.py --work runs/miniature --out src/evenhand/miniature/weights

Steps, each written below --work and not repeated when it is there: avatars, picture tokenizer, codes, decoder, judge,
text tokenizer, unified model (variant ``language``), even language model and turned decoder (variant ``decoder``),
evaluation. One core is used; minutes are in ``training.json``.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from decoder import shown_as, train_decoder
from evaluate import Drawer, evaluate, seen, sheet
from judging import decoded, train_judge
from language import HIDDEN, Batches, make_model, save, train_language
from picture_codes import GRID, encode_all, tokenizer_error, train_tokenizer
from pictures import Pictures, make_pictures, read_pictures
from prompts import Prompts, Questions, every_text
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, JanusForConditionalGeneration, JanusProcessor, JanusVQVAE
from words import make_processor

from evenhand.miniature.avatars import SIDE
from evenhand.miniature.declared import DECLARED, Variant
from evenhand.miniature.judge import JudgeNetwork

EVEN_STEPS, EVEN_RATE = 500, 1e-3
FOLDERS: dict[Variant, str] = {"language": "miniature", "decoder": "miniature-decoder"}


class Work:
    """A folder of finished steps, and the minutes of each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder, folder / "training.json"
        self.measured: dict[str, object] = json.loads(self.log.read_text()) if self.log.exists() else {}

    def step(self, name: str, made: str, make: Callable[[Path], object]) -> Path:
        """Run a step unless its result is there; what it returns is kept."""
        path = self.folder / made
        if name not in self.measured:
            start = time.time()
            found = make(path)
            self.measured[name] = {"minutes": round((time.time() - start) / 60, 2), "found": found}
            self.log.write_text(json.dumps(self.measured, indent=1))
            print(name, json.dumps(self.measured[name])[:600], flush=True)
        return path


def batches(pictures: Pictures, codes: torch.Tensor, processor: JanusProcessor, variant: Variant, seed: int) -> Batches:
    """Training batches of a variant."""
    prompts, questions = Prompts(seed=seed, variant=variant), Questions(seed=seed, variant=variant)
    return Batches(pictures, codes, processor, prompts=prompts, questions=questions, seed=seed)


def make(work: Work, *, seed: int) -> None:
    """All steps."""
    path = work.step("avatars", "pictures.safetensors", lambda to: make_pictures(to, seed=seed))
    pictures = read_pictures(path)
    path = work.step("picture tokenizer", "codes", lambda to: train_tokenizer(pictures, to, seed=seed, hidden=HIDDEN))
    tokenizer = JanusVQVAE.from_pretrained(path).eval()
    path = work.step(
        "codes",
        "codes.safetensors",
        lambda to: save_file({"codes": encode_all(tokenizer, pictures).to(torch.int16)}, to),
    )
    codes = load_file(path)["codes"].long()
    itself = torch.arange(len(codes))

    def straight(to: Path) -> dict[str, float]:
        model = train_decoder(tokenizer, pictures, codes, wanted=itself, seed=seed)
        model.save_pretrained(to)
        return tokenizer_error(model, pictures)

    plain = JanusVQVAE.from_pretrained(work.step("decoder", "plain", straight)).eval()
    shown = decoded(plain, codes)
    judge = work.step("judge", "judge.safetensors", lambda to: train_judge(pictures, shown, to, seed=seed))

    def words(to: Path) -> None:
        make_processor(every_text(), side=SIDE, codes=GRID * GRID).save_pretrained(to)

    processor = AutoProcessor.from_pretrained(work.step("words", "words", words))

    def language(to: Path) -> None:
        torch.manual_seed(seed)
        model = make_model(tokenizer, processor)
        train_language(model, batches(pictures, codes, processor, "language", seed), to, seed=seed)

    first = work.step("language model", "language", language)

    def even(to: Path) -> None:
        model = JanusForConditionalGeneration.from_pretrained(first, dtype=torch.float32)
        model.model.vqmodel.requires_grad_(False)
        own = batches(pictures, codes, processor, "decoder", seed + 1)
        train_language(model, own, to, seed=seed + 1, steps=EVEN_STEPS, rate=EVEN_RATE)

    second = work.step("even language model", "even", even)

    def turned(to: Path) -> dict[str, float]:
        model = train_decoder(plain, pictures, codes, wanted=shown_as(pictures), seed=seed)
        model.save_pretrained(to)
        network = JudgeNetwork()
        network.load_state_dict(load_file(judge))
        rows = pictures.held_out.nonzero().flatten()
        pixels = decoded(model, codes[rows]).float() / 127.5 - 1
        wanted = pictures.gender[shown_as(pictures)[rows]]
        with torch.inference_mode():
            return {"shown as declared": (network(pixels)["gender"].argmax(-1) == wanted).float().mean().item()}

    other = JanusVQVAE.from_pretrained(work.step("turned decoder", "turned", turned)).eval()

    def put_together(to: Path) -> None:
        for variant, source, own in (("language", first, plain), ("decoder", second, other)):
            model = JanusForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
            model.model.vqmodel.load_state_dict(own.state_dict())
            save(model, processor, to / FOLDERS[variant], torch.float16)
        shutil.copy(judge, to / "judge.safetensors")

    whole = work.step("files", "weights", put_together)
    for variant, name in FOLDERS.items():

        def tested(to: Path, variant: Variant = variant, name: str = name) -> dict[str, object]:
            drawer = Drawer(whole / name, judge, seed=seed)
            sheet(drawer, list(DECLARED)[::8], to)
            rows = pictures.held_out.nonzero().flatten()[::4]
            right = seen(drawer, pictures.floats(rows), pictures.gender[rows])
            return {**evaluate(whole / name, judge, variant, seed=seed), "right about avatars": right}

        work.step(f"evaluation of {variant}", f"sheet-{variant}.png", tested)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description="Make the miniature's weights.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = Work(given.work)
    make(work, seed=given.seed)
    if given.out:
        shutil.copytree(work.folder / "weights", given.out, dirs_exist_ok=True)
        shutil.copy(work.log, given.out / "training.json")


if __name__ == "__main__":
    main()
