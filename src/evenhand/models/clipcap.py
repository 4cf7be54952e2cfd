"""CLIP-CAP captioners (Mokady et al. 2021, arXiv 2111.09734). In: pictures. Out: captions.

Frozen picture features -> mapping network -> prefix embeddings -> frozen language model, for any encoder with
``encode`` and any transformers causal LM. A folder holds ``captioner.json`` and ``mapper.safetensors``; the
language model is a folder beside them, a path, a hub id, or ``package:gemma3-270m``.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, PictureError
from evenhand.models.decode import decode_greedily, text_of
from evenhand.models.gemma import gemma_folder
from evenhand.models.hidden import LastHidden, wants_hidden
from evenhand.models.mapper import MlpMapper, TransformerMapper, load_mapper
from evenhand.models.protocol import Intervention
from evenhand.models.scene import SceneEncoder
from evenhand.pictures import open_picture
from evenhand.records import Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ClipCap", "Decoding", "ImageEncoder", "load_clipcap", "read_tensors", "save_clipcap"]

_FORMAT = 1
_FIELDS = {"mapper": dict, "lm": str, "tokenizer": str, "encoder": dict, "prompt": dict, "max_new_tokens": int}
_PROMPT = {"bos": bool, "stop": str}


@runtime_checkable
class ImageEncoder(Protocol):
    """Frozen features of pictures.

    Attributes:
        name: Shown in reports.
        feature_dim: Length of a feature vector.
    """

    name: str
    feature_dim: int

    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """One feature vector per picture."""
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a caption is read out.

    Attributes:
        bos: Whether the LM's start token stands before the prefix.
        stop: A token with this text ends the caption; the LM's end token always does.
        max_new_tokens: Longest caption, in tokens.
    """

    bos: bool
    stop: str
    max_new_tokens: int


