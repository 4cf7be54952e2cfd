"""Where a model reads its picture. In: a model and a map of features. Out: the model with the map at that place.

A CLIP-CAP captioner reads what its encoder gives, so its encoder is wrapped. A vision-language model of transformers
reads what enters its projector: LLaVA, for one, takes an inner layer of its vision tower, so that a change of the
tower's output reaches nothing. The map is put before the projector by a hook that is gone when its block ends, and
that says so when nothing was ever read there.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.features import FeatureMitigation

if TYPE_CHECKING:
    from evenhand.models.clipcap import ClipCap, ImageEncoder

__all__ = [
    "MitigatedEncoder",
    "Place",
    "Reads",
    "editing",
    "mitigated_captioner",
    "mitigating",
    "picture_place",
    "read_features",
]

_BEFORE = ("multi_modal_projector", "connector", "merger")  # LLaVA, PaliGemma, Gemma 3; Idefics 3; Qwen-VL
_AFTER = ("vision_model",)  # BLIP hands the tower's output to its decoder


class MitigatedEncoder:
    """An image encoder followed by a map of its features; see ``models.clipcap.ImageEncoder``.

    Raises:
        BadInputError: The map was fitted on features of another length.
    """

    def __init__(self, encoder: "ImageEncoder", mitigation: FeatureMitigation) -> None:
        if mitigation.feature_dim != encoder.feature_dim:
            raise BadInputError(
                f"{mitigation.name} was fitted on {mitigation.feature_dim} features and the encoder gives "
                f"{encoder.feature_dim}; fit it on this encoder's."
            )
        self.name, self.feature_dim = f"{encoder.name} + {mitigation.name}", encoder.feature_dim
        self._encoder, self._mitigation = encoder, mitigation

    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """One mitigated feature vector per picture."""
        return self._mitigation(self._encoder.encode(pictures))


def mitigated_captioner(captioner: "ClipCap", mitigation: FeatureMitigation) -> "ClipCap":
    """The same captioner behind a mitigated encoder, with a name and revision of its own; shares its weights.

    Raises:
        BadInputError: The map was fitted on features of another length.
    """
    made = copy.copy(captioner)
    made.encoder = MitigatedEncoder(captioner.encoder, mitigation)
    made.name = f"{captioner.name} + {mitigation.name}"
    made.revision = f"{captioner.revision}-{_fingerprint(mitigation)}"
    return made


def _fingerprint(mitigation: FeatureMitigation) -> str:
    """Twelve hex digits over a map's settings and weights."""
    digest = hashlib.sha256(json.dumps([mitigation.name, dict(mitigation.settings)], sort_keys=True).encode())
    for name, tensor in sorted(mitigation.tensors().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Place:
    """A side of a module.

    Attributes:
        module: In the model.
        side: What enters it first, or what leaves it (its first or ``last_hidden_state``).
    """

    module: nn.Module
    side: Literal["input", "output"]


@dataclass(slots=True)
class Reads:
    """How often the places of a block were passed so far.

    Attributes:
        calls: Times anything passed a place.
        changed: Times the edit changed a bit of what passed.
    """

    calls: int = 0
    changed: int = 0


def picture_place(model: nn.Module) -> Place:
    """Where a vision-language model of transformers reads its picture features.

    Raises:
        BadInputError: The model has no module of a known name there; give a ``Place`` of your own.
    """
    modules = {name.rsplit(".", 1)[-1]: module for name, module in reversed(list(model.named_modules())) if name}
    for names, side in ((_BEFORE, "input"), (_AFTER, "output")):
        for name in names:
            if name in modules:
                return Place(modules[name], side)  # type: ignore[arg-type]
    raise BadInputError(
        f"{type(model).__name__} has no {', '.join(_BEFORE + _AFTER)}; give the module that its picture features pass "
        "through as a Place."
    )


@contextmanager
def editing(edits: Sequence[tuple[Place, Callable[[Tensor], Tensor]]]) -> Iterator[Reads]:
    """Inside the block, what passes each place is replaced by the edit of it.

    Outside, the model is bit-identical to before, also after an error.

    Raises:
        BadInputError: Nothing passed a place inside the block: the edit would have been without any effect.
    """
    reads = Reads()
    passed: set[int] = set()
    with ExitStack() as hooks:
        for number, (place, edit) in enumerate(edits):
            counted = partial(_edited, edit, number, passed, reads)
            if place.side == "input":
                handle = place.module.register_forward_pre_hook(_entering(counted), with_kwargs=True)
            else:
                handle = place.module.register_forward_hook(_leaving(counted))
            hooks.callback(handle.remove)
        yield reads
    unread = [type(place.module).__name__ for number, (place, _) in enumerate(edits) if number not in passed]
    if unread:
        raise BadInputError(
            f"nothing passed {unread[0]} inside the block, so the mitigation had no effect; run the model with a "
            "picture there, or give the place it is read at."
        )


@contextmanager
def mitigating(model: nn.Module, mitigation: FeatureMitigation, *, place: Place | None = None) -> Iterator[Reads]:
    """Inside the block, every vision token that the model reads goes through the map first.

    Args:
        model: A vision-language model of transformers.
        mitigation: Fitted on ``read_features`` of the same place.
        place: By default ``picture_place(model)``.

    Raises:
        BadInputError: No place is known, the features have another length, or no picture was read inside the block.
    """
    with editing([(place or picture_place(model), mitigation)]) as reads:
        yield reads


@torch.no_grad()
def read_features(
    model: Any, inputs: Mapping[str, Tensor], *, place: Place | None = None
) -> Float[Tensor, "rows features"]:
    """What the model reads of each picture, averaged over its tokens: the rows to fit a mitigation on.

    Args:
        model: A vision-language model of transformers.
        inputs: Of its processor. Models that lay the tokens of all pictures in one row (Qwen-VL) take one at a time.
        place: By default ``picture_place(model)``.

    Raises:
        BadInputError: No picture was read.
    """
    passed: list[Tensor] = []

    def keep(features: Tensor) -> Tensor:
        passed.append(features.detach())
        return features

    with editing([(place or picture_place(model), keep)]):
        model(**inputs)
    tokens = passed[0] if passed[0].dim() > 2 else passed[0][None]
    return tokens.flatten(1, -2).float().mean(dim=1)


def _edited(edit: Callable[[Tensor], Tensor], number: int, passed: set[int], reads: Reads, value: Tensor) -> Tensor:
    made = edit(value)
    passed.add(number)
    reads.calls += 1
    reads.changed += not torch.equal(made, value)
    return made


def _entering(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        first = next((name for name, value in kwargs.items() if isinstance(value, Tensor)), None)
        if first is None:
            raise BadInputError(f"{type(module).__name__} was given no tensor; give another Place.")
        return args, {**kwargs, first: edit(kwargs[first])}

    return hook


def _leaving(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return edit(output)
        if isinstance(output, Mapping):  # a ModelOutput; a new one, so that whoever else holds it sees no change
            return type(output)(**{**output, "last_hidden_state": edit(output["last_hidden_state"])})
        return (edit(output[0]), *output[1:])

    return hook
