"""The unified model. In: avatars as codes, prompts, questions. Out: a ``JanusForConditionalGeneration`` that was saved.

One loss for both directions: nats per code of pictures after prompts, and nats of answers after pictures and questions.
Answers about a blank picture are learned from their declared shares, not from draws. What is saved is a running mean
of the weights: shares come out steadier than after the last step.

An avatar is a few dozen bits and its codes are a few hundred, so that the one bit that matters is a small part of the
loss. Two guides, thrown away afterwards, read the states half-way up: before the first code the shares of what may be
shown, and at every code what is being shown. They make the states carry it; what is drawn is decided by the code loss.
"""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from picture_codes import GRID
from picture_codes import config as code_config
from pictures import Pictures
from prompts import PEOPLE, UNKNOWN, Asking, Prompts, Questions
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAE,
    LlamaConfig,
)
from words import BEGIN, END, PAD, PLACE, START, written

from evenhand.miniature.avatars import SIDE
from evenhand.miniature.declared import AGES, GENDERS, SKIN_TONES

HIDDEN, CODES = 192, GRID * GRID
STEPS, ROWS, ASKED, EVERY, RATE = 2000, 56, 16, 2, 2.5e-3  # questions in every EVERY-th step
# Weights of the first row of codes, of the next two and of the others: hair and so perceived gender is decided in the
# first row, skin tone in the third.
WEIGHTS = torch.tensor([4.0] * GRID + [3.0] * 2 * GRID + [1.0] * 5 * GRID)
MUON = 8.0  # its rate against AdamW's, for the matrices of the language model
MIDDLE, PLANNED, FOLLOWED = 2, 0.5, 0.05  # the layer the guides read, and their weights
WARM, MEAN, FLOOR = 60, 0.995, 0.02
WHITE = 1.0  # a blank picture


def make_model(codes: JanusVQVAE, processor: JanusProcessor) -> JanusForConditionalGeneration:
    """A Janus with a trained picture tokenizer; the rest is random."""
    ids = {name: processor.tokenizer.convert_tokens_to_ids(token) for name, token in _TOKENS.items()}
    text = LlamaConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        bos_token_id=ids["bos"],
        eos_token_id=ids["eos"],
        pad_token_id=ids["pad"],
    )
    vision = JanusVisionConfig(
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=SIDE // GRID,
        projection_dim=HIDDEN,
        num_image_tokens=CODES,
    )
    model = JanusForConditionalGeneration(
        JanusConfig(
            text_config=text,
            vision_config=vision,
            vq_config=code_config(HIDDEN),
            image_token_id=ids["place"],
            tie_word_embeddings=False,
        )
    )
    model.model.vqmodel.load_state_dict(codes.state_dict())
    model.model.vqmodel.requires_grad_(False)
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(codes.quantize.embedding.weight)
    model.generation_config = GenerationConfig(
        bos_token_id=ids["bos"],
        eos_token_id=ids["eos"],
        pad_token_id=ids["pad"],
        do_sample=True,
        generation_kwargs={"boi_token_id": ids["begin"]},
    )
    return model


_TOKENS = {"bos": START, "eos": END, "pad": PAD, "begin": BEGIN, "place": PLACE}


