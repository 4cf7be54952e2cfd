"""A mode of ALA, or several at once. In: rule, signals, weights. Out: a logits processor for any batch.

Settings say exactly what is done; with the mode's name they go into a run's manifest.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.gating import Gating
from evenhand.mitigate.ala.guards import GuardTables, exempt_groups, guard_tables
from evenhand.mitigate.ala.pieces import weights_from_words
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.several import SeveralProcessor
from evenhand.mitigate.ala.signals import PictureSignal, TextScorer
from evenhand.mitigate.ala.weights import TokenWeights, check_tokenizer
from evenhand.models.protocol import Continuation, Decoding
from evenhand.records import Attribute

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = ["Ala", "Several"]


class Ala:
    """A mode of ALA, ready to start on any batch.

    Args:
        name: Shown in reports.
        attribute: Whose words move.
        rule: Which update, how strong.
        scorer: Says what the text carries.
        signal: Says what it should carry; None for a rule that asks no picture.
        continuation: What the model conditions on after a corrected token.
        weights: Token weights for the model's tokenizer; by default made from the attribute's words.
        guarded: Leave words alone that mean something else, stand in quotes or names, or that the user used.
        gating: When a row is looked at where the next token is drawn.
    """

    def __init__(
        self,
        name: str,
        attribute: Attribute,
        *,
        rule: Rule,
        scorer: TextScorer,
        signal: PictureSignal | None,
        continuation: Continuation,
        weights: TokenWeights | None = None,
        guarded: bool = True,
        gating: Gating | None = None,
    ) -> None:
        self.name, self.attribute, self.rule, self.scorer = name, attribute, rule, scorer
        self.signal, self.continuation, self.guarded = signal, continuation, guarded
        self.gating = gating or Gating()
        self._given = weights
        self._made: tuple[PreTrainedTokenizerBase, TokenWeights, GuardTables | None] | None = None
        self.settings: Mapping[str, object] = {
            "attribute": attribute.name,
            "words_sha256": _words_hash(attribute),
            "weights": "words" if weights is None else _weights_hash(weights),
            "rule": {"kind": type(rule).__name__, **asdict(rule)},  # type: ignore[call-overload]
            "text_signal": scorer.settings,
            "picture_signal": None if signal is None else signal.settings,
            "continuation": continuation,
            "guarded": guarded,
            "gating": asdict(self.gating),
        }

    @property
    def wants_hidden(self) -> bool:
        """Whether the text scorer reads the language model's last hidden state."""
        return bool(getattr(self.scorer, "wants_hidden", False))

    def start(
        self,
        pictures: Sequence[Callable[[], "Image"]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        in_place: bool = False,
        owners: Sequence[int | None] | None = None,
        asked: Sequence[str] | None = None,
        decoding: Decoding = "greedy",
        hidden: "Callable[[], Tensor] | None" = None,
    ) -> AlaLogitsProcessor:
        """A fresh logits processor for one batch; see ``protocol.Intervention.start``.

        Raises:
            TokenizerMismatchError: The token weights were made for another tokenizer.
        """
        if asked is not None and len(asked) != len(pictures):
            raise BadInputError(f"asked: got {len(asked)} texts for {len(pictures)} pictures; give one each.")
        weights, guards = self._prepared(tokenizer)
        exempt = exempt_groups(asked, self.attribute) if self.guarded and asked is not None else None
        return AlaLogitsProcessor(
            weights,
            self.scorer,
            self.rule,
            self.signal,
            pictures,
            tokenizer,
            guards=guards,
            exempt=exempt,
            gating=self.gating,
            in_place=in_place,
            owners=owners,
            decoding=decoding,
            hidden=hidden,
        )

    def weights_for(self, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
        """The token weights on a tokenizer, made or checked once.

        Raises:
            TokenizerMismatchError: They were made for another one.
        """
        return self._prepared(tokenizer)[0]

    def _prepared(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[TokenWeights, GuardTables | None]:
        if self._made is None or self._made[0] is not tokenizer:
            if self._given is None:
                weights = weights_from_words(self.attribute, tokenizer)
            else:
                weights = check_tokenizer(self._given, tokenizer)
            if (weights.attribute, weights.groups) != (self.attribute.name, self.attribute.groups):
                raise BadInputError(
                    f"the token weights are of {weights.attribute!r} with the groups {', '.join(weights.groups)}; the "
                    f"attribute is {self.attribute.name!r} with {', '.join(self.attribute.groups)}. Give weights of it."
                )
            guards = guard_tables(weights, self.attribute, tokenizer) if self.guarded else None
            self._made = (tokenizer, weights, guards)
        return self._made[1], self._made[2]


class Several:
    """Several attributes at once: the paper's Cross Logit Processor, under one KL budget a step.

    Their words are moved in the order given. Under greedy decoding a row that one attribute has moved is left alone by
    those after it, so a word that two attributes list, and a word that stands in for another, belong to the first.
    Where tokens are drawn, each attribute works on what the ones before it left. Where one step's moves together spend
    more than the budget, they are scaled back together.

    Args:
        modes: At least two, of different attributes.
        budget: Largest KL divergence of a step, in nats; None for no limit. Replacing a likely word costs several nats,
            so a budget suits the rules that shift.
    """

    def __init__(self, *modes: Ala, budget: float | None = None) -> None:
        names = [mode.attribute.name for mode in modes]
        if len(modes) < 2 or len(set(names)) != len(names):
            raise BadInputError(f"attributes: got {names}; give at least two modes, each of another attribute.")
        if budget is not None and not (isfinite(budget) and budget > 0):
            raise BadInputError(f"budget: got {budget}; allowed: nats above 0, or None for no limit.")
        if len({mode.continuation for mode in modes}) > 1:
            raise BadInputError("the modes differ in continuation; give all of them `draft` or all `emitted`.")
        self.modes, self.budget = modes, budget
        self.name = "+".join(f"{mode.name}:{mode.attribute.name}" for mode in modes)
        self.continuation: Continuation = modes[0].continuation
        self.settings: Mapping[str, object] = {
            "modes": [{"name": mode.name, **mode.settings} for mode in modes],
            "budget": budget,
        }

    @property
    def wants_hidden(self) -> bool:
        """Whether a text scorer reads the language model's last hidden state."""
        return any(mode.wants_hidden for mode in self.modes)

    def start(
        self,
        pictures: Sequence[Callable[[], "Image"]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        in_place: bool = False,
        owners: Sequence[int | None] | None = None,
        asked: Sequence[str] | None = None,
        decoding: Decoding = "greedy",
        hidden: "Callable[[], Tensor] | None" = None,
    ) -> SeveralProcessor:
        """A fresh logits processor for one batch; see ``protocol.Intervention.start``."""
        started = [
            mode.start(
                pictures,
                tokenizer,
                in_place=in_place and self.budget is None,
                owners=owners,
                asked=asked,
                decoding=decoding,
                hidden=hidden,
            )
            for mode in self.modes
        ]
        return SeveralProcessor(started, budget=self.budget, decoding=decoding)


def _words_hash(attribute: Attribute) -> str:
    """Changes whenever a word that is steered, what may stand in its place, or what guards it, does."""
    guards = [asdict(guard) for guard in attribute.guards]
    steered = [attribute.steering_words, attribute.neutral_forms, attribute.counterparts, guards]
    return hashlib.sha256(json.dumps(steered, sort_keys=True, default=dict).encode()).hexdigest()


def _weights_hash(weights: TokenWeights) -> str:
    tables = (weights.token_ids, weights.group, weights.weight, weights.neutral_forms, weights.counterparts)
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.contiguous().numpy().tobytes())
    return digest.hexdigest()