class ClipCap:
    """Captions pictures greedily; see ``protocol.TextModel``.

    Args:
        encoder: Frozen picture features.
        mapper: Features to prefix embeddings.
        lm: A transformers causal LM; put in evaluation mode.
        tokenizer: The LM's.
        decoding: How a caption is read out.
        name: Shown in reports.
        revision: Changes whenever captions may.
        batch_size: Pictures decoded together.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        mapper: MlpMapper | TransformerMapper,
        lm: Any,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        decoding: Decoding,
        name: str,
        revision: str,
        batch_size: int = 16,
    ) -> None:
        embedding_dim = lm.get_input_embeddings().weight.shape[1]
        if mapper.embedding_dim != embedding_dim or mapper.feature_dim != encoder.feature_dim:
            raise ArtefactError(
                f"mapper {mapper.feature_dim} -> {mapper.embedding_dim} does not join encoder "
                f"({encoder.feature_dim}) and language model ({embedding_dim}); use the mapper trained for both."
            )
        if decoding.bos and tokenizer.bos_token_id is None:
            raise ArtefactError("the tokenizer has no start token to stand before the prefix; set bos to false.")
        self.encoder, self.mapper, self.lm, self.tokenizer = encoder, mapper.eval(), lm.eval(), tokenizer
        self.decoding, self.name, self.revision, self.batch_size = decoding, name, revision, batch_size
        self._stop_ids = _stop_ids(tokenizer, decoding.stop)

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
    ) -> tuple[Sample, ...]:
        """A caption per prompt's picture, after the prompt's text; one that fails becomes a sample with ``error``.

        Greedy decoding draws nothing, so ``seeds`` are only recorded.
        """
        if len(seeds) != len(prompts):
            raise BadInputError(f"seeds: got {len(seeds)} for {len(prompts)} prompts; give one per prompt.")
        opened = [_open(prompt) for prompt in prompts]
        good = [i for i, picture in enumerate(opened) if isinstance(picture, Image)]
        samples = [
            Sample(prompt.id, 0, seed, None, error=picture if isinstance(picture, str) else None)
            for prompt, seed, picture in zip(prompts, seeds, opened, strict=True)
        ]
        pictures = [picture for picture in opened if isinstance(picture, Image)]
        if pictures:
            made = self.caption(pictures, prompts=[prompts[i] for i in good], intervention=intervention)
            for i, caption in zip(good, made, strict=True):
                samples[i] = replace(caption, prompt_id=prompts[i].id, seed=seeds[i])
        return tuple(samples)

    def caption(
        self,
        pictures: Sequence[Image],
        *,
        prompts: Sequence[Prompt] = (),
        intervention: Intervention | None = None,
    ) -> tuple[Sample, ...]:
        """A sample per picture, without prompt id and seed, decoded as one batch.

        Args:
            pictures: At least one.
            prompts: Their texts stand before the pictures; none by default.
            intervention: A decode-time mitigation.
        """
        texts = [prompt.text for prompt in prompts] or [""] * len(pictures)
        prefix = self.prefix(self.encoder.encode(pictures))
        prefix, mask = self._after_texts(prefix, texts) if any(texts) else (prefix, None)
        hidden = LastHidden(self.lm) if wants_hidden(intervention) else None
        hook = None
        if intervention is not None:
            openers: list[Callable[[], Image]] = [partial(_same, picture) for picture in pictures]
            asked = [_asked(prompt) for prompt in prompts] if any(texts) else None
            given = {"asked": asked, "hidden": hidden}
            known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            hook = intervention.start(openers, self.tokenizer, in_place=True, **known)
        with hidden or nullcontext():
            ids = decode_greedily(
                self.lm,
                prefix,
                mask=mask,
                stop_ids=self._stop_ids,
                max_new_tokens=self.decoding.max_new_tokens,
                hook=hook,
                continuation="emitted" if intervention is None else intervention.continuation,
                lookahead=hidden is None,
            )
        captions = [text_of(self.tokenizer, row).strip() for row in ids]
        if hook is None:
            return tuple(Sample("", 0, 0, text, tokens=len(row)) for text, row in zip(captions, ids, strict=True))
        traced = zip(captions, ids, hook.claims(), hook.edits(ids), hook.passed(ids), strict=True)
        return tuple(
            Sample("", 0, 0, text, claim=claim, edits=edits, passed=passed, tokens=len(row))
            for text, row, claim, edits, passed in traced
        )

    @torch.inference_mode()
    def prefix(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows prefix embedding"]:
        """The input embeddings a caption continues."""
        table = self.lm.get_input_embeddings()
        weight = table.weight
        first = next(self.mapper.parameters())
        mapped: Tensor = self.mapper(features.to(first.device, first.dtype)).to(weight.device, weight.dtype)
        if not self.decoding.bos:
            return mapped
        start = torch.full((len(features), 1), self.tokenizer.bos_token_id, device=weight.device)
        return torch.cat([table(start), mapped], dim=1)

    @torch.inference_mode()
    def _after_texts(
        self, prefix: Float[Tensor, "rows prefix embedding"], texts: Sequence[str]
    ) -> tuple[Float[Tensor, "rows longer embedding"], Int[Tensor, "rows longer"]]:
        """The prefixes with a text before each picture, padded on the left, and which embeddings are no padding."""
        table = self.lm.get_input_embeddings()
        start = int(self.decoding.bos)
        rows = []
        for one, text in zip(prefix, texts, strict=True):
            ids = self.tokenizer.encode(text, add_special_tokens=False)
            words = table(torch.tensor(ids, dtype=torch.long, device=prefix.device))
            rows.append(torch.cat([one[:start], words, one[start:]]))
        longest = max(len(row) for row in rows)
        padded = torch.zeros(len(rows), longest, prefix.shape[2], dtype=prefix.dtype, device=prefix.device)
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=prefix.device)
        for i, row in enumerate(rows):
            padded[i, longest - len(row) :], mask[i, longest - len(row) :] = row, 1
        return padded, mask


def _asked(prompt: Prompt) -> str:
    """The user's own words: the prompt without a passage that was retrieved for it."""
    return prompt.text.replace(prompt.facts.get("context") or "\0", "")


def _same(picture: Image) -> Image:
    return picture


def _open(prompt: Prompt) -> Image | str:
    """The prompt's picture, or the error that takes its sample's place."""
    try:
        if prompt.image is None:
            raise PictureError(f"prompt {prompt.id!r} has no picture; a captioner needs one.")
        return open_picture(prompt.image)
    except PictureError as error:
        return f"{type(error).__name__}: {error}"


def _stop_ids(tokenizer: "PreTrainedTokenizerBase", stop: str) -> frozenset[int]:
    ids = {token for token in (tokenizer.eos_token_id,) if token is not None}
    for text in (stop, f"a{stop}"):
        last = tokenizer.encode(text, add_special_tokens=False)[-1:]
        ids |= {token for token in last if text_of(tokenizer, [token]).strip() == stop}
    if not ids:
        raise ArtefactError(f"the tokenizer has neither an end token nor a token {stop!r}; give another `stop`.")
    return frozenset(int(token) for token in ids)


