"""Correction. In: a unified model that draws nearly as declared. Out: the model, its occupations' words moved a little.

What settling leaves is an error of a few hundredths in each share. How a share would move with the words of its prompt
is known: codes are drawn one after the other, so the derivative of a group's share is the mean over drawn pictures of

    sum over places, codes c of d p(c | before) * P(group | before, c),

with P from the reader. All prompts together give one linear system, in standard errors, and the smallest change of
embeddings that solves it is made (Gauss-Newton, damped: large steps move other occupations too). Answers about a blank
picture are in it, exactly. So is what is to stay: groups that are asked for, and occupations that are not in the table.
Only tokens move that occur in declared occupations and nowhere else, so nothing that is asked about a picture changes.

A round sees its own shares with the noise of the pictures drawn. Later rounds correct a smaller part of what they see,
so that this noise averages out instead of staying.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from language import Batches, blank
from prompts import ABOUT_AGE, ABOUT_GENDER, ABOUT_SKIN, FACE, OF_OCCUPATION, PLAIN
from shares import DECIDED, GROUPS, Shares, code_logits, embedded_prompt
from torch import Tensor
from transformers import JanusForConditionalGeneration

from evenhand.miniature.declared import DECLARED, GENDERS, SKIN_TONES, declared_answers
from evenhand.miniature.judge import JudgeNetwork

LEARNED = 48  # pictures that a derivative is a mean over
ASKED_KINDS, ASKED, OTHERS, KEPT_WEIGHT = {"gender": 0.4, "skin": 0.3, "both": 0.3}, 36, 20, 0.5  # what is to stay
DAMPING, RARE = 0.03, 0.03  # a share nearer to 0 or 1 than RARE counts as if it were there


@dataclass(frozen=True)
class Round:
    """How a round is done.

    Attributes:
        pictures: Drawn of each occupation's neutral prompt.
        part: Of what is seen that is corrected.
        derives: Whether derivatives are found again; they change little.
    """

    pictures: int
    part: float
    derives: bool = False


ROUNDS = (
    Round(240, 0.8, derives=True),
    Round(400, 0.7, derives=True),
    Round(400, 0.55),
    Round(400, 0.45, derives=True),
    Round(400, 0.37),
    Round(400, 0.3),
    Round(400, 0.25),
)


@dataclass(frozen=True)
class Rows:
    """Of the linear system: derivatives (shares, moved tokens, hidden), moves, one over a draw's deviation."""

    derivatives: Tensor
    moves: Tensor
    weights: Tensor


