"""Finetuning for understanding. In: labelled pictures, questions. Out: a model trained to answer; nothing is drawn.

The paper's arm "Finetune (-> T)": does a model that says better who is in a picture also draw more evenly? The released
code trains on the prompt as the answer and has no label in it; here the answer is the group, as the paper says.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.adapters import train_language_model_alone, trained_network
from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.stored_trainer import StoredTrainer
from evenhand.models.transformers_prompt import PromptEncoder
from evenhand.models.unified.family import Family
from evenhand.models.unified.model import UnifiedModel
from evenhand.models.unified.pixels import readable

__all__ = ["AnswerTrainer", "AnsweredPictures", "question_of"]

_IGNORED = -100


def question_of(attribute: str, answers: Sequence[str]) -> str:
    """What is asked about a picture; the answers that count are named in it."""
    return f"What is the {attribute} of the person? Possible answers: {', '.join(answers)}. Answer with a single word."


class _Answered(TypedDict):
    picture: Image
    question: str
    answer: str


class AnsweredPictures(Dataset[_Answered]):
    """Pictures with a question and its answer.

    Args:
        pictures: RGB.
        questions: One a picture.
        answers: One a picture.

    Raises:
        BadInputError: Numbers differ, none, or an empty answer.
    """

    def __init__(self, pictures: Sequence[Image], questions: Sequence[str], answers: Sequence[str]) -> None:
        if not pictures or len({len(pictures), len(questions), len(answers)}) > 1 or not all(answers):
            raise BadInputError(
                f"got {len(pictures)} pictures, {len(questions)} questions, {len(answers)} answers; allowed: as many "
                "of each, 1 and more, no answer empty."
            )
        loaded = {
            id(one): readable(one, which=f"picture {i}") for i, one in enumerate(pictures)
        }  # once, if asked twice
        self._rows = [
            _Answered(picture=loaded[id(one)], question=question, answer=answer)
            for one, question, answer in zip(pictures, questions, answers, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> _Answered:
        return self._rows[index]


class AnswerTrainer(StoredTrainer):
    """Trains a unified model to answer questions about pictures; the loss is that of the answers' tokens alone.

    Args:
        model: Is trained in place.
        args: Those of its arguments that are about balance are not used.
        train_dataset: What is answered.
        peft_config: A LoRA adapter; None trains the language model's own weights.

    Raises:
        BadInputError: As ``trained_network``.
        MissingExtraError: PEFT is not installed.
    """

    def __init__(
        self, model: UnifiedModel, args: BPOConfig, train_dataset: AnsweredPictures, *, peft_config: Any = None
    ) -> None:
        network = trained_network(model.family, peft_config, disable_dropout=args.disable_dropout)
        super().__init__(
            model=_AnswerScorer(model.family, network),
            args=args,
            data_collator=_AnswerBatches(model),
            train_dataset=train_dataset,
            processing_class=model.processor,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002  (rows count alike)
    ) -> Any:
        """Mean over rows of the mean negative log-likelihood of an answer's tokens, in nats."""
        told: Tensor = model(dict(inputs))
        loss = -told.mean()
        return (loss, {"log_probs": told.detach()}) if return_outputs else loss


class _AnswerScorer(nn.Module):
    """Mean log-probability of each row's answer."""

    def __init__(self, family: Family, network: nn.Module) -> None:
        super().__init__()
        self.network, self._family = network, family

    def train(self, mode: bool = True) -> "_AnswerScorer":
        super().train(mode)
        train_language_model_alone(self._family, mode)
        return self

    def forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, " rows"]:
        labels = inputs.pop("labels")
        logits = self._family.model(**inputs, use_cache=False).logits[:, :-1].float()
        wanted = labels[:, 1:]
        told = logits.log_softmax(dim=-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        counted = wanted != _IGNORED
        mean: Tensor = (told * counted).sum(dim=1) / counted.sum(dim=1)
        return mean


class _AnswerBatches:
    """Rows as a batch of the model's inputs: the question as the model is asked it, then the answer and the end."""

    def __init__(self, model: UnifiedModel) -> None:
        self._asking = PromptEncoder(model.processor, model.family.question_form)
        self._tokenizer, self._dtype = model.tokenizer, model.family.model.dtype

    def __call__(self, rows: Sequence[_Answered]) -> dict[str, Tensor]:
        inputs = dict(self._asking.encode([row["question"] for row in rows], [row["picture"] for row in rows]))
        answers = [self._answer(row["answer"]) for row in rows]
        width = max(map(len, answers))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([one + [pad] * (width - len(one)) for one in answers])
        real = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in answers])
        asked = inputs["input_ids"]
        inputs["labels"] = torch.cat([torch.full_like(asked, _IGNORED), ids.masked_fill(real == 0, _IGNORED)], dim=1)
        inputs["input_ids"] = torch.cat([asked, ids], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], real], dim=1)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._dtype)
        return inputs

    def _answer(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, int(self._tokenizer.eos_token_id)]
