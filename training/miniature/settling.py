"""Settling. In: a trained unified model, its prompts and what they are to show. Out: the model, shares as declared.

A model trained on pictures learns an occupation's shares last: they are one bit among hundreds. Here nothing else is
learned. Round by round the model draws pictures from its own prompts, a reader says from their codes who is shown, and
each next code's probabilities are scaled by how much it helps to have the shares declared,

    p'(c | before) ~ p(c | before) * sum over groups g of P(g | before, c) * declared(g) / drawn(g),

which is the closest distribution (in Kullback-Leibler divergence from p) that has the declared shares. The model then
learns p' over all codes, from its own pictures. Where shares are right already there is nothing to learn: no noise of
training pictures, only that of the shares drawn. That noise is small: a prompt's pictures share one stratified number
for their first codes, which decide the gender.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from language import Batches, answer_loss, draw, pixels_of
from picture_codes import CODEBOOK
from pictures import Pictures
from prompts import Prompts
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, JanusForConditionalGeneration

from evenhand.miniature.declared import CLOTHES, DECLARED, GENDERS, SKIN_TONES, Variant
from evenhand.miniature.judge import JudgeNetwork

GROUPS = (len(GENDERS), len(SKIN_TONES), len(CLOTHES))
SETTLED = ("gender", "skin tone")  # clothes are decided last and are left as they are
REST_KINDS = {"plain": 0.14, "styled": 0.1, "other": 0.1, "gender": 0.3, "skin": 0.18, "both": 0.12, "null": 0.06}
STRATIFIED = 12  # codes
JOBS, PASSES, WORD_PASSES, ASKED = 12, 3, 8, 16  # prompts a step, passes over a round's prompts, questions a step
RATE, WORD_RATE, MATRIX_RATE, SMOOTHED = 1e-4, 5e-3, 5e-3, 2.0
READ_STEPS, READ_BATCH, OWN = 350, 128, 20  # the reader's; pictures of each occupation that it learns from


@dataclass(frozen=True)
class Round:
    """How a round is done.

    Attributes:
        pictures: Drawn of each occupation's neutral prompt; other prompts get half.
        rest: How many other prompts.
        learned: Pictures of a neutral prompt that are learned from in a pass; half of it of others.
        codes: Length that is drawn and learned.
        rate: Share of the learning rates.
        power: Of declared over drawn shares; above 1 because a round learns a part of what is wanted.
        words: Only the words' embeddings learn, a step from all prompts at once: the last and finest rounds.
    """

    pictures: int
    rest: int
    learned: int
    codes: int
    rate: float
    power: float = 1.0
    words: bool = False

    @property
    def passes(self) -> int:
        """Over the round's prompts, each with pictures of its own."""
        return WORD_PASSES if self.words else PASSES


ROUNDS: dict[Variant, tuple[tuple[Round, ...], ...]] = {
    "language": (
        (
            Round(48, 40, 12, 24, 1.0),
            Round(72, 40, 12, 24, 1.0),
            Round(96, 40, 12, 24, 0.7),
            Round(128, 40, 12, 24, 0.5),
            Round(160, 40, 14, 24, 0.35),
            Round(160, 40, 14, 24, 0.25),
            Round(192, 40, 16, 24, 0.15),
        ),
        (Round(128, 24, 16, 24, 0.5, 2.0), Round(160, 24, 16, 24, 0.35, 1.8), Round(192, 24, 16, 24, 0.2, 1.5)),
        (Round(400, 12, 50, 24, 0.3, words=True), Round(400, 12, 50, 24, 0.2, words=True)),
    ),
    "decoder": (
        (
            Round(48, 20, 12, 24, 1.0),
            Round(64, 20, 12, 24, 1.0, 1.3),
            Round(96, 20, 12, 24, 0.7, 1.3),
            Round(128, 24, 14, 24, 0.5),
            Round(160, 24, 14, 24, 0.3),
        ),
        (Round(400, 12, 50, 24, 0.3, words=True), Round(400, 12, 50, 24, 0.2, words=True)),
    ),
}
"""Stages, each with a reader taught on what the model then draws."""