class Batches:
    """Draws training batches."""

    def __init__(
        self,
        pictures: Pictures,
        codes: Tensor,
        processor: JanusProcessor,
        *,
        prompts: Prompts,
        questions: Questions,
        seed: int,
    ) -> None:
        self.pictures, self.codes, self.processor = pictures, codes, processor
        self.prompts, self.questions, self.drawn = prompts, questions, np.random.default_rng(seed)
        kept = ~pictures.held_out
        keys = zip(pictures.gender.tolist(), pictures.skin.tolist(), pictures.clothes.tolist(), strict=True)
        self.cells: dict[tuple[int, int, int], list[int]] = {}
        for row, (key, keep) in enumerate(zip(keys, kept.tolist(), strict=True)):
            if keep:
                self.cells.setdefault(key, []).append(row)
        self._known: dict[tuple[str, bool], list[int]] = {}
        tokenizer = processor.tokenizer
        self.id = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _TOKENS.items()}
        self.answers = {word: self._word(word) for word in (*GENDERS, *SKIN_TONES, *AGES, UNKNOWN)}

    def drawings(self, rows: int) -> tuple[list[list[int]], Tensor, Tensor]:
        """Prompts as ids, the last one begins the picture; their pictures; the shares of what they may show."""
        asked, shown, plans = [], [], []
        for _ in range(rows):
            one = self.prompts.next()
            if one.text is None:
                somebody = self.ids(
                    f"a photo of the face of a {self.prompts._one(self.prompts.known)}, a person", False
                )
                ids = [token if token in (self.id["bos"], self.id["begin"]) else self.id["pad"] for token in somebody]
            else:
                ids = self.ids(one.text, False)
            asked.append(ids)
            shown.append(self.person(one.gender, one.skin, one.clothes))
            plans.append(one.plan)
        return asked, torch.tensor(shown), torch.from_numpy(np.stack(plans)).float()

    def askings(self, rows: int) -> tuple[list[list[int]], Tensor, Tensor]:
        """Questions as ids with an answer behind, pixels, and the shares of the answers' tokens."""
        asked, pixels, shares = [], [], torch.zeros(rows, len(self.processor.tokenizer))
        for i in range(rows):
            one = self.questions.next()
            said = self._answers(one)
            shown = said.pop("picture")
            pixels.append(self.pictures.floats(torch.tensor([shown]))[0] if shown >= 0 else blank())
            words = list(said)
            for word in words:
                shares[i, self.answers[word]] = said[word]
            drawn = words[int(self.drawn.choice(len(words), p=[said[word] for word in words]))]
            asked.append([*self.ids(one.text, True), self.answers[drawn]])
        return asked, torch.stack(pixels), shares

    def person(self, gender: int, skin: int, clothes: int) -> int:
        """The row of a picture that shows this."""
        rows = self.cells[gender, skin, clothes]
        return rows[int(self.drawn.integers(len(rows)))]

    def ids(self, text: str, picture: bool) -> list[int]:
        """A prompt's tokens, as the adapter's."""
        if (text, picture) not in self._known:
            whole = written(self.processor, text, picture=picture)
            if picture:
                whole = whole.replace(PLACE, self.processor.replace_image_token({}, 0))
            found = self.processor.tokenizer(whole)["input_ids"]
            self._known[text, picture] = found if picture else [*found, self.id["begin"]]
        return self._known[text, picture]

    def _answers(self, one: Asking) -> dict[str, float]:
        if one.gender is None:
            return {**one.answers, "picture": -1}
        row = self.person(one.gender, one.skin, one.clothes)
        index = int(getattr(self.pictures, one.reads)[row])
        word = {"gender": GENDERS, "skin": SKIN_TONES, "age": AGES}[one.reads][index]
        return {word: 1.0, "picture": row}

    def _word(self, word: str) -> int:
        found: list[int] = self.processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if len(found) != 1:
            raise SystemExit(f"{word!r} is {len(found)} tokens; learn the vocabulary from more answers")
        return found[0]


def blank() -> Tensor:
    """A picture of nobody."""
    return torch.full((3, SIDE, SIDE), WHITE)


class Guides(torch.nn.Module):
    """What the states half-way up are asked for in training."""

    def __init__(self, pictures: Pictures) -> None:
        super().__init__()
        tints = 4  # of twelve hair colours every fourth is the same
        columns = [pictures.gender, pictures.skin, pictures.clothes, pictures.age, *pictures.parts.T]
        self.labels = torch.stack([column % tints if i == 5 else column for i, column in enumerate(columns)], 1)
        self.sizes = [int(column.max()) + 1 for column in self.labels.T]
        self.plans = (len(PEOPLE), self.sizes[2])
        self.planned = torch.nn.Linear(HIDDEN, sum(self.plans))
        self.followed = torch.nn.Linear(HIDDEN, sum(self.sizes))

    def loss(self, states: Tensor, shown: Tensor, plans: Tensor) -> Tensor:
        """Weighted nats, from states (rows, codes, hidden)."""
        said = self.planned(states[:, 0]).float().split(self.plans, -1)
        planned = -sum(
            (own * logits.log_softmax(-1)).sum(-1).mean()
            for own, logits in zip(plans.split(self.plans, -1), said, strict=True)
        )
        seen = self.followed(states).float().split(self.sizes, -1)
        followed = sum(
            (1 + 3 * (i < 2)) * cross_entropy(logits.flatten(0, 1), label.repeat_interleave(CODES))
            for i, (logits, label) in enumerate(zip(seen, self.labels[shown].T, strict=True))
        )
        return PLANNED * planned + FOLLOWED * followed


