"""Picture features of CLIP. In: pictures. Out: one row of floats each, in CLIP's joint space.

The features are those CLIP-CAP maps to a prefix (Mokady et al. 2021, arXiv:2111.09734): the projected image
embedding, raw by default. See ``docs/published-clipcap.md`` for the checkpoint that wants unit length.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, MissingExtraError

__all__ = ["ClipImageEncoder"]

_AT_ONCE = 32
_CONFIG_KINDS = ("clip", "clip_vision_model")


class ClipImageEncoder:
    """A frozen CLIP image encoder with its own preprocessing. Make one with ``from_pretrained``.

    Attributes:
        name: The folder or hub id, with ``@revision`` where one was given.
        feature_dim: Numbers per picture; 512 for ViT-B/32.
        normalise: Whether features are divided by their Euclidean length.
    """

    def __init__(self, model: Any, processor: Any, *, name: str, normalise: bool = False) -> None:
        self.name = name
        self.feature_dim = int(model.config.projection_dim)
        self.normalise = normalise
        self._model = model.eval().requires_grad_(False)
        self._processor = processor

    @classmethod
    def from_pretrained(
        cls,
        model_id_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        normalise: bool = False,
    ) -> "ClipImageEncoder":
        """Load from a folder or from the hub; code in the repository is never run.

        Pictures are resized with Pillow, as the published code does, also where torchvision is installed.

        Args:
            model_id_or_path: A folder made by ``save_pretrained``, or a hub id, for example
                ``openai/clip-vit-base-patch32``.
            revision: Commit, tag or branch on the hub.
            device: Where the model runs and the features are.
            normalise: Divide each row by its Euclidean length.

        Raises:
            BadInputError: There is no such folder or hub id, or a file of it is absent.
            ArtefactError: It is not a CLIP with an image projection, or weights are missing or misshapen.
            MissingExtraError: transformers is not installed.
        """
        source = str(model_id_or_path)
        model, processor = _load(source, revision)
        name = f"{source}@{revision}" if revision else source
        return cls(model.to(device), processor, name=name, normalise=normalise)

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """The features of each picture, float32, on the encoder's device.

        A row does not depend on the other pictures, float rounding aside. No pictures give no rows.

        Args:
            pictures: Any mode and size; converted to RGB.
        """
        parts = [self._encode(pictures[i : i + _AT_ONCE]) for i in range(0, len(pictures), _AT_ONCE)]
        empty = torch.empty(0, self.feature_dim, device=self._model.device)
        return torch.cat([empty, *parts])

    def _encode(self, pictures: Sequence[Image]) -> Tensor:
        pixels = self._processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
        rows: Tensor = self._model(pixel_values=pixels["pixel_values"].to(self._model.device)).image_embeds
        return rows / rows.norm(dim=1, keepdim=True) if self.normalise else rows


def _load(source: str, revision: str | None) -> tuple[Any, Any]:
    """The image half of a CLIP and its preprocessing."""
    try:
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    hf: Any = transformers  # its annotations leave out None revisions and the loading report
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        processor = hf.AutoImageProcessor.from_pretrained(source, backend="pil", **where)
        config = hf.AutoConfig.from_pretrained(source, **where)
    except (OSError, ValueError) as error:
        raise BadInputError(_absent(source, error)) from error
    if config.model_type not in _CONFIG_KINDS:
        raise ArtefactError(f"{source} is a {config.model_type!r} model; allowed: {', '.join(_CONFIG_KINDS)}")
    if config.model_type == "clip":  # some CLIPs on the hub declare the width at the top only
        width, config = config.projection_dim, config.vision_config
        config.projection_dim = width
    try:
        with _quiet():  # a whole CLIP has a text half, which is left out on purpose
            model, report = hf.CLIPVisionModelWithProjection.from_pretrained(
                source,
                config=config,
                revision=revision,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, and refused below
            )
    except OSError as error:
        raise BadInputError(_absent(source, error)) from error
    except SafetensorError as error:
        raise ArtefactError(f"the weights of {source} are not a safetensors file: {error}") from error
    lacking = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if lacking:
        raise ArtefactError(f"{source} lacks CLIP image weights, or they are misshapen: {', '.join(lacking[:8])}")
    return model, processor


def _absent(source: str, error: Exception) -> str:
    return (
        f"no CLIP in {source!r}; give a folder with config.json, preprocessor_config.json and weights, "
        f"or a hub id that can be reached: {error}"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    import transformers

    logging: Any = transformers.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
