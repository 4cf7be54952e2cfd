"""Makes the miniature from nothing. In: a seed. Out: two variants and a judge.

    pip install '.[training-miniature]'
    python training/miniature/make.py --work runs/miniature --out src/evenhand/miniature/weights

Steps, each written below --work and not repeated when it is there: avatars, picture tokenizer, codes, text tokenizer;
then the unified model on one core, and decoder, judge and turned decoder on another, which helps when it is free; then
a core for each variant: settling, sight, correction, sight again, files. Minutes are in ``training.json``; what came
out is measured by ``evaluate.py`` and ``benchmarks/miniature_recovery.py``.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from correction import correct
from decoder import shown_as, train_decoder
from judging import decoded, train_judge
from language import HIDDEN, Batches, make_model, save, train_language
from picture_codes import GRID, encode_all, tokenizer_error, train_tokenizer
from pictures import Pictures, make_pictures, read_pictures
from prompts import Prompts, Questions, every_text
from safetensors.torch import load_file, save_file
from settling import settle
from sight import SEEN, SEEN_AGAIN, learn_to_see, look_again
from transformers import AutoProcessor, JanusForConditionalGeneration, JanusProcessor, JanusVQVAE
from words import make_processor

from evenhand.miniature.avatars import SIDE
from evenhand.miniature.declared import Variant
from evenhand.miniature.judge import JudgeNetwork

CORES = 2
SHOWN = "turned decoder"  # the last step on one core, while the unified model is trained on the other
FOLDERS: dict[Variant, str] = {"language": "miniature", "decoder": "miniature-decoder"}


class Work:
    """A folder of finished steps; ``steps`` in it has the minutes of each and what it found."""

    def __init__(self, folder: Path) -> None:
        (folder / "steps").mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def step(self, name: str, made: str, make: Callable[[Path], object]) -> Path:
        """Run a step unless its result is there; what it returns is kept."""
        path, log = self.folder / made, self._log(name)
        if not self.has(name):
            start = time.time()
            found = make(path)
            measured = {"minutes": round((time.time() - start) / 60, 2), "found": found}
            log.write_text(json.dumps(measured, indent=1))
            print(name, json.dumps(measured)[:600], flush=True)
        return path

    def has(self, name: str) -> bool:
        """Whether a step is done."""
        return self._log(name).exists()

    def measured(self) -> dict[str, object]:
        """All steps, in the order they were finished."""
        logs = sorted((self.folder / "steps").glob("*.json"), key=lambda log: log.stat().st_mtime)
        return {log.stem: json.loads(log.read_text()) for log in logs}

    def _log(self, name: str) -> Path:
        return self.folder / "steps" / f"{name}.json"


def batches(
    pictures: Pictures,
    codes: torch.Tensor,
    processor: JanusProcessor,
    variant: Variant,
    seed: int,
    questions: Questions | None = None,
) -> Batches:
    """Training batches of a variant."""
    asked = questions or Questions(seed=seed, variant=variant)
    prompts = Prompts(seed=seed, variant=variant)
    return Batches(pictures, codes, processor, prompts=prompts, questions=asked, seed=seed)


def begin(folder: Path, seed: int) -> None:
    """Avatars, picture tokenizer, codes, text tokenizer."""
    work = Work(folder)
    pictures = read_pictures(work.step("avatars", "pictures.safetensors", lambda to: make_pictures(to, seed=seed)))
    path = work.step("picture tokenizer", "codes", lambda to: train_tokenizer(pictures, to, seed=seed, hidden=HIDDEN))
    tokenizer = JanusVQVAE.from_pretrained(path).eval()
    work.step(
        "codes",
        "codes.safetensors",
        lambda to: save_file({"codes": encode_all(tokenizer, pictures).to(torch.int16)}, to),
    )

    def words(to: Path) -> None:
        make_processor(every_text(), side=SIDE, codes=GRID * GRID).save_pretrained(to)

    work.step("words", "words", words)


def speak(folder: Path, seed: int) -> None:
    """The unified model."""
    work, (pictures, codes) = Work(folder), _avatars(folder)
    processor = AutoProcessor.from_pretrained(folder / "words")

    def language(to: Path) -> None:
        torch.manual_seed(seed)
        model = make_model(JanusVQVAE.from_pretrained(folder / "codes").eval(), processor)
        own = batches(pictures, codes, processor, "language", seed)
        train_language(model, own, to, seed=seed, cores=lambda: CORES if work.has(SHOWN) else 1)

    work.step("language model", "language", language)


def show(folder: Path, seed: int) -> None:
    """Decoder, judge, turned decoder."""
    work, (pictures, codes) = Work(folder), _avatars(folder)

    def straight(to: Path) -> dict[str, float]:
        tokenizer = JanusVQVAE.from_pretrained(folder / "codes").eval()
        model = train_decoder(tokenizer, pictures, codes, wanted=torch.arange(len(codes)), seed=seed)
        model.save_pretrained(to)
        return tokenizer_error(model, pictures)

    plain = JanusVQVAE.from_pretrained(work.step("decoder", "plain", straight)).eval()
    judge = work.step(
        "judge", "judge.safetensors", lambda to: train_judge(pictures, decoded(plain, codes), to, seed=seed)
    )

    def turned(to: Path) -> dict[str, float]:
        model = train_decoder(plain, pictures, codes, wanted=shown_as(pictures), seed=seed)
        model.save_pretrained(to)
        rows = pictures.held_out.nonzero().flatten()
        pixels = decoded(model, codes[rows]).float() / 127.5 - 1
        wanted = pictures.gender[shown_as(pictures)[rows]]
        with torch.inference_mode():
            said = _judge(judge)(pixels)["gender"].argmax(-1)
        return {"shown as declared": (said == wanted).float().mean().item()}

    work.step(SHOWN, "turned", turned)


def finish(folder: Path, seed: int, variant: Variant) -> None:
    """A variant: settled, taught to see, corrected, put together."""
    work, (pictures, codes), judge = Work(folder), _avatars(folder), folder / "judge.safetensors"
    processor = AutoProcessor.from_pretrained(folder / "words")

    drawing = folder / ("plain" if variant == "language" else "turned")

    def learned(
        name: str,
        source: Path,
        learn: Callable[[JanusForConditionalGeneration, Batches], object],
        questions: Questions | None = None,
    ) -> Path:
        """A step from one saved model to the next; it draws with the decoder that the judge was taught on."""

        def made(to: Path) -> object:
            model = JanusForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
            model.model.vqmodel.load_state_dict(JanusVQVAE.from_pretrained(folder / "plain").state_dict())
            own = batches(pictures, codes, processor, variant, seed, questions)
            found = learn(model, own)
            save(model, processor, to, torch.float32)
            return found

        return work.step(f"{name} of {variant}", f"{name}-{variant}", made)

    looking = Questions(seed=seed, variant=variant, seen=SEEN)
    settled = learned("settling", folder / "language", lambda model, own: settle(model, own, _judge(judge), seed=seed))
    seeing = learned("sight", settled, lambda model, own: learn_to_see(model, own, seed=seed), looking)
    right = learned("correction", seeing, lambda model, own: correct(model, own, _judge(judge), seed=seed + 1))
    again = Questions(seed=seed + 1, variant=variant, seen=SEEN_AGAIN)
    sure = learned("second sight", right, lambda model, own: look_again(model, own, seed=seed + 1), again)

    def put_together(to: Path) -> None:
        model = JanusForConditionalGeneration.from_pretrained(sure, dtype=torch.float32).eval()
        model.model.vqmodel.load_state_dict(JanusVQVAE.from_pretrained(drawing).state_dict())
        save(model, processor, to, torch.float16)
        shutil.copy(judge, to.parent / "judge.safetensors")

    work.step(f"files of {variant}", f"weights/{FOLDERS[variant]}", put_together)


def _avatars(folder: Path) -> tuple[Pictures, torch.Tensor]:
    return read_pictures(folder / "pictures.safetensors"), load_file(folder / "codes.safetensors")["codes"].long()


def _judge(path: Path) -> JudgeNetwork:
    network = JudgeNetwork()
    network.load_state_dict(load_file(path))
    return network.eval()


def _one_core() -> None:
    torch.set_num_threads(1)


def make(folder: Path, *, seed: int) -> None:
    """All steps, on two cores."""
    torch.set_num_threads(CORES)
    begin(folder, seed)
    stages: tuple[tuple[Callable[[Path, int], None], ...], ...] = (
        (speak, show),
        tuple(partial(finish, variant=variant) for variant in FOLDERS),
    )
    with multiprocessing.get_context("spawn").Pool(CORES, initializer=_one_core) as cores:
        for together in stages:
            for waiting in [cores.apply_async(one, (folder, seed)) for one in together]:
                waiting.get()


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description="Make the miniature's weights.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    make(given.work, seed=given.seed)
    if given.out:
        shutil.copytree(given.work / "weights", given.out, dirs_exist_ok=True)
        (given.out / "training.json").write_text(json.dumps(Work(given.work).measured(), indent=1))


if __name__ == "__main__":
    main()
