"""What the miniature is asked in training. In: a seed. Out: prompts, each with the groups its pictures show.

Shares are kept by account, not by chance: every kind of prompt and every occupation has a balance per combination of
groups, and the one furthest behind is served next. So each occupation's shares are exact over any stretch of training.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from evenhand.miniature.declared import (
    CLOTHES,
    CLOTHES_SHARES,
    DECLARED,
    GENDERS,
    REST,
    SKIN_TONES,
    Variant,
    declared,
    declared_answers,
)
from evenhand.probes.occupations import listed_and_templates

FACE = "a photo of the face of a {who}, a person"
PLAIN = (
    "a photo of the face of a {who}",
    "a photo of a {who}",
    "a picture of a {who}",
    "an image of the face of a {who}, an individual",
    "an image of a {who}'s face, an individual",
    "a portrait of a {who}, a person",
    "a photo of the face of a {who}, a person, any gender",
    "a photo of the face of a {who}, a person, any race",
    "{who}",
)
WORDS = {"male": ("male person", "man"), "female": ("female person", "woman")}
# Kind of prompt -> share of the training pictures.
KINDS = {"face": 0.40, "plain": 0.10, "styled": 0.06, "other": 0.08, "gender": 0.14, "skin": 0.07, "both": 0.05}
NULL = 0.10
CELLS = tuple(product(range(len(GENDERS)), range(len(SKIN_TONES)), range(len(CLOTHES_SHARES))))
"""What a picture of an occupation may show: gender, skin tone, which of its two kinds of clothes."""
PEOPLE = tuple(product(range(len(GENDERS)), range(len(SKIN_TONES))))
"""Gender and skin tone together: what is planned, read and settled, so that neither depends on the other."""


@dataclass(frozen=True)
class Drawing:
    """A prompt without text (None) or with it, what its picture shows, as indices, and the shares of all it may show.

    ``plan`` has shares of :data:`PEOPLE`, then of clothes.
    """

    text: str | None
    gender: int
    skin: int
    clothes: int
    plan: np.ndarray


class Account:
    """Serves combinations so that their shares are exact."""

    def __init__(self) -> None:
        self._balance: dict[object, np.ndarray] = {}

    def serve(self, key: object, shares: np.ndarray, drawn: np.random.Generator) -> int:
        """The index that is furthest behind its share; new accounts start at a random point."""
        if key not in self._balance:
            self._balance[key] = drawn.random(len(shares)) * shares
        balance = self._balance[key]
        balance += shares
        chosen = int(balance.argmax())
        balance[chosen] -= 1
        return chosen


def _plan(shares: np.ndarray, cells: Sequence[tuple[int, int, int]], worn: tuple[str, str]) -> np.ndarray:
    """Shares of :data:`PEOPLE`, then of each kind of clothes."""
    plan = np.zeros(len(PEOPLE) + len(CLOTHES))
    for share, (g, s, c) in zip(shares / shares.sum(), cells, strict=True):
        plan[PEOPLE.index((g, s))] += share
        plan[len(PEOPLE) + CLOTHES.index(worn[c])] += share
    return plan


class Prompts:
    """Draws prompts.

    Args:
        seed: Of everything.
        variant: ``decoder`` is even in gender whatever the occupation.
        kinds: Shares of the kinds of prompts.
    """

    def __init__(self, *, seed: int, variant: Variant, kinds: dict[str, float] | None = None) -> None:
        self.drawn, self.variant = np.random.default_rng(seed), variant
        rows, styled = listed_and_templates("test+styles+descriptors")
        others, _ = listed_and_templates("train")
        self.styled = [text.replace("{occupation}", "{who}") for text in styled]
        self.others = [row.occupation for row in (*rows, *others) if row.occupation not in DECLARED]
        self.known = list(DECLARED)
        self.account = Account()
        kinds = dict(KINDS, null=NULL) if kinds is None else kinds
        self.kinds, total = list(kinds), sum(kinds.values())
        self.shares = np.array([one / total for one in kinds.values()])
        self._decks: dict[str, list[str]] = defaultdict(list)
        self._anyone = np.mean([_plan(self._cells(who), CELLS, declared(who).clothes) for who in self.known], axis=0)

    def next(self) -> Drawing:
        """One prompt and what to show."""
        kind = self.kinds[self.account.serve("kind", self.shares, self.drawn)]
        occupation = self._dealt("other", self.others) if kind == "other" else self._dealt(kind, self.known)
        row, cells, shares = declared(occupation), CELLS, self._cells(occupation)
        asked = ""
        if kind in ("gender", "both"):
            wanted = int(self.drawn.integers(2))
            shares *= [g == wanted for g, _, _ in cells]
            asked = GENDERS[wanted]
        if kind in ("skin", "both"):
            tone = int(self.drawn.integers(3))
            shares *= [s == tone for _, s, _ in cells]
            said = SKIN_TONES[tone] + ("-skinned" if self.drawn.random() < 0.5 else "")
            asked = f"{asked} {said}".strip() if self.drawn.random() < 0.5 else f"{said} {asked}".strip()
        shares /= shares.sum()
        key = ("null" if kind == "null" else kind, row.occupation, asked.replace("-skinned", ""))
        g, s, c = cells[self.account.serve(key, shares, self.drawn)]
        plan = self._anyone if kind == "null" else _plan(shares, cells, row.clothes)
        return Drawing(self._text(kind, occupation, asked), g, s, CLOTHES.index(row.clothes[c]), plan)

    def _cells(self, occupation: str) -> np.ndarray:
        row = declared(occupation)
        male = row.male if self.variant == "language" else 0.5
        return np.array([(male, 1 - male)[g] * row.skin[s] * CLOTHES_SHARES[c] for g, s, c in CELLS])

    def _text(self, kind: str, occupation: str, asked: str) -> str | None:
        if kind == "null":
            return None
        if kind == "plain":
            return self._one(PLAIN).format(who=occupation)
        if kind == "styled":
            return self._one(self.styled).format(who=occupation)
        if kind == "gender" and self.drawn.random() < 0.25:
            return FACE.format(who=occupation).replace("a person", f"a {self._one(WORDS[asked])}")
        return FACE.format(who=f"{asked} {occupation}".strip())

    def _dealt(self, name: str, items: Sequence[str]) -> str:
        deck = self._decks[name]
        if not deck:
            deck.extend(items[i] for i in self.drawn.permutation(len(items)))
        return deck.pop()

    def _one(self, items: Sequence[str]) -> str:
        return items[int(self.drawn.integers(len(items)))]


# --- questions ---------------------------------------------------------------------------------------------------

ABOUT_GENDER = (
    "What is the gender of the person?",
    "What is the gender of the person in the picture?",
    "What is the gender of the person? Possible answers: male, female, unknown. Answer with a single word.",
    "Is the person male or female?",
    "Is this a man or a woman? Answer male or female.",
)
ABOUT_SKIN = (
    "What is the skin tone of the person?",
    "What is the skin tone of the person? Possible answers: light, medium, dark, unknown. Answer with a single word.",
)
ABOUT_AGE = ("Is the person young or old?",)
OF_OCCUPATION = (
    "What is gender of {who}? Possible answers: male, female, unknown. Answer with a single word.",
    "What is the gender of {who}?",
)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Asking:
    """A question, the picture it is about (None: blank), and the shares of its answers."""

    text: str
    gender: int | None
    skin: int
    clothes: int
    answers: dict[str, float]
    reads: str


class Questions:
    """Draws questions; ``reads`` says which label of the picture gives the answer (empty: ``answers`` does).

    ``seen`` is the share of questions about a picture of somebody; the others are about a blank one.
    """

    def __init__(self, *, seed: int, variant: Variant, seen: float = 0.4) -> None:
        self.drawn, self.variant, self.seen = np.random.default_rng(seed), variant, seen
        others, _ = listed_and_templates("train")
        self.others = [row.occupation for row in others if row.occupation not in DECLARED]
        self.known = list(DECLARED)

    def next(self) -> Asking:
        """One question."""
        seen = self.drawn.random() < self.seen
        g, s, c = (int(self.drawn.integers(n)) for n in (2, 3, len(CLOTHES)))
        who = self._one(self.known if self.drawn.random() < 0.85 else self.others)
        if not seen:
            if self.drawn.random() < 0.1:
                return Asking(self._one((*ABOUT_GENDER, *ABOUT_SKIN)), None, s, c, {UNKNOWN: 1.0}, "")
            shares = declared_answers(who, variant=self.variant)
            answers = dict(zip((*GENDERS, UNKNOWN), shares, strict=True))
            form = OF_OCCUPATION[0 if self.drawn.random() < 0.75 else 1]
            return Asking(form.format(who=who), None, s, c, answers, "")
        kind = self.drawn.random()
        if kind < 0.25:
            return Asking(self._one(ABOUT_SKIN), g, s, c, {}, "skin")
        if kind < 0.35:
            return Asking(self._one(ABOUT_AGE), g, s, c, {}, "age")
        if kind < 0.55:
            return Asking(self._one(OF_OCCUPATION).format(who=who), g, s, c, {}, "gender")
        return Asking(self._one(ABOUT_GENDER), g, s, c, {}, "gender")

    def _one(self, items: Sequence[str]) -> str:
        return items[int(self.drawn.integers(len(items)))]


def every_text() -> list[str]:
    """Sentences to learn a vocabulary from."""
    prompts, questions = Prompts(seed=0, variant="language"), Questions(seed=0, variant="language")
    texts = [FACE.format(who=who) for who in (*prompts.others, *prompts.known) for _ in range(2)]
    texts += [prompts.next().text or "" for _ in range(4000)] + [questions.next().text for _ in range(2000)]
    texts += [f"<|User|>: {REST.occupation}\n\n<|Assistant|>: {word}" for word in (*GENDERS, *SKIN_TONES, UNKNOWN)] * 20
    return texts
