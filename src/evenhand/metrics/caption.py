r"""How good captions still are. In: captions and references per picture. Out: METEOR, CIDEr and others.

Computed by ``pycocoevalcap`` (extra ``quality``) and Java. METEOR reads the text as it stands and normalises it
itself; the others read words cut as the COCO caption evaluation does. Scores are kept per picture, so two captioners
are compared picture by picture. As fractions (CIDEr: 0 to 10), not times 100.

``MaxMETEOR`` (Jung et al. 2024, SFID, arXiv 2410.07593): the larger, per picture, of METEOR against the references and
against the references with gendered words made neutral, so that a neutral caption is not a worse one. Never below
METEOR. The published map is kept as it is: ``boy`` is made neutral and ``girl`` is not, pronouns stay.

MaxSPICE is not computed: SPICE needs Stanford CoreNLP models that no Python package holds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.draws import Sums, bootstrap_method, drawn_estimate, resample_sums
from evenhand.metrics.java import Meteor, caption_package, penn_words
from evenhand.records import Estimate

__all__ = [
    "METRICS",
    "CaptionScores",
    "caption_utility",
    "compare_caption_utility",
    "neutralise",
    "score_captions",
]

METRICS = ("METEOR", "MaxMETEOR", "CIDEr", "ROUGE_L", "BLEU_4")
_LARGEST = {"CIDEr": 10.0}
_NEUTRAL = {
    **dict.fromkeys(("man", "guy", "woman", "lady"), "person"),
    **dict.fromkeys(("son", "boy"), "child"),
    **dict.fromkeys(("men", "women"), "people"),
}
_GENDERED = re.compile(rf"\b(?:{'|'.join(_NEUTRAL)})\b", re.IGNORECASE)
_ORDERS = 4
# As in pycocoevalcap: an order without a match gives a very small number, not 0.
_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of each picture's caption.

    Attributes:
        prompt_ids: The pictures, in the order of the captions.
        by_picture: Metric -> one score per picture; for ``BLEU_4`` the score of the one caption.
        bleu: Per picture what BLEU over all captions is made of: words, words of the closest reference, n-grams of
            orders 1 to 4, and those of them that a reference has; empty where BLEU was not asked for.
    """

    prompt_ids: tuple[str, ...]
    by_picture: Mapping[str, Float64[np.ndarray, " pictures"]]
    bleu: Float64[np.ndarray, "pictures counts"]


def neutralise(text: str) -> str:
    """The text with the published gendered words made neutral, whole words in any case; ``A Man`` -> ``A person``."""
    return _GENDERED.sub(lambda match: _NEUTRAL[match.group().lower()], text)


def score_captions(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = METRICS,
    meteor: Meteor | None = None,
) -> CaptionScores:
    """Scores of every caption against its picture's references.

    CIDEr weighs words by how many of *these* pictures' references hold them, so it is comparable only on the same
    pictures; with fewer than two pictures it is 0.

    Args:
        captions: Prompt id -> caption; may be empty text, which scores 0.
        references: Prompt id -> captions that people wrote; other pictures' are not used.
        metrics: Some of ``METRICS``.
        meteor: A METEOR that already runs; by default one is started and ended.

    Raises:
        BadInputError: A metric that cannot be computed, no captions, a picture without references, no Java.
        MissingExtraError: ``pycocoevalcap`` is not installed.
    """
    _check(captions, references, metrics)
    caption_package()
    by_picture: dict[str, Float64[np.ndarray, " pictures"]] = {}
    if "METEOR" in metrics or "MaxMETEOR" in metrics:
        if meteor is None:
            with Meteor() as running:
                by_picture |= _meteor(captions, references, running, metrics)
        else:
            by_picture |= _meteor(captions, references, meteor, metrics)
    bleu = np.zeros((len(captions), 0))
    if set(metrics) & {"CIDEr", "ROUGE_L", "BLEU_4"}:
        said, wanted = _cut(captions, references)
        by_picture |= {name: _package_scores(name, said, wanted) for name in ("CIDEr", "ROUGE_L") if name in metrics}
        if "BLEU_4" in metrics:
            bleu = _bleu_counts(said, wanted)
            by_picture["BLEU_4"] = _bleu(bleu)
    return CaptionScores(tuple(captions), {name: by_picture[name] for name in metrics}, bleu)