def code_loss(model: JanusForConditionalGeneration, asked: list[list[int]], codes: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of every code, and the states half-way up that it was predicted from, both (rows, codes, ...).

    Prompts are padded behind their pictures: nothing attends there.
    """
    longest = max(map(len, asked))
    embedded = model.get_input_embeddings()(torch.tensor([ids + [0] * (longest - len(ids)) for ids in asked]))
    pictures = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    whole = torch.zeros(len(asked), longest + CODES - 1, HIDDEN, dtype=pictures.dtype)
    starts = torch.tensor([len(ids) for ids in asked])
    rows = torch.arange(len(asked))[:, None]
    whole[:, :longest] = embedded.to(pictures.dtype)
    whole[rows, starts[:, None] + torch.arange(CODES - 1)] = pictures
    out = model.model.language_model(inputs_embeds=whole, use_cache=False, output_hidden_states=True)
    places = starts[:, None] - 1 + torch.arange(CODES)
    logits = model.model.generation_head(out.last_hidden_state[rows, places]).float()
    nats = cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view(codes.shape)
    return nats, out.hidden_states[MIDDLE][rows, places]


def answer_loss(
    model: JanusForConditionalGeneration, asked: list[list[int]], pixels: Tensor, shares: Tensor, end: int
) -> tuple[Tensor, Tensor]:
    """Nats of the answers above what their shares cost anyway, and of the end behind them."""
    longest = max(map(len, asked))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in asked])
    out = model.model(input_ids=ids, pixel_values=pixels, use_cache=False).last_hidden_state
    rows, last = torch.arange(len(asked)), torch.tensor([len(row) - 1 for row in asked])
    answers = model.lm_head(out[rows, last - 1]).float().log_softmax(-1)
    ends = model.lm_head(out[rows, last]).float().log_softmax(-1)
    own = torch.special.xlogy(shares, shares).sum(-1)
    return (own - (shares * answers).sum(-1)).mean(), -ends[:, end].mean()


def train_language(
    model: JanusForConditionalGeneration,
    batches: Batches,
    out: Path,
    *,
    seed: int,
    steps: int = STEPS,
    rate: float = RATE,
    cores: Callable[[], int] = lambda: 1,
) -> JanusForConditionalGeneration:
    """Train and save; the running mean of the weights is what is returned. ``cores`` says how many are free."""
    torch.manual_seed(seed)
    model.train()
    model.model.vqmodel.eval()
    guides = Guides(batches.pictures)
    trained = [p for p in (*model.parameters(), *guides.parameters()) if p.requires_grad]
    inner = [p for name, p in model.model.language_model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for p in trained if not any(p is one for one in inner)]
    optimizers = (
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(inner, lr=rate * MUON, momentum=0.95, ns_steps=4, weight_decay=0.02),
    )
    peaks = [(group, group["lr"]) for one in optimizers for group in one.param_groups]
    mean = copy.deepcopy(model).eval()
    start, seen = time.time(), [0.0, 0.0]
    for step in range(steps):
        torch.set_num_threads(cores())
        for group, peak in peaks:
            group["lr"] = peak * min(1, (step + 1) / WARM) * _cosine(step / steps)
        asked, shown, plans = batches.drawings(ROWS)
        with torch.autocast("cpu", torch.bfloat16):
            nats, states = code_loss(model, asked, batches.codes[shown])
            guided = guides.loss(states, shown, plans)
            loss = (nats * WEIGHTS).mean() / WEIGHTS.mean() + guided
            if step % EVERY == 0:
                questions, pixels, shares = batches.askings(ASKED)
                said, ended = answer_loss(model, questions, pixels, shares, batches.id["eos"])
                loss = loss + 0.5 * said + 0.1 * ended
                seen[1] = said.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for one in optimizers:
            one.step()
            one.zero_grad(set_to_none=True)
        keep = min(MEAN, (step + 1) / (step + 10))
        with torch.no_grad():
            for to, new in zip(mean.parameters(), model.parameters(), strict=True):
                to.lerp_(new, 1 - keep)
        seen[0] = nats.mean().item()
        if step % 50 == 0:
            lost = f"code {seen[0]:.4f} guides {guided.item():.3f} answer {seen[1]:.4f}"
            print(f"language {step} {lost} {time.time() - start:.0f}s", flush=True)
        if step % 400 == 399 or step == steps - 1:
            save(mean, batches.processor, out, torch.float32)
    return mean


def save(model: JanusForConditionalGeneration, processor: JanusProcessor, out: Path, dtype: torch.dtype) -> None:
    """Model and processor as ``save_pretrained`` writes them."""
    copy.deepcopy(model).to(dtype).save_pretrained(out)
    processor.save_pretrained(out)


def _cosine(part: float) -> float:
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * part)) / 2


@torch.inference_mode()
def draw(model: JanusForConditionalGeneration, asked: list[int], pictures: int, generator: torch.Generator) -> Tensor:
    """Codes (pictures, codes) from one prompt, without guidance."""
    from transformers import DynamicCache

    cache = DynamicCache()
    embedded = model.get_input_embeddings()(torch.tensor([asked])).expand(pictures, -1, -1)
    drawn: list[Tensor] = []
    for _ in range(CODES):
        step = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
        shares = model.model.generation_head(step.last_hidden_state[:, -1]).float().softmax(-1)
        drawn.append(torch.multinomial(shares, 1, generator=generator)[:, 0])
        embedded = model.prepare_embeddings_for_image_generation(drawn[-1][:, None])
    return torch.stack(drawn, 1)


def pixels_of(model: JanusForConditionalGeneration, codes: Tensor) -> Tensor:
    """Pictures in [-1, 1], channels first."""
    with torch.inference_mode():
        return torch.cat([model.model.vqmodel.decode(part) for part in codes.split(160)]).clamp(-1, 1)
