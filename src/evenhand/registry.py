"""Names of components. In: a kind and a name. Out: the object, imported on use.

What ships is listed here as ``module:object`` and costs nothing until it is asked for. A package adds its own
under an entry-point group ``evenhand.<kind>``. Importing this module imports nothing else of evenhand's layers.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from evenhand.errors import UnknownNameError

__all__ = ["KINDS", "load", "names"]

KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "models": MappingProxyType(
            {
                "captioner": "evenhand.models.captioner:load_captioner",
                "hf": "evenhand.models.transformers_model:load_transformers_model",
            }
        ),
        "image_models": MappingProxyType(
            {
                "diffusers": "evenhand.models.diffusion:load_diffusers_model",
                "images-api": "evenhand.models.images_api:load_images_api",
                "miniature": "evenhand.miniature.named:open_miniature",
                "unified": "evenhand.models.unified.named:open_unified",
            }
        ),
        "probes": MappingProxyType(
            {
                "blank_image": "evenhand.probes.blank_image:blank_image",
                "captioning": "evenhand.probes.captioning:captioning",
                "coco": "evenhand.probes.coco:coco",
                "context_neutral": "evenhand.probes.context:context_neutral",
                "context_none": "evenhand.probes.context:context_none",
                "context_opposite": "evenhand.probes.context:context_opposite",
                "occupations": "evenhand.probes.occupations:occupations",
                "occupations_augmented": "evenhand.probes.occupations:occupations_augmented",
            }
        ),
        "classifiers": MappingProxyType(
            {
                "answers": "evenhand.classify.answers:AnswerClassifier",
                "words": "evenhand.classify.words:WordClassifier",
            }
        ),
        "picture_classifiers": MappingProxyType(
            {
                "avatars": "evenhand.miniature.named:open_avatars",
                "linear": "evenhand.classify.pictures.named:open_linear",
                "mobilenet": "evenhand.classify.pictures.named:open_mobilenet",
                "people": "evenhand.classify.pictures.named:open_people",
                "photographs": "evenhand.classify.pictures.named:open_photographs",
                "zero-shot": "evenhand.classify.pictures.named:open_zero_shot",
            }
        ),
        "encoders": MappingProxyType({"vision": "evenhand.models.vision_features:load_vision_features"}),
        "face_stages": MappingProxyType(
            {
                "largest": "evenhand.classify.pictures.named:read_largest_face",
                "unknown": "evenhand.classify.pictures.named:read_single_face",
            }
        ),
        "quality": MappingProxyType(
            {
                "clip-iqa": "evenhand.models.picture_quality.clip_iqa:load_clip_iqa",
                "clip-s": "evenhand.models.picture_quality.clip_score:load_clip_scorer",
                "inception": "evenhand.models.picture_quality.inception:load_inception",
            }
        ),
        "mitigations": MappingProxyType(
            {
                "paper": "evenhand.mitigate.ala.presets:paper",
                "align": "evenhand.mitigate.ala.presets:align",
                "neutral": "evenhand.mitigate.ala.presets:neutral",
                "nearest": "evenhand.mitigate.ala.presets:nearest",
            }
        ),
    }
)


def names(kind: str) -> tuple[str, ...]:
    """All names of a kind, sorted: what ships and what installed packages add.

    Raises:
        UnknownNameError: ``kind`` is not one of ``KINDS``.
    """
    return tuple(sorted(_targets(kind)))


def load(kind: str, name: str) -> object:
    """The object behind a name; its module is imported now.

    Raises:
        UnknownNameError: No such kind or name; the message names near misses.
    """
    targets = _targets(kind)
    if name not in targets:
        near = get_close_matches(name, targets, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        known = ", ".join(sorted(targets))
        raise UnknownNameError(f"no {kind} named {name!r}; known: {known}.{hint}")
    found: object = targets[name].load()
    return found


def _targets(kind: str) -> dict[str, EntryPoint]:
    """What ships, and what installed packages add under names that do not ship."""
    if kind not in KINDS:
        raise UnknownNameError(f"no kind named {kind!r}; known: {', '.join(sorted(KINDS))}")
    group = f"evenhand.{kind}"
    added = {point.name: point for point in entry_points(group=group)}
    return {**added, **{name: EntryPoint(name, value, group) for name, value in KINDS[kind].items()}}
