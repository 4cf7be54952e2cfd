"""A text-to-image pipeline of diffusers as an ``ImageModel``. In: prompts and their seeds. Out: samples with PNG bytes.

Stable Diffusion, SDXL, SD3, Flux, PixArt and every other pipeline that draws from text alone. Every picture has a
random generator of its own on the CPU, so that its noise depends on its seed and on nothing else.
"""

import hashlib
import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from PIL import Image

from evenhand.errors import ArtefactError, BadInputError, PictureError
from evenhand.models.diffusion_load import load_pipeline
from evenhand.records import Prompt, Sample

__all__ = ["DiffusionModel", "load_diffusers_model"]

_OPTIONS = {
    "guidance": "guidance_scale",
    "steps": "num_inference_steps",
    "height": "height",
    "width": "width",
    "negative_prompt": "negative_prompt",
}
"""Ours -> the argument of a pipeline's call."""

_FAILURES = (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One picture as the pipeline gave it: levels in [0, 1], and whether its safety checker blanked it."""

    levels: np.ndarray
    blanked: bool


class DiffusionModel:
    """Draws with a pipeline of diffusers; see ``protocol.ImageModel``.

    The same prompt and seed give the same picture whatever the batch size and its neighbours, up to rounding: another
    batch size may take other matrix kernels, and many steps carry a last bit further. A pipeline or scheduler that
    does not take its noise from the generators it is given is found out at the first batch and draws one by one.

    Args:
        pipeline: A text-to-image pipeline on its device; its progress bar is switched off.
        name: Shown in reports.
        revision: Changes whenever the weights may.
        guidance: Classifier-free guidance (``guidance_scale``); by default the pipeline's own, as the next four.
        steps: Denoising steps.
        height: Of a picture, in pixels.
        width: Of a picture, in pixels.
        negative_prompt: What to draw away from.
        batch_size: Pictures drawn together.

    Raises:
        BadInputError: A number is out of range, or the pipeline does not take an option.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        revision: str,
        guidance: float | None = None,
        steps: int | None = None,
        height: int | None = None,
        width: int | None = None,
        negative_prompt: str | None = None,
        batch_size: int = 4,
    ) -> None:
        import diffusers

        _check(guidance, steps, height, width, batch_size)
        asked = inspect.signature(type(pipeline).__call__).parameters
        options = {
            "guidance": guidance,
            "steps": steps,
            "height": height,
            "width": width,
            "negative_prompt": negative_prompt,
        }
        foreign = [ours for ours, value in options.items() if value is not None and _OPTIONS[ours] not in asked]
        if foreign:
            raise BadInputError(f"{foreign[0]}: {type(pipeline).__name__} does not take it; leave it out.")
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
        self.pipeline, self.name, self.batch_size = pipeline, name, batch_size
        self.replayable = True
        self._given: dict[str, Any] = {_OPTIONS[ours]: value for ours, value in options.items() if value is not None}
        if "clean_caption" in asked:  # would rewrite prompts, if certain packages are installed
            self._given["clean_caption"] = False
        self._longest = asked["max_sequence_length"].default if "max_sequence_length" in asked else None
        self._takes_lists = True
        self._has_drawn = False
        if negative_prompt is not None:
            self._check_length(negative_prompt)
        own = {ours: _default(asked.get(theirs)) for ours, theirs in _OPTIONS.items()}
        self.settings: Mapping[str, object] = {
            **{ours: own[ours] if value is None else value for ours, value in options.items()},
            "pipeline": type(pipeline).__name__,
            "scheduler": type(pipeline.scheduler).__name__ if hasattr(pipeline, "scheduler") else None,
            "safety_checker": getattr(pipeline, "safety_checker", None) is not None,
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "diffusers": diffusers.__version__,
        }
        digest = hashlib.sha256(repr(sorted(self.settings.items())).encode()).hexdigest()
        self.revision = f"{revision}-{digest[:8]}"

    def draw(self, prompts: Sequence[Prompt], *, seeds: Sequence[int]) -> tuple[Sample, ...]:
        """One sample per prompt, same order, with PNG bytes; a prompt that fails has ``error`` instead.

        Errors of a sample: a prompt longer than the text encoders read, a picture that the safety checker blanked,
        a picture that is not finite, and whatever the pipeline raises for this prompt alone.

        Raises:
            BadInputError: Numbers of prompts and seeds differ, memory does not suffice, or no picture was ever drawn
                and none of these can be.
        """
        if len(seeds) != len(prompts):
            raise BadInputError(f"seeds: got {len(seeds)} for {len(prompts)} prompts; give one per prompt.")
        samples: dict[int, Sample] = {}
        asked = []
        for i, prompt in enumerate(prompts):
            try:
                self._check_length(prompt.text)
                asked.append(i)
            except BadInputError as error:
                samples[i] = _failed(prompt, seeds[i], error)
        for start in range(0, len(asked), self.batch_size):
            rows = asked[start : start + self.batch_size]
            drawn = self._drawn([prompts[i].text for i in rows], [seeds[i] for i in rows])
            for i, one in zip(rows, drawn, strict=True):
                samples[i] = _sample(prompts[i], seeds[i], one)
        return tuple(samples[i] for i in range(len(prompts)))

    def _drawn(self, texts: Sequence[str], seeds: Sequence[int]) -> "list[_Drawn | Exception]":
        """A picture per text, together where that changes nothing, else one by one."""
        if len(texts) > 1 and self._takes_lists:
            try:
                together, used_others = self._call(texts, seeds)
            except _FAILURES as error:
                self._check_memory(error)
            else:
                if not used_others:
                    self._has_drawn = True
                    return list(together)
                self._takes_lists = False  # its noise does not come from the generators: a neighbour would change it
        found: list[_Drawn | Exception] = []
        for text, seed in zip(texts, seeds, strict=True):
            try:
                found += self._call([text], [seed])[0]
                self._has_drawn = True
            except _FAILURES as error:
                self._check_memory(error)
                found.append(error)
        if not self._has_drawn:
            first = next(one for one in found if isinstance(one, Exception))
            raise BadInputError(
                f"{self.name} draws nothing: {type(first).__name__}: {first}; do: check height, width and the other "
                "options, then the pipeline."
            ) from first
        return found

    def _call(self, texts: Sequence[str], seeds: Sequence[int]) -> tuple[list[_Drawn], bool]:
        """The pipeline's pictures, and whether it took random numbers from elsewhere than its generators."""
        given = dict(self._given)
        if "negative_prompt" in given:
            given["negative_prompt"] = [given["negative_prompt"]] * len(texts)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with _seeded(seeds[0], self.pipeline.device) as used:
            # A list of one is no list to some pipelines.
            output = self.pipeline(
                prompt=list(texts),
                generator=generators if len(generators) > 1 else generators[0],
                output_type="np",
                **given,
            )
            others = used()
        named = ("nsfw_content_detected", "nsfw_detected")
        flags = next((found for name in named if (found := getattr(output, name, None)) is not None), None)
        pictures = [_levels(picture) for picture in output.images]
        if len(pictures) != len(texts):
            raise ValueError(f"the pipeline gave {len(pictures)} pictures for {len(texts)} prompts")
        blanked = [False] * len(pictures) if flags is None else [bool(flag) for flag in flags]
        return [_Drawn(*one) for one in zip(pictures, blanked, strict=True)], others

    def _check_length(self, text: str) -> None:
        """Refuse a text that every text encoder would cut.

        Where several read the prompt (CLIP and T5 in SD3 and Flux), it is whole if one of them reads all of it.

        Raises:
            BadInputError: It does not fit.
        """
        from transformers import PreTrainedTokenizerBase

        found = []
        for name, part in self.pipeline.components.items():
            encoder = name.replace("tokenizer", "text_encoder")
            if isinstance(part, PreTrainedTokenizerBase) and self.pipeline.components.get(encoder, part) is not None:
                limit = min(part.model_max_length, self._longest or part.model_max_length)
                length = len(part(text, truncation=False, verbose=False)["input_ids"])
                if length <= limit:
                    return
                found.append((limit, length))
        if found:
            limit, length = max(found)
            raise BadInputError(
                f"the prompt has {length} tokens; allowed: {limit}, the rest would be cut off in silence; shorten it."
            )

    def _check_memory(self, error: Exception) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            raise BadInputError(
                f"batch_size: got {self.batch_size}, for which memory does not suffice; give a smaller one, a smaller "
                "picture, or dtype float16."
            ) from error


