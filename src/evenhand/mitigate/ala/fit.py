"""Fit a text signal. In: labelled texts, and a tokenizer or a language model. Out: a folder, and how good it is.

Fitted on about 70 % of the texts, its temperature on 15 %, measured on the rest; no text lies in two parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from evenhand.classify.calibration import FitReport, fit_temperature, measure_fit, require_trained
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.text.artefact import FittedScorer, ScorerRecord, refuse_foreign_folder, save_scorer
from evenhand.mitigate.ala.text.examples import Examples, Split, read_examples, split_examples
from evenhand.records import Attribute

__all__ = ["TextKind", "fit_text_signal"]

TextKind = Literal["additive", "paper", "causal", "probe", "sequence"]
"""Text scorers: words; the paper's encoder; a GRU; a probe on the model's state; someone else's classifier."""

Progress = Callable[[int, int], None]
_EPOCHS = {"paper": 4, "causal": 4}
_RATES = {"paper": 5e-4, "causal": 2e-3}
_BATCHES = {"paper": 32, "causal": 32}
_LONGEST = 256  # tokens of a text that a language model reads


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A scorer that is not measured yet, and how to score whole texts with it."""

    scorer: Any
    logits: Callable[[Examples], Float[np.ndarray, "texts groups"]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be fitted, checked."""

    record: ScorerRecord
    split: Split
    seed: int
    tokenizer: Any
    lm: Any
    training: Mapping[str, float | int | None]
    progress: Progress | None


