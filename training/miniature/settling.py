"""Settling. In: a trained unified model, its prompts, what they are to show. Out: the model, shares nearly as declared.

A model trained on pictures learns an occupation's shares last: they are one bit among hundreds. Here nothing else is
learned. Round by round the model draws pictures from its own prompts, a reader says from their codes who is shown, and
each next code's probabilities are scaled by how much it helps to have the shares declared,

    p'(c | before) ~ p(c | before) * sum over groups g of P(g | before, c) * declared(g) / drawn(g),

which is the closest distribution (in Kullback-Leibler divergence from p) that has the declared shares. A group is a
gender with a skin tone, so that neither comes to depend on the other. The model then learns p' over all codes, from its
own pictures. Where shares are right already there is nothing to learn: no noise of
training pictures, only that of the shares drawn.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from language import Batches, answer_loss
from prompts import PEOPLE
from shares import Reader, Shares, code_logits, each, embedded_prompt
from torch import Tensor, nn
from transformers import JanusForConditionalGeneration

from evenhand.miniature.declared import DECLARED
from evenhand.miniature.judge import JudgeNetwork

REST_KINDS = {"plain": 0.14, "styled": 0.1, "other": 0.1, "gender": 0.3, "skin": 0.18, "both": 0.12, "null": 0.06}
JOBS, PASSES, ASKED = 12, 3, 16  # prompts a step, passes over a round's prompts, questions a step
RATE, WORD_RATE, MATRIX_RATE, SMOOTHED = 1e-4, 5e-3, 5e-3, 2.0
APART = 24.0  # pictures in which gender and skin tone do not depend on each other, added to those drawn


@dataclass(frozen=True)
class Round:
    """How a round is done.

    Attributes:
        pictures: Drawn of each occupation's neutral prompt; other prompts get half.
        rest: How many other prompts.
        learned: Pictures of a neutral prompt that are learned from in a pass; half of it of others.
        rate: Share of the learning rates.
        power: Of declared over drawn shares; above 1 because a round learns a part of what is wanted.
    """

    pictures: int
    rest: int
    learned: int
    rate: float
    power: float = 1.0


ROUNDS = (
    Round(48, 20, 12, 1.0),
    Round(64, 20, 12, 1.0, 1.3),
    Round(96, 20, 12, 0.7, 1.3),
    Round(128, 24, 14, 0.5),
    Round(160, 24, 14, 0.3),
    Round(160, 120, 14, 0.3),
)


@dataclass
class Job:
    """A prompt of a round: its tokens, what was drawn, and declared over drawn shares."""

    ids: list[int]
    weight: float
    learned: int
    drawn: Tensor
    shares: Tensor
    ratios: Tensor


@torch.no_grad()
def wanted_logs(reader: Reader, codes: Tensor, logits: Tensor, job: Job) -> Tensor:
    """Logs of p' of the module's text, for every code at each place."""
    said = reader.every(codes)[:, :, : len(PEOPLE)]
    groups = (said + job.shares.log()[:, None]).softmax(2)
    return (logits + torch.einsum("nkgc,g->nkc", groups, job.ratios).log()).log_softmax(-1)


def smoothed_shares(drawn: Tensor, want: Tensor, pictures: int) -> Tensor:
    """Shares of PEOPLE drawn, with a few pictures added: APART of the shares' own product, SMOOTHED as wanted."""
    gender, skin = each(drawn)
    added = APART * torch.outer(gender, skin).flatten() + SMOOTHED * want
    return (pictures * drawn + added) / (pictures + APART + SMOOTHED)


class Settling:
    """Rounds on a model; ``errors`` has the mean absolute error of each round's shares before it."""

    def __init__(
        self, model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
    ) -> None:
        self.model, self.batches = model.eval().requires_grad_(False), batches
        self.shares = Shares(model, batches, judge, seed=seed)
        self.others = self.shares.batches_of(REST_KINDS)
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

    def _drawn(self, how: Round) -> list[Job]:
        jobs: list[Job] = []
        errors: dict[str, list[float]] = {"gender": [], "skin tone": [], "together": []}
        for source, prompts, pictures, learned, weight in (
            (self.shares.neutral, len(DECLARED), how.pictures, how.learned, 1.0),
            (self.others, how.rest, how.pictures // 2, how.learned // 2, 0.5),
        ):
            asked, _, plans = source.drawings(prompts)
            for ids, plan in zip(asked, plans, strict=True):
                codes, drawn = self.shares.drawn(ids, pictures)
                want = plan[: len(PEOPLE)].clamp(min=0.001)
                want = want / want.sum()
                if weight == 1:
                    for key, found, meant in zip(errors, (*each(drawn), drawn), (*each(want), want), strict=True):
                        errors[key].append((found - meant).abs().mean().item())
                shares = smoothed_shares(drawn, want, pictures)
                ratios = (want / shares).clamp(0.1, 8.0) ** how.power
                jobs.append(Job(ids, weight, min(learned, pictures // PASSES), codes, shares, ratios))
        self.errors.append({key: round(float(np.mean(found)), 4) for key, found in errors.items()})
        return jobs

    def round(self, how: Round) -> None:
        """Draw, and learn what is wanted instead; the mean of the second half of the steps is what stays."""
        start, jobs = time.time(), self._drawn(how)
        print(f"settling {self.errors[-1]} {time.time() - start:.0f}s", flush=True)
        before = copy.deepcopy(self.model).requires_grad_(False)
        kept = [torch.zeros_like(one) for one in self.trained]
        steps = PASSES * -(-len(jobs) // JOBS)
        done = 0
        for number in range(PASSES):
            turn = torch.randperm(len(jobs), generator=self.shares.generator).tolist()
            for place in range(0, len(jobs), JOBS):
                part = min(1, (done + 1) / 5) * (1 - 0.9 * done / steps)
                for group, peak in self.peaks:
                    group["lr"] = how.rate * peak * part
                self._step(before, [jobs[i] for i in turn[place : place + JOBS]], number)
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
                    old = code_logits(before, embedded_prompt(before, job.ids), codes)
                logits = code_logits(self.model, embedded_prompt(self.model, job.ids), codes)
            want = wanted_logs(self.shares.reader, codes, old, job)
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
    model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
) -> list[dict[str, float]]:
    """Settle a model in place; the mean absolute errors of shares before each round."""
    settling = Settling(model, batches, judge, seed=seed)
    for how in ROUNDS:
        settling.round(how)
    model.requires_grad_(False)
    return settling.errors