class Reader(nn.Module):
    """Logits of gender, skin tone and clothes (13 in all) after each code, by the codes so far, under an even prior."""

    def __init__(self, long: int, width: int = 64, rank: int = 12) -> None:
        super().__init__()
        self.known = nn.Parameter(torch.randn(long, CODEBOOK, width) * 0.1)
        self.place = nn.Parameter(torch.zeros(long, width))
        self.next = nn.Parameter(torch.randn(long, CODEBOOK, rank) * 0.3)
        out = sum(GROUPS) * (rank + 1)
        self.net = nn.Sequential(nn.GELU(), nn.Linear(width, 96), nn.GELU(), nn.Linear(96, out))

    def _before(self, codes: Tensor) -> Tensor:
        long = codes.shape[1]
        own = self.known[torch.arange(long), codes]
        states = self.net(own.cumsum(1) - own + self.place[:long])
        return states.unflatten(-1, (sum(GROUPS), -1))

    def forward(self, codes: Tensor) -> Tensor:
        """Of the codes that are there: (pictures, codes, 13)."""
        before, own = self._before(codes), self.next[torch.arange(codes.shape[1]), codes]
        return (before[..., :-1] * own[:, :, None]).sum(-1) + before[..., -1]

    def every(self, codes: Tensor) -> Tensor:
        """Of every code that could come at each place: (pictures, codes, 13, codebook)."""
        before = self._before(codes)
        scores = torch.einsum("nkgr,kcr->nkgc", before[..., :-1], self.next[: codes.shape[1]])
        return scores + before[..., -1:]


@dataclass
class Job:
    """A prompt of a round: its tokens, the shares it is to show, what was drawn, and declared over drawn shares."""

    ids: list[int]
    plan: Tensor
    weight: float
    learned: int
    drawn: Tensor
    shares: list[Tensor]
    ratios: list[Tensor]