def load_diffusers_model(
    source: str | None = None,
    *,
    device: str = "cpu",
    dtype: "torch.dtype | str" = "auto",
    revision: str | None = None,
    variant: str | None = None,
    guidance: float | None = None,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    negative_prompt: str | None = None,
    batch_size: int = 4,
) -> DiffusionModel:
    """A pipeline from a folder or the hub; code that comes with a model is never run. What the registry loads.

    Args:
        source: A folder with ``model_index.json``, or a hub id.
        device: Where it runs, for example ``cpu`` or ``cuda``.
        dtype: Of the weights, for example ``float32`` or ``float16``; ``auto`` takes that of the largest file.
        revision: Commit, tag or branch on the hub.
        variant: Of the files, for example ``fp16``.
        guidance: As the class, and so the following.
        steps: Denoising steps.
        height: Of a picture, in pixels.
        width: Of a picture, in pixels.
        negative_prompt: What to draw away from.
        batch_size: Pictures drawn together.

    Raises:
        ArtefactError: No such pipeline, code of its own, pickles, incomplete or not finite weights.
        BadInputError: No source is given, a number is out of range, or the pipeline does not take an option.
        MissingExtraError: ``diffusers`` is not installed.
    """
    if not source:
        raise BadInputError("which model? Give a folder, or a hub id, of a text-to-image pipeline of diffusers.")
    loaded = load_pipeline(source, device=device, dtype=dtype, revision=revision, variant=variant)
    return DiffusionModel(
        loaded.pipeline,
        name=source.rstrip("/").rsplit("/", 1)[-1],
        revision=loaded.revision,
        guidance=guidance,
        steps=steps,
        height=height,
        width=width,
        negative_prompt=negative_prompt,
        batch_size=batch_size,
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> "Iterator[Any]":
    """Global random numbers from a seed for a while; yields a question: were any drawn?"""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in devices)]

        def used() -> bool:
            after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in devices)]
            return not all(torch.equal(one, other) for one, other in zip(before, after, strict=True))

        yield used