def fit_text_signal(
    kind: str,
    data: Path,
    *,
    attribute: Attribute,
    out: Path,
    seed: int,
    tokenizer: Any = None,
    lm: Any = None,
    classifier: str | None = None,
    labels: Mapping[str, str] | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Fit, calibrate, measure and store a text scorer; ``load_scorer(out)`` opens it.

    Args:
        kind: ``additive`` needs nothing more, ``paper`` and ``causal`` a tokenizer, ``probe`` a language model,
            ``sequence`` a classifier and labels.
        data: CSV, JSON lines or Parquet with the columns ``text`` and ``label`` (a group, or its index); with a
            column ``unit``, texts of one unit stay in one part.
        attribute: Its groups, in their declared order.
        out: A folder: new, empty, or a text scorer's, which is replaced.
        seed: Of the parts and of the training.
        tokenizer: The language model's: a name, a folder, or the object.
        lm: A causal language model: a name, a folder, or the object (then give its tokenizer too).
        classifier: Name or folder of a transformers sequence classifier.
        labels: The classifier's label -> group.
        epochs: Of ``paper`` and ``causal``, by default 4.
        learning_rate: By default 5e-4 and 2e-3; the paper trains at 2e-5 on far more texts.
        batch_size: By default 32.
        progress: Called with (done, wanted).

    Raises:
        BadInputError: Something is absent or cannot be read, a label is unknown, or the folder holds something else.
        TooFewSamplesError: A group has fewer than 50 texts.
        ArtefactError: The scorer is no better than guessing, or miscalibrated; nothing is written.
    """
    if kind not in get_args(TextKind):
        raise BadInputError(f"kind: got {kind!r}; allowed: {', '.join(get_args(TextKind))}.")
    refuse_foreign_folder(out)
    examples = read_examples(data, attribute)
    split = split_examples(examples, attribute.groups, seed=seed)
    opened_tokenizer, opened_lm = _opened(kind, tokenizer, lm)
    hashed = None
    if kind in ("paper", "causal", "probe"):
        from evenhand.mitigate.ala.weights import tokenizer_hash

        hashed = tokenizer_hash(opened_tokenizer)
    options = {"seed": seed, **({"classifier": classifier, "labels": dict(labels or {})} if kind == "sequence" else {})}
    record = ScorerRecord(
        kind, attribute.name, attribute.groups, hashed, None, options, f"{len(examples.texts)} texts of {data.name}"
    )
    training = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    fitted = _FITS[kind](_Asked(record, split, seed, opened_tokenizer, opened_lm, training, progress))
    temperature = fit_temperature(fitted.logits(split.calibration), split.calibration.labels)
    report = measure_fit(
        fitted.logits(split.test),
        split.test.labels,
        temperature=temperature,
        train=len(split.train.texts),
        calibration=len(split.calibration.texts),
    )
    require_trained(report, f"the {kind} text scorer for {attribute.name}")
    measured: FittedScorer = fitted.scorer.with_report(report)
    save_scorer(measured, out)
    return report


def _fit_additive(asked: _Asked) -> _Fitted:
    from evenhand.mitigate.ala.text.additive import fit_additive

    scorer = fit_additive(asked.record, asked.split.train.texts, asked.split.train.labels)
    return _Fitted(scorer, lambda part: scorer.logits(part.texts))


def _fit_paper(asked: _Asked) -> _Fitted:
    from evenhand.mitigate.ala.text.paper import fit_paper, paper_logits

    scorer = fit_paper(
        asked.record,
        _ids(asked.tokenizer, asked.split.train.texts),
        asked.split.train.labels,
        vocabulary=max(asked.tokenizer.get_vocab().values()) + 1,
        schedule=_schedule(asked),
        seed=asked.seed,
        progress=asked.progress,
    )
    return _Fitted(scorer, lambda part: paper_logits(scorer, _ids(asked.tokenizer, part.texts)))


def _fit_causal(asked: _Asked) -> _Fitted:
    from evenhand.mitigate.ala.text.causal import causal_logits, fit_causal

    scorer = fit_causal(
        asked.record,
        _ids(asked.tokenizer, asked.split.train.texts),
        asked.split.train.labels,
        schedule=_schedule(asked),
        seed=asked.seed,
        progress=asked.progress,
    )
    return _Fitted(scorer, lambda part: causal_logits(scorer, _ids(asked.tokenizer, part.texts)))


def _fit_probe(asked: _Asked) -> _Fitted:
    from evenhand.mitigate.ala.text.probe import fit_probe, hidden_states

    split = asked.split
    parts = (split.train, split.calibration, split.test)
    rows = [row[:_LONGEST] for row in _ids(asked.tokenizer, [t for part in parts for t in part.texts], special=True)]
    states = hidden_states(asked.lm, rows, progress=asked.progress)
    ends = np.cumsum([len(part.texts) for part in parts])
    train, calibration, test = np.split(states, ends[:-1])
    scorer = fit_probe(asked.record, train, split.train.labels)
    found = {id(split.calibration): scorer.logits(calibration), id(split.test): scorer.logits(test)}
    return _Fitted(scorer, lambda part: found[id(part)])


def _fit_sequence(asked: _Asked) -> _Fitted:
    from evenhand.mitigate.ala.text.sequence import SequenceScorer

    options, record = asked.record.options, asked.record
    if not options["classifier"] or not options["labels"]:
        raise BadInputError("kind sequence needs classifier= (a name or a folder) and labels= (its label -> group).")
    scorer = SequenceScorer.from_model(
        options["classifier"],
        attribute=record.attribute,
        groups=record.groups,
        labels=options["labels"],
        source=record.source,
    )
    return _Fitted(scorer, lambda part: scorer.logits(part.texts))


_FITS: Mapping[str, Callable[[_Asked], _Fitted]] = {
    "additive": _fit_additive,
    "paper": _fit_paper,
    "causal": _fit_causal,
    "probe": _fit_probe,
    "sequence": _fit_sequence,
}


def _schedule(asked: _Asked) -> Any:
    from evenhand.mitigate.ala.text.training import Schedule

    kind, given = asked.record.kind, asked.training
    return Schedule(
        epochs=int(given["epochs"] or _EPOCHS[kind]),
        learning_rate=float(given["learning_rate"] or _RATES[kind]),
        batch_size=int(given["batch_size"] or _BATCHES[kind]),
    )


def _opened(kind: str, tokenizer: Any, lm: Any) -> tuple[Any, Any]:
    """The tokenizer and the language model a kind needs, opened where a name was given."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if kind in ("additive", "sequence"):
        return None, None
    if kind == "probe" and lm is None:
        raise BadInputError("kind probe needs lm=: the causal language model whose state is read.")
    if tokenizer is None and isinstance(lm, (str, Path)):
        tokenizer = lm
    if tokenizer is None:
        raise BadInputError(f"kind {kind} needs tokenizer=: the language model's, as a name, a folder or the object.")
    try:
        if isinstance(tokenizer, (str, Path)):
            tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        if kind == "probe" and isinstance(lm, (str, Path)):
            lm = AutoModelForCausalLM.from_pretrained(str(lm), dtype="float32")
            lm.eval()
    except (OSError, ValueError) as error:
        raise BadInputError(f"the tokenizer or the language model cannot be opened: {error}") from error
    return tokenizer, lm


def _ids(tokenizer: Any, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Ids of each text; a generated text holds no special tokens, a language model may want one before it."""
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return found
