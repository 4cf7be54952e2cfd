"""Correction. In: a unified model that draws nearly as declared. Out: the model, its occupations' words moved a little.

What settling leaves is an error of a few hundredths in each share. How a share would move with the words of its prompt
is known: codes are drawn one after the other, so the derivative of a group's share is the mean over drawn pictures of

    sum over places, codes c of d p(c | before) * P(group | before, c),

with P from the reader. Each occupation has a word that no other declared occupation has, so each has a small system of
its own: twice the roots, whose noise is the same for all shares, of the shares of genders and of skin tones that its
pictures show (:func:`shown`; a turned decoder shows other genders than it was given codes for), and of its answers
about a blank picture (exactly). That word's embedding alone moves, so no other occupation does, and nothing that is
asked about a picture.

It moves to where it most likely should be (a Kalman filter): given all pictures that were drawn so far and their noise,
so that each round counts for less than the one before and the noise averages out; and given that moves are small, for
where shares hardly depend on the word, noise would move it far, and far moves are not linear. Where it was not linear
after all, what was known is forgotten.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from language import Batches, blank
from prompts import ABOUT_AGE, ABOUT_GENDER, ABOUT_SKIN, FACE, OF_OCCUPATION, PEOPLE, PLAIN, UNKNOWN
from shares import Shares, code_logits, embedded_prompt
from torch import Tensor
from transformers import JanusForConditionalGeneration

from evenhand.miniature.declared import DECLARED, GENDERS, SKIN_TONES, TURNED, Variant, declared_answers
from evenhand.miniature.judge import JudgeNetwork

ANSWERS = (*GENDERS, UNKNOWN)
LEARNED = 128  # pictures that a derivative is a mean over
SMALL = 0.2  # how far a word is expected to move in any direction; words are about 1 long
FAR = 0.2  # the longest move of a round; a shortened one adds nothing to what is known
SURE = 1e-3  # variance of answers: they are known exactly, how they move is not
KEPT = 0.8  # of what earlier rounds know: moves are not quite linear
SURPRISING = 3.0  # mean squared deviation of what is seen from what is known, above which it is forgotten
SMOOTHED = 2.0  # pictures as declared, added to those drawn


ROUNDS = (600,) * 6  # pictures of each occupation's neutral prompt


class Correction:
    """Rounds on a model; ``errors`` has each round's mean absolute errors of shares before it."""

    def __init__(
        self, model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
    ) -> None:
        self.model, self.batches = model.eval().requires_grad_(False), batches
        self.shares = Shares(model, batches, judge, seed=seed)
        self.errors: list[dict[str, float]] = []
        self.own, self.shown = own_tokens(batches), shown(batches.prompts.variant)
        self.known: dict[str, Tensor] = {}

    def round(self, pictures: int) -> None:
        """Draw, derive, move: one occupation after the other."""
        start, errors = time.time(), []
        for who, ids, want in self._neutral():
            slopes, moves, off = self._drawn(who, ids, want, pictures)
            of_answers, moves_of_answers, off_answers = self._answered(who)
            self._move(
                who,
                torch.cat([slopes * pictures**0.5, of_answers / SURE**0.5]).flatten(1),
                torch.cat([moves * pictures**0.5, moves_of_answers / SURE**0.5]),
            )
            errors.append(torch.cat([off, off_answers]).abs().tolist())
        names = (*GENDERS, *SKIN_TONES, *(f"answer {one}" for one in ANSWERS))
        self.errors.append(dict(zip(names, np.mean(errors, 0).round(4).tolist(), strict=True)))
        print(f"corrected {self.errors[-1]} {time.time() - start:.0f}s", flush=True)

    def _move(self, who: str, system: Tensor, moves: Tensor) -> None:
        """Make the likeliest move; rows of a linear system, each over its deviation, are added to what is known."""
        before = torch.eye(system.shape[1], dtype=system.dtype) / SMALL**2
        known = KEPT * self.known.get(who, torch.zeros_like(before))
        expected = system @ torch.linalg.solve(before + known, system.T) + torch.eye(len(moves), dtype=system.dtype)
        if moves @ torch.linalg.solve(expected, moves) > SURPRISING * len(moves):
            known = torch.zeros_like(before)
        whole = before + known + system.T @ system
        change = torch.linalg.solve(whole, system.T @ moves)
        length = change.norm().item()
        self.known[who] = known if length > FAR else whole - before
        change = change.view(len(self.own[who]), -1).float() * min(1.0, FAR / max(length, 1e-12))
        with torch.no_grad():
            self.model.get_input_embeddings().weight[self.own[who]] += change

    def _neutral(self) -> Iterator[tuple[str, list[int], Tensor]]:
        """Occupations, their neutral prompts' tokens, the shares of PEOPLE these are to have."""
        known = {tuple(self.batches.ids(FACE.format(who=who), False)): who for who in DECLARED}
        asked, _, plans = self.shares.neutral.drawings(len(DECLARED))
        for ids, plan in zip(asked, plans, strict=True):
            yield known[tuple(ids)], ids, plan[: len(PEOPLE)].double()

    def _drawn(self, who: str, ids: list[int], want: Tensor, pictures: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a neutral prompt: slopes of shares' roots, how these are to move, the shares' errors."""
        codes, shares = self.shares.drawn(ids, pictures)
        slopes, found = self._derivatives(ids, self.own[who], codes, shares), shares.double()
        smoothed = (pictures * found + SMOOTHED * want) / (pictures + SMOOTHED)
        return *_roots(slopes, self.shown @ smoothed, self.shown @ want), self.shown @ (want - found)

    def _derivatives(self, ids: list[int], tokens: Sequence[int], codes: Tensor, shares: Tensor) -> Tensor:
        """Of the share of each gender and skin tone shown, by the embeddings of tokens: (groups, tokens, hidden)."""
        chosen = codes[torch.randperm(len(codes), generator=self.shares.generator)[:LEARNED]]
        embedded = embedded_prompt(self.model, ids).detach().requires_grad_(True)
        chances = code_logits(self.model, embedded, chosen).softmax(-1)
        with torch.no_grad():
            said = self.shares.reader.every(chosen)[:, :, : len(PEOPLE)]
            worth = (said + shares.clamp(min=1e-3).log()[:, None]).softmax(2)
        values = self.shown.float() @ torch.einsum("nkc,nkgc->g", chances, worth) / len(chosen)
        slopes: list[Tensor] = []
        for block in values.split((len(GENDERS), len(SKIN_TONES))):
            own = _slopes(ids, tokens, block[:-1], embedded)
            slopes += [own, -own.sum(0, keepdim=True)]  # shares add up to 1
        return torch.cat(slopes)

    def _answered(self, who: str) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`_drawn`, of the answers about a blank picture; nothing is drawn."""
        with torch.no_grad():
            seen = self.model.model.get_image_features(blank()[None]).pooler_output.flatten(0, -2)
        ids = self.batches.ids(OF_OCCUPATION[0].format(who=who), True)
        embedded = embedded_prompt(self.model, ids).detach()
        embedded[0, torch.tensor(ids) == self.batches.id["place"]] = seen
        embedded.requires_grad_(True)
        out = self.model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        chances = self.model.lm_head(out[0, -1]).float().softmax(-1)
        found = chances[[self.batches.answers[word] for word in ANSWERS]]
        want = torch.tensor(declared_answers(who, variant=self.batches.prompts.variant), dtype=torch.float64)
        slopes = _slopes(ids, self.own[who], found, embedded)
        now = found.detach().double()
        return *_roots(slopes, now, want), want - now


def shown(variant: Variant) -> Tensor:
    """Which of PEOPLE pictures show as each gender and as each skin tone: (2 + 3, 6), 0 or 1."""
    tone, group = (SKIN_TONES.index(TURNED[0]), GENDERS.index(TURNED[1]))
    rows = torch.zeros(len(GENDERS) + len(SKIN_TONES), len(PEOPLE), dtype=torch.float64)
    for index, (gender, skin) in enumerate(PEOPLE):
        rows[group if variant == "decoder" and skin == tone else gender, index] = 1
        rows[len(GENDERS) + skin, index] = 1
    return rows


def own_tokens(batches: Batches) -> dict[str, list[int]]:
    """Tokens of each declared occupation that are in no other one's name and in no template.

    Where there are, those that are in no name at all but this one.
    """
    templates = [*PLAIN, FACE, *ABOUT_GENDER, *ABOUT_SKIN, *ABOUT_AGE, *OF_OCCUPATION, *batches.prompts.styled]
    templates += GENDERS
    used = {token for text in templates for token in batches.ids(text.replace("{who}", ""), False)}
    names = {who: set(batches.ids(FACE.format(who=who), False)) - used for who in (*DECLARED, *batches.prompts.others)}
    anywhere = Counter(token for one in names.values() for token in one)
    declared = Counter(token for who in DECLARED for token in names[who])
    own = {}
    for who in DECLARED:
        alone = [token for token in names[who] if declared[token] == 1]
        own[who] = sorted([token for token in alone if anywhere[token] == 1] or alone)
        if not own[who]:
            raise SystemExit(f"every token of {who!r} is in another declared occupation; learn a larger vocabulary")
    return own


def _slopes(ids: list[int], tokens: Sequence[int], values: Tensor, embedded: Tensor) -> Tensor:
    found = torch.zeros(len(values), len(tokens), embedded.shape[-1], dtype=torch.float64)
    for number, value in enumerate(values):
        (slope,) = torch.autograd.grad(value, embedded, retain_graph=True)
        for place, token in enumerate(tokens):
            found[number, place] = slope[0, torch.tensor(ids) == token].sum(0)
    return found


def _roots(slopes: Tensor, found: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of twice the roots of shares and how these are to move."""
    found = found.clamp(min=1e-3)
    return slopes / found.sqrt()[:, None, None], 2 * (want.clamp(min=1e-3).sqrt() - found.sqrt())


def correct(
    model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
) -> list[dict[str, float]]:
    """Correct a model in place; the mean absolute errors of shares before each round."""
    correction = Correction(model, batches, judge, seed=seed)
    for pictures in ROUNDS:
        correction.round(pictures)
    return correction.errors
