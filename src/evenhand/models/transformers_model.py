"""Any vision-language model of transformers as a ``TextModel``. In: prompts and seeds. Out: samples.

One adapter for LLaVA, PaliGemma, Qwen2.5-VL, BLIP, Janus (text) and every other ``AutoModelForImageTextToText``: the
prompt comes from ``transformers_prompt``, the weights from ``transformers_load``, the steps from
``transformers_loop``.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from evenhand.errors import BadInputError, PictureError
from evenhand.models.decode import text_of
from evenhand.models.hidden import LastHidden, wants_hidden
from evenhand.models.transformers_load import load_vision_language
from evenhand.models.transformers_loop import DecodingLoop, generate_text
from evenhand.models.transformers_prompt import PromptEncoder, form_for
from evenhand.pictures import open_picture
from evenhand.records import Prompt, Sample

if TYPE_CHECKING:
    import torch

    from evenhand.models.protocol import Intervention, LogitsHook

__all__ = ["TransformersModel", "load_transformers_model"]


class TransformersModel:
    """Answers prompts about pictures with a model of transformers; see ``protocol.TextModel``.

    Args:
        model: A generating model, for example of ``AutoModelForImageTextToText``.
        processor: Its processor.
        name: Shown in reports.
        revision: Changes whenever the weights may.
        max_new_tokens: Longest answer.
        batch_size: Prompts answered together.
        question: Asked where a prompt has no text; by default the model family's way to ask for a caption.
        temperature: None decodes greedily; else answers are drawn, each from its own seed.
        top_p: Where answers are drawn, the share of the likeliest tokens they are drawn from.

    Raises:
        BadInputError: A number is out of range.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        revision: str,
        max_new_tokens: int = 50,
        batch_size: int = 8,
        question: str | None = None,
        temperature: float | None = None,
        top_p: float = 1.0,
    ) -> None:
        _check(max_new_tokens, batch_size, temperature, top_p)
        self.model, self.name, self.batch_size = model.eval(), name, batch_size
        self.prompts = PromptEncoder(
            processor,
            form_for(model.config.model_type),
            question=question,
            encoder_decoder=bool(model.config.is_encoder_decoder),
        )
        self.tokenizer = processor.tokenizer
        self._settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "num_beams": 1, "do_sample": False}
        if temperature is not None:
            self._settings |= {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        said = [self._settings, self.prompts.question, str(model.dtype)]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self.revision = f"{revision}-{digest[:8]}"

    @classmethod
    def from_pretrained(
        cls,
        source: str,
        *,
        device: str = "cpu",
        dtype: "torch.dtype | str" = "auto",
        revision: str | None = None,
        max_new_tokens: int = 50,
        batch_size: int = 8,
        question: str | None = None,
        temperature: float | None = None,
        top_p: float = 1.0,
        trust_remote_code: bool = False,
    ) -> "TransformersModel":
        """A model from a folder or the hub; the arguments are the class's and ``load_vision_language``'s.

        Raises:
            ArtefactError: Not a whole vision-language model with its processor.
            MissingExtraError: A package the processor needs is not installed.
            BadInputError: A number is out of range.
        """
        _check(max_new_tokens, batch_size, temperature, top_p)
        loaded = load_vision_language(
            source, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
        return cls(
            loaded.model,
            loaded.processor,
            name=source.rstrip("/").rsplit("/", 1)[-1],
            revision=loaded.revision,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            question=question,
            temperature=temperature,
            top_p=top_p,
        )

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        seeds: Sequence[int],
        intervention: "Intervention | None" = None,
    ) -> tuple[Sample, ...]:
        """One sample per prompt, same order; a picture that cannot be used becomes a sample with ``error``."""
        if len(seeds) != len(prompts):
            raise BadInputError(f"seeds: got {len(seeds)} for {len(prompts)} prompts; give one per prompt.")
        samples: dict[int, Sample] = {}
        pictures: dict[int, Image] = {}
        for i, prompt in enumerate(prompts):
            try:
                pictures[i] = _open(prompt)
            except PictureError as error:
                samples[i] = _failed(prompt, seeds[i], error)
        good = list(pictures)
        for group in self.prompts.groups([prompts[i].text for i in good]) if good else ():
            rows = [good[j] for j in group]
            made = self._write(
                [prompts[i] for i in rows], [pictures[i] for i in rows], [seeds[i] for i in rows], intervention
            )
            samples |= dict(zip(rows, made, strict=True))
        return tuple(samples[i] for i in range(len(prompts)))

    def _write(
        self,
        prompts: Sequence[Prompt],
        pictures: Sequence[Image],
        seeds: Sequence[int],
        intervention: "Intervention | None",
    ) -> list[Sample]:
        """The answers of one batch; where the processor refuses it, picture by picture."""
        try:
            inputs = self.prompts.encode([prompt.text for prompt in prompts], pictures)
        except ValueError as error:
            if len(prompts) == 1:
                return [_failed(prompts[0], seeds[0], PictureError(f"the model's processor refuses it: {error}"))]
            alone = zip(prompts, pictures, seeds, strict=True)
            return [self._write([prompt], [picture], [seed], intervention)[0] for prompt, picture, seed in alone]
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        hidden = LastHidden(self.model) if intervention is not None and wants_hidden(intervention) else None
        hook = None if intervention is None else self._start(intervention, prompts, pictures, hidden)
        loop = DecodingLoop(
            hook,
            continuation="emitted" if intervention is None else intervention.continuation,
            seeds=seeds,
            hidden=hidden,
            answers_only=True,
        )
        with hidden or nullcontext():
            ids: list[list[int]] = generate_text(self.model, **inputs, **self._settings, custom_generate=loop)
        none: tuple[tuple[()], ...] = ((),) * len(ids)
        claims = (None,) * len(ids) if hook is None else hook.claims()
        edits, passed = (none, none) if hook is None else (hook.edits(ids), hook.passed(ids))
        return [
            Sample(
                prompt.id,
                0,
                seed,
                text_of(self.tokenizer, ids[i]).strip(),
                claim=claims[i],
                edits=edits[i],
                passed=passed[i],
                tokens=len(ids[i]),
            )
            for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]

    def _start(
        self,
        intervention: "Intervention",
        prompts: Sequence[Prompt],
        pictures: Sequence[Image],
        hidden: LastHidden | None,
    ) -> "LogitsHook":
        """A hook for the batch; what it has no use for is not passed."""
        more: dict[str, Any] = {}
        if any(asked := [_asked(prompt) for prompt in prompts]):
            more["asked"] = asked
        if self._settings["do_sample"]:
            more["decoding"] = "sampling"
        if hidden is not None:
            more["hidden"] = hidden
        openers = [partial(_same, picture) for picture in pictures]
        return intervention.start(openers, self.tokenizer, in_place=True, **more)


def load_transformers_model(source: str | None = None, *, device: str = "cpu") -> TransformersModel:
    """A model from a folder or hub id, with the default settings; what the registry loads.

    Raises:
        BadInputError: No source is given.
    """
    if not source:
        raise BadInputError("which model? Give a folder, or a hub id, behind 'hf:'.")
    return TransformersModel.from_pretrained(source, device=device)


def _same(picture: Image) -> Image:
    return picture


def _open(prompt: Prompt) -> Image:
    if prompt.image is None:
        raise PictureError(f"prompt {prompt.id!r} has no picture; this model answers questions about one.")
    return open_picture(prompt.image)


def _failed(prompt: Prompt, seed: int, error: PictureError) -> Sample:
    return Sample(prompt.id, 0, seed, None, error=f"{type(error).__name__}: {error}")


def _asked(prompt: Prompt) -> str:
    """The user's own words: the prompt without a passage that was retrieved for it."""
    context = prompt.facts.get("context", "")
    return (prompt.text.replace(context, "") if context else prompt.text).strip()


def _check(max_new_tokens: int, batch_size: int, temperature: float | None, top_p: float) -> None:
    if max_new_tokens < 1 or batch_size < 1:
        raise BadInputError(f"max_new_tokens {max_new_tokens}, batch_size {batch_size}; allowed: 1 and more.")
    if temperature is not None and not (isfinite(temperature) and temperature > 0):
        raise BadInputError(f"temperature: got {temperature}; allowed: above 0, or None for greedy decoding.")
    if not 0 < top_p <= 1:
        raise BadInputError(f"top_p: got {top_p}; allowed: above 0, up to 1.")