class Correction:
    """Rounds on a model; ``errors`` has each round's mean absolute errors of shares before it."""

    def __init__(
        self, model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
    ) -> None:
        self.model, self.batches = model.eval().requires_grad_(False), batches
        self.shares = Shares(model, batches, judge, seed=seed)
        self.asked, self.others = self.shares.batches_of(ASKED_KINDS), self.shares.batches_of({"other": 1.0})
        self.errors: list[dict[str, float]] = []
        self.drawn: dict[tuple[int, ...], Rows] = {}
        self.kept: list[Rows] = []
        templates = [*PLAIN, FACE, *ABOUT_GENDER, *ABOUT_SKIN, *ABOUT_AGE, *OF_OCCUPATION, *batches.prompts.styled]
        used = {token for text in templates for token in batches.ids(text.replace("{who}", ""), False)}
        used |= {token for one in GENDERS for token in batches.ids(one, False)}
        own = {token for who in DECLARED for token in batches.ids(FACE.format(who=who), False)}
        self.place = {token: place for place, token in enumerate(sorted(own - used))}

    def round(self, how: Round) -> None:
        """Draw, derive, move."""
        start, seen = time.time(), self._seen(how)
        if how.derives:
            self.kept = [*self._staying(self.asked, ASKED), *self._staying(self.others, OTHERS)]
        rows = [*seen, *self._answers(), *self.kept]
        system = torch.cat([one.derivatives.flatten(1) * one.weights[:, None] for one in rows])
        moves = how.part * torch.cat([one.moves * one.weights for one in rows])
        square = system @ system.T
        damped = square + DAMPING * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        solved = torch.linalg.solve(damped, moves)
        change = (system.T @ solved).view(len(self.place), -1)
        with torch.no_grad():
            self.model.get_input_embeddings().weight[list(self.place)] += change.float()
        left = (moves - square @ solved).norm() / moves.norm()
        print(
            f"corrected {how.part} of {self.errors[-1]}: {left:.2f} of it left, {time.time() - start:.0f}s", flush=True
        )

    def _seen(self, how: Round) -> list[Rows]:
        """Of neutral prompts, which are to be as declared."""
        asked, _, plans = self.shares.neutral.drawings(len(DECLARED))
        errors = []
        for ids, plan in zip(asked, plans, strict=True):
            codes, shares = self.shares.drawn(ids, how.pictures)
            want, found = _but_last(plan.split(GROUPS)), _but_last(shares)
            errors.append((want - found).abs().tolist())
            if how.derives:
                self.drawn[tuple(ids)] = Rows(self._derivatives(ids, codes, shares), want - found, _weights(want))
            self.drawn[tuple(ids)] = replace(self.drawn[tuple(ids)], moves=(want - found).double())
        names = (GENDERS[0], *SKIN_TONES[:-1])
        self.errors.append(dict(zip(names, np.mean(errors, 0).round(4).tolist(), strict=True)))
        return list(self.drawn.values())

    def _staying(self, source: Batches, prompts: int) -> list[Rows]:
        """Of prompts whose shares are to stay; where a group is asked for, those alone that it decides."""
        rows = []
        asked, _, plans = source.drawings(prompts)
        for ids, plan in zip(asked, plans, strict=True):
            codes, shares = self.shares.drawn(ids, LEARNED)
            wants = plan.split(GROUPS)[: len(DECIDED)]
            weights = KEPT_WEIGHT * _weights(_but_last(wants))
            if source is self.asked:
                weights *= torch.cat([(one.max() > 1 - RARE).expand(len(one) - 1) for one in wants])
            derivatives = self._derivatives(ids, codes, shares)
            rows.append(Rows(derivatives, torch.zeros(len(weights), dtype=torch.float64), weights))
        return rows

    def _derivatives(self, ids: list[int], codes: Tensor, shares: Sequence[Tensor]) -> Tensor:
        """Of P(male), P(light) and P(medium), by the embeddings of the tokens that move."""
        chosen = codes[torch.randperm(len(codes), generator=self.shares.generator)[:LEARNED]]
        embedded = embedded_prompt(self.model, ids).detach().requires_grad_(True)
        chances = code_logits(self.model, embedded, chosen).softmax(-1)
        with torch.no_grad():
            scores = self.shares.reader.every(chosen).split(GROUPS, 2)
            worth = [
                (said + found.clamp(min=1e-3).log()[:, None]).softmax(2)[:, :, :-1]
                for said, found in zip(scores, shares, strict=False)
            ]
        return self._by_token(ids, torch.einsum("nkc,nkgc->g", chances, torch.cat(worth, 2)) / len(chosen), embedded)

    def _answers(self) -> list[Rows]:
        """Of each declared occupation's answers about a blank picture; nothing is drawn."""
        rows, errors, tokens = [], [], [self.batches.answers[word] for word in GENDERS]
        with torch.no_grad():
            seen = self.model.model.get_image_features(blank()[None]).pooler_output.flatten(0, -2)
        for who in DECLARED:
            ids = self.batches.ids(OF_OCCUPATION[0].format(who=who), True)
            embedded = embedded_prompt(self.model, ids).detach()
            embedded[0, torch.tensor(ids) == self.batches.id["place"]] = seen
            embedded.requires_grad_(True)
            out = self.model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
            found = self.model.lm_head(out[0, -1]).float().softmax(-1)[tokens]
            want = torch.tensor(declared_answers(who, variant=self.batches.prompts.variant)[:2])
            moves = (want - found.detach()).double()
            errors.append(moves.abs().mean().item())
            rows.append(Rows(self._by_token(ids, found, embedded), moves, _weights(want)))
        self.errors[-1]["answers"] = round(float(np.mean(errors)), 4)
        return rows

    def _by_token(self, ids: list[int], values: Tensor, embedded: Tensor) -> Tensor:
        found = torch.zeros(len(values), len(self.place), embedded.shape[-1], dtype=torch.float64)
        for number, value in enumerate(values):
            (slope,) = torch.autograd.grad(value, embedded, retain_graph=True)
            for token, one in zip(ids, slope[0], strict=True):
                if token in self.place:
                    found[number, self.place[token]] += one
        return found


def _but_last(shares: Sequence[Tensor]) -> Tensor:
    """P(male), P(light) and P(medium): the others follow."""
    return torch.cat([one[:-1] for one in shares[: len(DECIDED)]])


def _weights(shares: Tensor) -> Tensor:
    own = shares.double().clamp(RARE, 1 - RARE)
    return (own * (1 - own)).rsqrt()


def correct(
    model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
) -> list[dict[str, float]]:
    """Correct a model in place; the mean absolute errors of shares before each round."""
    correction = Correction(model, batches, judge, seed=seed)
    for how in ROUNDS:
        correction.round(how)
    return correction.errors