def save_clipcap(captioner: ClipCap, folder: Path, *, lm: str, tokenizer: str, encoder: dict[str, object]) -> None:
    """Write ``captioner.json`` and ``mapper.safetensors``; the language model stays where ``lm`` says it is."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in captioner.mapper.state_dict().items()}
    save_file(tensors, folder / "mapper.safetensors")
    settings = {
        "format": _FORMAT,
        "kind": "clipcap",
        "mapper": captioner.mapper.config(),
        "lm": lm,
        "tokenizer": tokenizer,
        "encoder": encoder,
        "prompt": {"bos": captioner.decoding.bos, "stop": captioner.decoding.stop},
        "max_new_tokens": captioner.decoding.max_new_tokens,
    }
    (folder / "captioner.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def load_clipcap(
    folder: Path, *, name: str | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipCap:
    """A captioner from its folder.

    Raises:
        ArtefactError: The folder is not a captioner's, or its weights are of a wrong shape or not finite.
        MissingExtraError: A package its parts need is not installed.
    """
    settings = _settings(folder)
    mapper = load_mapper(settings["mapper"], read_tensors(folder / "mapper.safetensors")).to(device)
    lm, tokenizer = _language_model(_resolve(settings["lm"], folder), _resolve(settings["tokenizer"], folder), dtype)
    return ClipCap(
        _encoder(settings["encoder"], folder, device),
        mapper,
        lm.to(device),
        tokenizer,
        decoding=Decoding(**settings["prompt"], max_new_tokens=settings["max_new_tokens"]),
        name=name or folder.resolve().name,
        revision=_revision(folder),
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        ArtefactError: Absent, not safetensors (a pickle is never read), or not finite.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path.name}: {error}; give a safetensors file (a pickle is never read).") from error
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtefactError(f"{path.name}: {key} holds NaN or infinity; make the weights again.")
    return tensors


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "captioner.json"
    try:
        settings: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder}: no readable captioner.json ({error}); give a captioner's folder.") from error
    ours = isinstance(settings, dict) and settings.get("format") == _FORMAT and settings.get("kind") == "clipcap"
    if not ours or not set(_FIELDS) <= set(settings):
        raise ArtefactError(f"{path}: not a captioner of format {_FORMAT}; it needs {', '.join(sorted(_FIELDS))}.")
    prompt = settings["prompt"]
    checks = {field: type(settings[field]) is kind for field, kind in _FIELDS.items()}
    checks["prompt"] = isinstance(prompt, dict) and {key: type(prompt[key]) for key in prompt} == _PROMPT
    checks["max_new_tokens"] = checks["max_new_tokens"] and settings["max_new_tokens"] >= 1
    if wrong := [field for field, right in checks.items() if not right]:
        raise ArtefactError(
            f"{path}: {wrong[0]} is {settings[wrong[0]]!r}; see a folder written by save_clipcap for what it holds."
        )
    found: dict[str, Any] = settings
    return found


def _language_model(lm: str, tokenizer: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            lm, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        words: Any = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtefactError(
            f"no language model in {lm!r}, or no tokenizer in {tokenizer!r}; give folders with config.json and "
            f"safetensors (a pickle is never read), or hub ids that can be reached: {error}"
        ) from error
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ArtefactError(f"{lm!r}: {name} holds NaN or infinity; get the language model again.")
    return model, words


def _resolve(source: str, folder: Path) -> str:
    if source == "package:gemma3-270m":
        return str(gemma_folder())
    return str(folder / source) if (folder / source).is_dir() else source


def _encoder(settings: dict[str, Any], folder: Path, device: str) -> ImageEncoder:
    if settings.get("kind") == "scene":
        tensors = read_tensors(folder / "scene.safetensors")
        if set(tensors) != {"labels", "memory"}:
            raise ArtefactError(f"{folder.name}/scene.safetensors holds {sorted(tensors)}; needs labels and memory.")
        temperature = settings.get("temperature")
        if not isinstance(temperature, int | float) or not 0 < temperature < inf:
            raise ArtefactError(f"encoder temperature is {temperature!r}; allowed: a number above 0.")
        return SceneEncoder(tensors["labels"], tensors["memory"], temperature=float(temperature))
    if settings.get("kind") == "clip":
        from evenhand.models.clip_encoder import ClipImageEncoder

        if not isinstance(settings.get("model"), str):
            raise ArtefactError(f"encoder model is {settings.get('model')!r}; give a folder or a hub id.")
        return ClipImageEncoder.from_pretrained(
            _resolve(settings["model"], folder),
            device=device,
            normalise=bool(settings.get("normalise", False)),
        )
    raise ArtefactError(f"encoder kind {settings.get('kind')!r}; allowed: scene, clip.")


def _revision(folder: Path) -> str:
    """Twelve hex digits over every weight and setting in the folder, a language model inside it included."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".safetensors"}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()[:12]