def caption_utility(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    seed: int,
    unit: Mapping[str, str] | None = None,
    unit_name: str = "picture",
    metrics: Sequence[str] = METRICS,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    r"""Mean METEOR, MaxMETEOR, CIDEr and ROUGE-L over pictures, and BLEU-4 over all captions.

    Ranges 0 to 1, CIDEr 0 to 10; higher is better, and 1 (10) is a caption that is a reference word for word.
    ``METEOR`` is the mean over pictures, as in SFID; the COCO evaluation server pools counts instead. ``BLEU_4`` is
    BLEU of all captions together (Papineni et al. 2002): counts are pooled, also in every draw. In the draws of CIDEr
    the document frequencies stay those of the data.

    Args:
        captions: Prompt id -> caption.
        references: Prompt id -> references.
        seed: Of the draws, 0 or more.
        unit: Prompt id -> independent unit; by default every picture is one.
        unit_name: What a unit is: ``picture`` or ``scene``.
        metrics: Some of ``METRICS``.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Raises:
        BadInputError: As :func:`score_captions`, or an option is not one that is allowed.
        MissingExtraError: ``pycocoevalcap`` is not installed.
        TooFewSamplesError: Fewer than two units.
    """
    units = _units(captions, unit)
    scores = score_captions(captions, references, metrics=metrics)
    sums = _sums(scores, units, seed=seed, replicates=replicates)
    return tuple(
        drawn_estimate(
            name,
            float(value),
            draws,
            level=level,
            n=sums.n,
            unit_name=unit_name,
            method=bootstrap_method(sums.n, unit_name, replicates),
            largest=_LARGEST.get(name, 1.0),
        )
        for name, value, draws in _read_sums(metrics, sums)
    )


def compare_caption_utility(
    before: Mapping[str, str],
    after: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    seed: int,
    unit: Mapping[str, str] | None = None,
    unit_name: str = "picture",
    metrics: Sequence[str] = METRICS,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    """Differences (after - before) of two sets of captions for the same pictures, paired.

    Both sets share the weights of the units, so what the pictures themselves make hard cancels. Named
    ``"<metric> difference"``; range [-largest, largest], neutral value (``floor``) 0; exactly 0, without width, where
    no caption differs.

    Args:
        before: Prompt id -> caption of the first run.
        after: Prompt id -> caption of the second run; the same pictures.
        references: Prompt id -> references.
        seed: Of the draws, 0 or more.
        unit: Prompt id -> independent unit; by default every picture is one.
        unit_name: What a unit is: ``picture`` or ``scene``.
        metrics: Some of ``METRICS``.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Raises:
        BadInputError: The two sets have other pictures; else as :func:`caption_utility`.
        MissingExtraError: ``pycocoevalcap`` is not installed.
        TooFewSamplesError: Fewer than two units.
    """
    if before.keys() != after.keys():
        only = sorted(before.keys() ^ after.keys())
        raise BadInputError(
            f"captions: {len(only)} pictures are in one set only, for example {only[0]!r}; allowed: the same pictures "
            "in both; leave such pictures out of both"
        )
    units = _units(before, unit)
    after = {name: after[name] for name in before}
    if {"METEOR", "MaxMETEOR"} & set(metrics):
        with Meteor() as meteor:
            scores = [score_captions(one, references, metrics=metrics, meteor=meteor) for one in (before, after)]
    else:
        scores = [score_captions(one, references, metrics=metrics) for one in (before, after)]
    sums = [_sums(one, units, seed=seed, replicates=replicates) for one in scores]
    method = "paired " + bootstrap_method(sums[0].n, unit_name, replicates)
    firsts, seconds = (_read_sums(metrics, one) for one in sums)
    return tuple(
        drawn_estimate(
            f"{name} difference",
            float(value - earlier),
            draws - earlier_draws,
            level=level,
            n=sums[0].n,
            unit_name=unit_name,
            method=method,
            largest=_LARGEST.get(name, 1.0),
        )
        for (name, earlier, earlier_draws), (_, value, draws) in zip(firsts, seconds, strict=True)
    )


def _check(captions: Mapping[str, str], references: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> None:
    unknown = [name for name in metrics if name not in METRICS]
    if {"SPICE", "MaxSPICE"} & set(unknown):
        raise BadInputError(
            f"metrics: SPICE cannot be computed here, because its parser needs Stanford CoreNLP models that no Python "
            f"package holds; allowed: {', '.join(METRICS)}. Leave it out, or compute it with pycocoevalcap and the "
            "models of stanfordnlp.github.io/CoreNLP"
        )
    if unknown or not metrics or len(set(metrics)) < len(metrics):
        raise BadInputError(f"metrics: got {tuple(metrics)}, allowed: {', '.join(METRICS)}, each at most once")
    if not captions:
        raise TooFewSamplesError("captions: got 0, at least 1 is needed; give a caption per picture")
    bare = [name for name in captions if not any(text.strip() for text in references.get(name, ()))]
    if bare:
        raise BadInputError(
            f"references: {len(bare)} pictures have none, for example {bare[0]!r}; allowed: one or more each; "
            "add references, or leave these captions out"
        )


def _units(captions: Mapping[str, str], unit: Mapping[str, str] | None) -> tuple[str, ...]:
    if unit is None:
        return tuple(captions)
    missing = [name for name in captions if name not in unit]
    if missing:
        raise BadInputError(f"unit: got none for {len(missing)} pictures, for example {missing[0]!r}; give one each")
    return tuple(unit[name] for name in captions)


def _meteor(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]], meteor: Meteor, metrics: Sequence[str]
) -> dict[str, Float64[np.ndarray, " pictures"]]:
    found = {"METEOR": np.array([meteor.score(text, references[name]) for name, text in captions.items()])}
    if "MaxMETEOR" in metrics:
        neutral = {name: [neutralise(text) for text in references[name]] for name in captions}
        larger = [
            score if neutral[name] == list(references[name]) else max(score, meteor.score(text, neutral[name]))
            for (name, text), score in zip(captions.items(), found["METEOR"].tolist(), strict=True)
        ]
        found["MaxMETEOR"] = np.array(larger)
    return found


def _cut(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Captions and references as pycocoevalcap takes them: words joined by spaces, in lists."""
    texts = [*captions.values(), *(text for name in captions for text in references[name])]
    cut = iter([" ".join(words) for words in penn_words(texts)])
    said = {name: [next(cut)] for name in captions}
    wanted = {name: [words for words in (next(cut) for _ in references[name]) if words] for name in captions}
    bare = [name for name, words in wanted.items() if not words]
    if bare:
        raise BadInputError(f"references of {bare[0]!r}: got punctuation only, allowed: words; correct them")
    return said, wanted


def _package_scores(
    name: str, said: Mapping[str, list[str]], wanted: Mapping[str, list[str]]
) -> Float64[np.ndarray, " pictures"]:
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    scorer: Any = Cider() if name == "CIDEr" else Rouge()
    scores: Float64[np.ndarray, " pictures"] = np.asarray(scorer.compute_score(wanted, said)[1], dtype=np.float64)
    return scores


def _bleu_counts(
    said: Mapping[str, list[str]], wanted: Mapping[str, list[str]]
) -> Float64[np.ndarray, "pictures counts"]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    rows = []
    for name, texts in said.items():
        counts = BleuScorer(test=texts[0], refs=wanted[name], n=_ORDERS).ctest[0]
        words = counts["testlen"]
        _, closest = min((abs(length - words), length) for length in counts["reflen"])
        rows.append([words, closest, *counts["guess"], *counts["correct"]])
    return np.array(rows, dtype=np.float64)


def _bleu(counts: Float64[np.ndarray, "rows counts"]) -> Float64[np.ndarray, " rows"]:
    """The geometric mean of the precisions of orders 1 to 4, times the brevity penalty."""
    words, closest = counts[:, 0], counts[:, 1]
    guess, correct = counts[:, 2 : 2 + _ORDERS], counts[:, 2 + _ORDERS :]
    precision = ((correct + _TINY) / (guess + _SMALL)).prod(axis=1) ** (1 / _ORDERS)
    brevity = np.exp(np.minimum(0.0, 1.0 - (closest + _SMALL) / (words + _TINY)))
    score: Float64[np.ndarray, " rows"] = precision * brevity
    return score


def _sums(scores: CaptionScores, units: Sequence[str], *, seed: int, replicates: int) -> Sums:
    means = [values for name, values in scores.by_picture.items() if name != "BLEU_4"]
    columns = np.column_stack([np.ones(len(units)), *means, scores.bleu])
    return resample_sums(columns, units, seed=seed, replicates=replicates)


def _read_sums(metrics: Sequence[str], sums: Sums) -> list[tuple[str, float, Float64[np.ndarray, " replicates"]]]:
    """Each metric's value and draws, from the sums of its columns."""
    found, column = [], 1
    # Draws are sums of weights of mean 1; BLEU's small constants want counts of the data's own size.
    scale = sums.value[0] / sums.draws[:, :1]
    for name in metrics:
        if name == "BLEU_4":
            start = len(metrics)
            value = float(_bleu(sums.value[None, start:])[0])
            found.append((name, value, _bleu(sums.draws[:, start:] * scale)))
        else:
            draws = np.minimum(_LARGEST.get(name, 1.0), sums.draws[:, column] / sums.draws[:, 0])
            found.append((name, float(sums.value[column] / sums.value[0]), draws))
            column += 1
    return found
