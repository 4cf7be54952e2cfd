"""Any transformers sequence classifier. In: decoded text. Out: shares of the groups its labels are mapped to.

The classifier has its own tokenizer, so the generated ids are decoded first. Its folder stays where it is: the
artefact holds its name, the mapping of its labels and the fitted temperature.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.classify.calibration import FitReport
from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, check_start, settings_of, take
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.models.decode import text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SequenceScorer"]

_REMEMBERED = 4096  # texts whose logits are kept
_AT_ONCE = 32


class SequenceScorer:
    r"""What a sequence classifier says of the text with the candidate.

    .. math:: \ell_k = \log \sum_{j \in \mathrm{labels\ of\ } k} e^{z_j}, \qquad
              \mathrm{share} = \mathrm{softmax}(\ell / T)

    Labels that no group is given for are left out. A classifier of one logit (``P = sigmoid(z)``) has the labels
    ``0`` (logit 0) and its own (logit z).

    Args:
        record: What it is; ``options`` holds ``classifier`` and ``labels``.
        model: A transformers ``AutoModelForSequenceClassification``.
        reader: Its tokenizer.

    Raises:
        BadInputError: A label is unknown, or a group has no label.
    """

    def __init__(self, record: ScorerRecord, model: Any, reader: "PreTrainedTokenizerBase") -> None:
        self.record, self._model, self._reader = record, model.eval(), reader
        names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        if len(names) == 1:
            names = ["0", *names]
        self._labels = _label_columns(record, names)
        self._parameters = sum(parameter.numel() for parameter in model.parameters())
        self.settings: Mapping[str, object] = settings_of(record, self.tensors())
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def from_model(
        cls, classifier: str, *, attribute: str, groups: tuple[str, ...], labels: Mapping[str, str], source: str = ""
    ) -> "SequenceScorer":
        """A scorer of a model's name or folder; not measured yet, so it is refused until it was.

        Args:
            classifier: What ``from_pretrained`` takes; no code of the model's is run.
            attribute: Name of the attribute.
            groups: Declared groups.
            labels: Label of the model -> group.
            source: What its temperature will be fitted on.
        """
        options = {"classifier": classifier, "labels": dict(labels)}
        return cls(ScorerRecord("sequence", attribute, groups, None, None, options, source), *_opened(classifier))

    @classmethod
    def from_tensors(cls, record: ScorerRecord, tensors: Mapping[str, Tensor]) -> "SequenceScorer":
        """A stored scorer; its classifier is opened by the name it was fitted with.

        Raises:
            ArtefactError: The classifier is another one now, or the options are not ours.
        """
        take(tensors, {"parameters": (1,)}, "sequence")
        name, labels = record.options.get("classifier"), record.options.get("labels")
        if not isinstance(name, str) or not isinstance(labels, dict):
            raise ArtefactError("sequence text scorer: its options lack classifier or labels; fit it again.")
        scorer = cls(record, *_opened(name))
        if scorer._parameters != int(tensors["parameters"][0]):
            raise ArtefactError(
                f"sequence text scorer: {name} has {scorer._parameters} parameters, it was fitted with "
                f"{int(tensors['parameters'][0])}; fit the temperature again."
            )
        return scorer

    def tensors(self) -> dict[str, Tensor]:
        """The number of the classifier's parameters; its weights are not stored again."""
        return {"parameters": torch.tensor([self._parameters], dtype=torch.int64)}

    def with_report(self, report: FitReport) -> "SequenceScorer":
        """The same scorer, measured."""
        return SequenceScorer(replace(self.record, report=report), self._model, self._reader)

    def logits(self, texts: Sequence[str]) -> Float[np.ndarray, "texts groups"]:
        """Log of each group's summed weight, before the temperature; the latest texts are remembered."""
        fresh = list(dict.fromkeys(text for text in texts if text not in self._known))
        known = {text: self._known[text] for text in texts if text in self._known}
        for first in range(0, len(fresh), _AT_ONCE):
            part = fresh[first : first + _AT_ONCE]
            known.update(zip(part, self._run(part), strict=True))
        self._known.update(known)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return np.asarray(torch.stack([known[text] for text in texts]).double().numpy())

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "SequenceState":
        """Ready for one batch."""
        check_start(self.record, weights)
        return SequenceState(self, tokenizer)

    @torch.inference_mode()
    def _run(self, texts: list[str]) -> Float[Tensor, "texts groups"]:
        limit = min(self._reader.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        self._reader.truncation_side = "left"  # recent words matter
        inputs = self._reader(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        scores = self._model(**inputs.to(self._model.device)).logits.float().cpu()
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        return torch.stack([scores[:, columns].logsumexp(dim=1) for columns in self._labels], dim=1)


class SequenceState:
    """A ``SequenceScorer`` at work on one batch.

    Attributes:
        by_token: None: a share depends on the whole text.
    """

    def __init__(self, scorer: SequenceScorer, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._scorer, self._tokenizer = scorer, tokenizer
        self.by_token: Float[Tensor, "states tokens groups"] | None = None

    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``. One text per row and candidate."""
        texts = [
            text_of(self._tokenizer, [*ids, token])
            for ids, tokens in zip(written.tolist(), candidates.tolist(), strict=True)
            for token in tokens
        ]
        logits = torch.from_numpy(self._scorer.logits(texts)).float().to(candidates.device)
        shares = torch.softmax(logits / self._scorer.record.temperature, dim=-1)
        return shares.reshape(*candidates.shape, -1)


def _label_columns(record: ScorerRecord, names: Sequence[str]) -> list[list[int]]:
    """For each group the classifier's labels."""
    mapping = record.options.get("labels", {})
    unknown = sorted(set(mapping) - set(names)) + sorted(set(mapping.values()) - set(record.groups))
    lacking = [group for group in record.groups if group not in mapping.values()]
    if unknown or lacking:
        raise BadInputError(
            f"labels: got {dict(mapping)}; the classifier has the labels {', '.join(names)}, the attribute the groups "
            f"{', '.join(record.groups)}; every group needs a label, and only these names are allowed."
        )
    return [[i for i, name in enumerate(names) if mapping.get(name) == group] for group in record.groups]


def _opened(classifier: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(classifier)
        return model, AutoTokenizer.from_pretrained(classifier)
    except (OSError, ValueError) as error:
        raise BadInputError(f"classifier {classifier!r} cannot be opened: {error}") from error
