"""How a vision-language model is asked. In: questions and pictures. Out: the inputs of one batch.

The chat template that comes with a model decides; where there is none, one row of a small table does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

__all__ = ["PromptEncoder", "PromptForm", "form_for"]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a family of models is asked where it has no chat template.

    Attributes:
        text: With ``{image}`` for the picture's placeholder and ``{question}``.
        question: What an empty prompt asks for: a caption.
        pads: Whether prompts of different length may share a batch, padded on the left.
    """

    text: str
    question: str
    pads: bool = True


_FORMS = {
    "llava": PromptForm("USER: {image}\n{question} ASSISTANT:", "Describe the photo in detail."),
    "vipllava": PromptForm("USER: {image}\n{question} ASSISTANT:", "Describe the photo in detail."),
    "paligemma": PromptForm("{image}{question}", "caption en"),
    # BLIP overwrites the first id of every row and counts positions from it, padding included.
    "blip": PromptForm("{question}", "", pads=False),
}
_ANY = PromptForm("{image}\n{question}", "Describe the photo in detail.")


def form_for(model_type: str) -> PromptForm:
    """The row of a model family, or the general one."""
    return _FORMS.get(model_type, _ANY)


class PromptEncoder:
    """Turns questions and pictures into a model's inputs.

    Args:
        processor: The model's; its tokenizer is set to pad on the left unless the model is an encoder-decoder.
        form: How it is asked where there is no chat template.
        question: Asked where a prompt has no text; by default the form's.
        encoder_decoder: Whether the model is one.
    """

    def __init__(
        self, processor: Any, form: PromptForm, *, question: str | None = None, encoder_decoder: bool = False
    ) -> None:
        self.processor, self.form = processor, form
        self.tokenizer = processor.tokenizer
        self.question = form.question if question is None else question
        if not encoder_decoder:
            self.tokenizer.padding_side = "left"

    def groups(self, questions: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Which questions may share a batch: all, or those of one length where the model cannot be padded."""
        if self.form.pads:
            return (tuple(range(len(questions))),)
        found: dict[int, list[int]] = {}
        for i, question in enumerate(questions):
            found.setdefault(len(self.tokenizer(self._written(question))["input_ids"]), []).append(i)
        return tuple(tuple(group) for group in found.values())

    def encode(self, questions: Sequence[str], pictures: Sequence[Image]) -> Any:
        """The inputs of one batch; ``.to(device, dtype)`` moves them.

        Raises:
            ValueError: The processor does not take a picture, for example one that is far longer than wide.
        """
        texts = [self._written(question) for question in questions]
        start = self.tokenizer.bos_token
        special = not (start and all(text.startswith(start) for text in texts))
        inputs = self.processor(
            text=texts,
            images=[[picture] for picture in pictures],
            padding=True,
            add_special_tokens=special,
            return_tensors="pt",
        )
        inputs.pop("labels", None)  # PaliGemma's processor makes them for training
        return inputs

    def _written(self, question: str) -> str:
        """One prompt as text, the picture's placeholder included."""
        asked = question or self.question
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": asked}]
            return self._chat(self.processor, content)
        image = getattr(self.processor, "image_token", None) or ""
        if getattr(self.tokenizer, "chat_template", None):
            return self._chat(self.tokenizer, _ANY.text.format(image=image, question=asked))
        return self.form.text.format(image=image, question=asked)

    def _chat(self, templated: Any, content: object) -> str:
        messages = [{"role": "user", "content": content}]
        text: str = templated.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text