def _levels(picture: Any) -> np.ndarray:
    """Levels in [0, 1], (height, width, 3)."""
    given = np.asarray(picture)
    levels = given.astype(np.float32) / (255 if given.dtype == np.uint8 else 1)
    if levels.ndim != 3 or levels.shape[-1] != 3:
        raise ValueError(f"the pipeline gave a picture of shape {levels.shape}, expected (height, width, 3)")
    return levels


def _sample(prompt: Prompt, seed: int, drawn: "_Drawn | Exception") -> Sample:
    if isinstance(drawn, Exception):
        return _failed(prompt, seed, drawn)
    if drawn.blanked:
        return _failed(prompt, seed, PictureError("the pipeline's safety checker blanked the picture."))
    if not np.isfinite(drawn.levels).all():
        return _failed(prompt, seed, ArtefactError(_NOT_FINITE))
    written = io.BytesIO()
    Image.fromarray((drawn.levels.clip(0, 1) * 255).round().astype(np.uint8)).save(written, "PNG")
    content = written.getvalue()
    return Sample(prompt.id, 0, seed, None, image=content, image_sha256=hashlib.sha256(content).hexdigest())


_NOT_FINITE = "the picture is not finite (NaN or infinity); load the pipeline in float32 or bfloat16."


def _failed(prompt: Prompt, seed: int, error: Exception) -> Sample:
    said = " ".join(str(error).split())
    return Sample(prompt.id, 0, seed, None, error=f"{type(error).__name__}: {said[:500]}")


def _default(parameter: inspect.Parameter | None) -> object:
    """What a pipeline takes where nothing is given, as far as its signature says."""
    value = None if parameter is None else parameter.default
    return value if isinstance(value, (str, int, float)) else None


def _check(guidance: float | None, steps: int | None, height: int | None, width: int | None, batch_size: int) -> None:
    if guidance is not None and not isfinite(guidance):
        raise BadInputError(f"guidance: got {guidance}; allowed: any finite number.")
    for name, value in (("steps", steps), ("height", height), ("width", width), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise BadInputError(f"{name}: got {value}; allowed: 1 and more.")