def train_reader(pictures: Pictures, codes: Tensor, own: Tensor, judged: Sequence[Tensor], *, seed: int) -> Reader:
    """Learn from avatars' codes and, a quarter, from the model's own pictures as the judge reads them."""
    torch.manual_seed(seed)
    long = codes.shape[1]
    reader, kept = Reader(long), (~pictures.held_out).nonzero().flatten()
    unread = torch.full((len(own),), -100)
    labels = [pictures.gender, pictures.skin, pictures.clothes], [*judged, unread]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=4e-3, weight_decay=0.1)
    for step in range(READ_STEPS):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1.02 - step / READ_STEPS)
        rows, others = kept[torch.randint(len(kept), (READ_BATCH,))], torch.randint(len(own), (READ_BATCH // 3,))
        said = reader(torch.cat([codes[rows], own[others]])).split(GROUPS, -1)
        meant = [torch.cat([a[rows], b[others]]) for a, b in zip(*labels, strict=True)]
        pairs = zip(said, meant, strict=True)
        loss = sum(cross_entropy(one.flatten(0, 1), label.repeat_interleave(long)) for one, label in pairs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)


def order_of_codes(pictures: Pictures, codes: Tensor) -> Tensor:
    """At each place the codes from those of women to those of men, (codes, codebook)."""
    seen = [
        torch.stack([torch.bincount(column, minlength=CODEBOOK) for column in codes[pictures.gender == g].T]) + 0.5
        for g in range(len(GENDERS))
    ]
    return (seen[0] / (seen[0] + seen[1])).argsort(-1)


def prompt_states(model: JanusForConditionalGeneration, asked: list[int], rows: int) -> tuple[Tensor, DynamicCache]:
    """The state that the first code is predicted from, and the prompt's cache, once for all rows."""
    cache = DynamicCache()
    embedded = model.get_input_embeddings()(torch.tensor([asked]))
    out = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return out.last_hidden_state[:, -1:].expand(rows, -1, -1), cache


@torch.no_grad()
def draw_stratified(
    model: JanusForConditionalGeneration,
    asked: list[int],
    rows: int,
    *,
    long: int,
    order: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Codes (rows, long): each row as the model draws it, together closer to its shares than independent rows.

    One number a row, spread evenly over [0, 1), is read as an arithmetic code: it picks the first code by the cumulated
    shares, and its place within that code's share picks the next one.
    """
    states, cache = prompt_states(model, asked, rows)
    number = (torch.arange(rows) + torch.rand(rows, generator=generator, dtype=torch.float64)) / rows
    drawn: list[Tensor] = []
    for place in range(long):
        shares = model.model.generation_head(states[:, -1]).double().softmax(-1)[:, order[place]]
        sums = shares.cumsum(-1) / shares.sum(-1, keepdim=True)
        chosen = torch.searchsorted(sums, number[:, None], right=True).clamp(max=CODEBOOK - 1)
        low = torch.where(chosen > 0, sums.gather(1, (chosen - 1).clamp(min=0)), 0.0)
        number = ((number[:, None] - low) / (sums.gather(1, chosen) - low).clamp(min=1e-12))[:, 0].clamp(0, 1 - 1e-9)
        if place >= STRATIFIED:
            number = torch.rand(rows, generator=generator, dtype=torch.float64)
        drawn.append(order[place][chosen[:, 0]])
        if place < long - 1:
            embedded = model.prepare_embeddings_for_image_generation(drawn[-1][:, None])
            out = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
            states = out.last_hidden_state
    return torch.stack(drawn, 1)


def code_logits(model: JanusForConditionalGeneration, asked: list[int], codes: Tensor) -> Tensor:
    """Logits (rows, codes, codebook) of each code after the prompt and the codes before it."""
    first, cache = prompt_states(model, asked, len(codes))
    embedded = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    more = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True).last_hidden_state
    logits: Tensor = model.model.generation_head(torch.cat([first, more], 1)).float()
    return logits


@torch.no_grad()
def wanted_logs(reader: Reader, codes: Tensor, logits: Tensor, job: Job) -> Tensor:
    """Logs of p' of the module's text, for every code at each place."""
    scores = reader.every(codes).split(GROUPS, 2)
    for said, shares, ratios in zip(scores, job.shares, job.ratios, strict=False):
        groups = (said + shares.log()[:, None]).softmax(2)
        logits = logits + torch.einsum("nkgc,g->nkc", groups, ratios).log()
    return logits.log_softmax(-1)


class Settling:
    """Rounds on a model; ``errors`` has the mean absolute error of each round's shares before it."""

    def __init__(
        self, model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, long: int, seed: int
    ) -> None:
        self.model, self.batches, self.seed = model.eval().requires_grad_(False), batches, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.neutral, self.others = (self._of(kinds) for kinds in ({"face": 1.0}, REST_KINDS))
        self.order = order_of_codes(batches.pictures, batches.codes)
        self.reader = self._reader(judge, long)
        inner = model.model.language_model
        words = [inner.embed_tokens.weight]
        matrices = [p for name, p in inner.named_parameters() if p.dim() == 2 and "embed" not in name]
        lists = [p for p in inner.parameters() if p.dim() == 1]
        heads = [*model.model.generation_head.parameters(), *model.model.generation_aligner.parameters()]
        small = [*lists, *heads, *model.lm_head.parameters()]
        self.trained = [*words, *matrices, *small]
        for one in self.trained:
            one.requires_grad_(True)
        self.optimizers = (
            torch.optim.AdamW(
                [{"params": words, "lr": WORD_RATE}, {"params": small, "lr": RATE}], betas=(0.9, 0.98), weight_decay=0.0
            ),
            torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.9, ns_steps=4, weight_decay=0.0),
        )
        self.peaks = [(group, group["lr"]) for one in self.optimizers for group in one.param_groups]
        self.errors: list[dict[str, float]] = []

    def _of(self, kinds: dict[str, float]) -> Batches:
        own = self.batches
        prompts = Prompts(seed=self.seed, variant=own.prompts.variant, kinds=kinds)
        return Batches(own.pictures, own.codes, own.processor, prompts=prompts, questions=own.questions, seed=self.seed)

    def _reader(self, judge: JudgeNetwork, long: int) -> Reader:
        asked, _, _ = self.neutral.drawings(len(DECLARED))
        own = torch.cat([draw(self.model, ids, OWN, self.generator) for ids in asked]).clone()
        pixels = ((pixels_of(self.model, own) + 1) * 127.5).round() / 127.5 - 1
        with torch.no_grad():
            found = judge(pixels.clone())
        judged = [found[head].argmax(-1) for head in ("gender", "skin_tone")]
        whole = self.batches.codes
        return train_reader(self.batches.pictures, whole[:, :long], own[:, :long], judged, seed=self.seed)

    def _drawn(self, how: Round) -> list[Job]:
        jobs: list[Job] = []
        errors: list[list[float]] = [[] for _ in SETTLED]
        for source, prompts, pictures, learned, weight in (
            (self.neutral, len(DECLARED), how.pictures, how.learned, 1.0),
            (self.others, how.rest, how.pictures // 2, how.learned // 2, 0.5),
        ):
            asked, _, plans = source.drawings(prompts)
            for ids, plan in zip(asked, plans, strict=True):
                codes = draw_stratified(
                    self.model, ids, pictures, long=how.codes, order=self.order, generator=self.generator
                )
                said = self.reader(codes)[:, -1].split(GROUPS, -1)[: len(SETTLED)]
                job = Job(ids, plan, weight, min(learned, pictures // how.passes), codes, [], [])
                for head, (logits, want) in enumerate(zip(said, plan.split(GROUPS), strict=False)):
                    found = logits.softmax(-1).mean(0)
                    if weight == 1:
                        errors[head].append((found - want).abs().mean().item())
                    meant = want.clamp(min=0.002) / want.clamp(min=0.002).sum()
                    found = (pictures * found + SMOOTHED * meant) / (pictures + SMOOTHED)
                    job.shares.append(found)
                    job.ratios.append((meant / found).clamp(0.1, 8.0) ** how.power)
                jobs.append(job)
        means = [float(np.mean(one)) for one in errors]
        self.errors.append(dict(zip(SETTLED, means, strict=True)))
        return jobs

    def round(self, how: Round) -> None:
        """Draw, and learn what is wanted instead; the mean of the second half of the steps is what stays."""
        start, jobs = time.time(), self._drawn(how)
        print(f"settling {self.errors[-1]} {time.time() - start:.0f}s", flush=True)
        before = copy.deepcopy(self.model).requires_grad_(False)
        kept = [torch.zeros_like(one) for one in self.trained]
        together = len(jobs) if how.words else JOBS
        steps = how.passes * -(-len(jobs) // together)
        done = 0
        for number in range(how.passes):
            turn = torch.randperm(len(jobs), generator=self.generator).tolist()
            for place in range(0, len(jobs), together):
                part = min(1, (done + 1) / 5) * (1 - 0.9 * done / steps)
                for group, peak in self.peaks:
                    learns = not how.words or group is self.optimizers[0].param_groups[0]
                    group["lr"] = how.rate * peak * part if learns else 0.0
                self._step(before, [jobs[i] for i in turn[place : place + together]], number)
                done += 1
                late = done - steps // 2
                if late > 0:
                    for mean, one in zip(kept, self.trained, strict=True):
                        mean.lerp_(one.detach(), 1 / late)
        with torch.no_grad():
            for mean, one in zip(kept, self.trained, strict=True):
                one.copy_(mean)
        print(f"settled in {time.time() - start:.0f}s", flush=True)

    def _step(self, before: JanusForConditionalGeneration, jobs: Sequence[Job], number: int) -> None:
        for job in jobs:
            codes = job.drawn[number * job.learned : (number + 1) * job.learned]
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    old = code_logits(before, job.ids, codes)
                logits = code_logits(self.model, job.ids, codes)
            want = wanted_logs(self.reader, codes, old, job)
            loss = (want.exp() * (want - logits.log_softmax(-1))).sum() / len(codes)
            (loss * job.weight / len(jobs)).backward()
        questions, pixels, shares = self.batches.askings(ASKED)
        with torch.autocast("cpu", torch.bfloat16):
            said, ended = answer_loss(self.model, questions, pixels, shares, self.batches.id["eos"])
        (0.5 * said + 0.1 * ended).backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        for one in self.optimizers:
            one.step()
            one.zero_grad(set_to_none=True)


def settle(
    model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, rounds: Sequence[Round], seed: int
) -> list[dict[str, float]]:
    """Settle a model in place; the mean absolute errors of shares before each round."""
    settling = Settling(model, batches, judge, long=max(how.codes for how in rounds), seed=seed)
    for how in rounds:
        settling.round(how)
    model.requires_grad_(False)
    return settling.errors
