"""Where the faces are. In: a picture. Out: a box, five landmarks and a score for each face found, best first.

A cascade of three small networks (496,000 weights; Zhang, Zhang, Li and Qiao 2016, "Joint face detection and
alignment using multi-task cascaded convolutional networks"): P-Net proposes boxes at every place of an image
pyramid, R-Net throws most of them out, O-Net judges the rest and places eyes, nose and corners of the mouth. It
finds faces that are turned to the side or small, which a HOG finder does not. The crops that R-Net and O-Net see
come from the picture in its own resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from evenhand.errors import ArtefactError, BadInputError

__all__ = ["WEIGHTS", "FaceFinder", "FoundFace"]

WEIGHTS = Path(__file__).parent / "weights" / "face_finder.safetensors"
_CELL, _STRIDE, _STEP = 12, 2, 0.709  # what P-Net sees and how it strides, in pixels; scale between two pyramid levels
_LOOKED_AT = 512  # boxes one stage hands on at most


@dataclass(frozen=True, slots=True)
class FoundFace:
    """One face.

    Attributes:
        box: left, top, right, bottom in pixels of the picture; may reach outside it.
        points: x, y of the picture's left eye, right eye, nose tip, left and right corner of the mouth, in pixels.
        score: O-Net's probability that this is a face, in [0, 1].
        sure: Whether the score is as high as was asked.
    """

    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float], ...]
    score: float
    sure: bool = True


class _Net(nn.Module):
    """Convolutions, each with a PReLU and all but the last with a pooling; then heads.

    Args:
        convolutions: (in, out, kernel, pool) of each; pool 0 for none.
        dense: (in, out) of the dense layer, or None for a fully convolutional net.
        heads: Outputs of each head.
    """

    def __init__(
        self,
        convolutions: tuple[tuple[int, int, int, int], ...],
        dense: tuple[int, int] | None,
        heads: tuple[int, ...],
    ) -> None:
        super().__init__()
        body: list[nn.Module] = []
        for inputs, outputs, kernel, pool in convolutions:
            body += [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)]
            if pool:
                body.append(nn.MaxPool2d(pool, 2, ceil_mode=True))
        self.body = nn.Sequential(*body)
        self.dense = nn.Sequential(nn.Linear(*dense), nn.PReLU(dense[1])) if dense else None
        last = dense[1] if dense else convolutions[-1][1]
        self.heads = nn.ModuleList(nn.Linear(last, n) if dense else nn.Conv2d(last, n, 1) for n in heads)

    def forward(self, seen: Float32[Tensor, "crops 3 height width"]) -> tuple[Tensor, ...]:
        """Each head's output; the first is the probability of a face."""
        x = self.body(seen)
        if self.dense is not None:
            x = self.dense(x.permute(0, 3, 2, 1).flatten(1))  # width, height, channel: how the weights were laid out
        face, *rest = (head(x) for head in self.heads)
        return face.softmax(1)[:, 1], *rest


class _Cascade(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = _Net(((3, 10, 3, 2), (10, 16, 3, 0), (16, 32, 3, 0)), None, (2, 4))
        self.r = _Net(((3, 28, 3, 3), (28, 48, 3, 3), (48, 64, 2, 0)), (576, 128), (2, 4))
        self.o = _Net(((3, 32, 3, 3), (32, 64, 3, 3), (64, 64, 3, 2), (64, 128, 2, 0)), (1152, 256), (2, 4, 10))


class FaceFinder:
    """Finds faces.

    Args:
        sure: Scores, in (0, 1), that a box needs to pass each of the three networks.
        told: Boxes that the third network scores lower than ``sure`` asks, but not below this, are told too, after the
            others; in (0, 1].
        weights: Safetensors of the three networks.

    Raises:
        BadInputError: An option is out of its range.
        ArtefactError: The weights are absent, of another shape, or not finite.
    """

    name = "mtcnn"

    def __init__(
        self,
        *,
        sure: Sequence[float] = (0.7, 0.7, 0.9),
        told: float = 1.0,
        weights: Path = WEIGHTS,
    ) -> None:
        if len(sure) != 3 or not all(0 < one < 1 for one in sure):
            raise BadInputError(f"sure: got {sure}; allowed: three numbers in (0, 1), one for each network.")
        if not 0 < told <= 1:
            raise BadInputError(f"told: got {told}; allowed: a score in (0, 1].")
        self.sure, self._told = tuple(float(one) for one in sure), min(float(told), float(sure[2]))
        self._nets = _load(Path(weights))

    @torch.inference_mode()
    def find(self, picture: Image, *, smallest: float) -> tuple[FoundFace, ...]:
        """The faces of an RGB picture, best first. Safe to call from threads.

        Args:
            picture: Where to look.
            smallest: Side of the smallest face looked for, as a share of the picture's longer side, in [0.02, 0.5];
                never fewer than 12 pixels. What it costs grows with its inverse square.

        Raises:
            BadInputError: ``smallest`` is out of its range.
        """
        if not 0.02 <= smallest <= 0.5:
            raise BadInputError(f"smallest: got {smallest}; allowed: a share of the longer side in [0.02, 0.5].")
        boxes = self._refine(picture, self._propose(picture, smallest))
        return self._judge(picture, boxes)

    def _propose(self, picture: Image, smallest: float) -> Float[np.ndarray, "boxes 4"]:
        """P-Net at each level of the pyramid, the largest first; smaller levels are made from the largest."""
        found, scores = [], []
        scale = min(1.0, _CELL / (smallest * max(picture.size)))  # a picture is not enlarged: 12 pixels are the least
        largest = picture.resize(_sides(picture.size, scale), Resampling.BILINEAR, reducing_gap=2.0)
        level = largest
        while min(level.size) >= _CELL:
            face, shift = self._nets.p(_values([level]))
            pixel = np.array(picture.size * 2) / (level.size * 2)
            boxes, kept = _cells(face[0].numpy(), shift[0].numpy(), self.sure[0], pixel)
            keep = _suppress(boxes, kept, 0.5)
            found.append(boxes[keep])
            scores.append(kept[keep])
            scale *= _STEP
            level = largest.resize(_sides(picture.size, scale), Resampling.BILINEAR)
        if not found:
            return np.zeros((0, 4))
        boxes, kept = np.concatenate(found), np.concatenate(scores)
        proposed: Float[np.ndarray, "boxes 4"] = boxes[_suppress(boxes, kept, 0.7)]
        return proposed

    def _refine(self, picture: Image, boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "kept 4"]:
        if not len(boxes):
            return boxes
        boxes = _squares(boxes)
        face, shift = self._nets.r(_values(_crops(picture, boxes, 24)))
        passed = np.flatnonzero(face.numpy() >= self.sure[1])
        boxes = _moved(boxes[passed], shift.numpy()[passed])
        refined: Float[np.ndarray, "kept 4"] = boxes[_suppress(boxes, face.numpy()[passed], 0.7)]
        return refined

    def _judge(self, picture: Image, boxes: Float[np.ndarray, "boxes 4"]) -> tuple[FoundFace, ...]:
        if not len(boxes):
            return ()
        boxes = _squares(boxes)
        face, shift, points = (one.numpy() for one in self._nets.o(_values(_crops(picture, boxes, 48))))
        passed = np.flatnonzero(face >= self._told)
        squares, scores = boxes[passed], face[passed]
        moved = _moved(squares, shift[passed])
        corners, sides = squares[:, None, :2], (squares[:, 2:] - squares[:, :2])[:, None]
        placed = corners + sides * points[passed].reshape(-1, 2, 5).transpose(0, 2, 1)
        return tuple(
            FoundFace(
                (float(moved[i, 0]), float(moved[i, 1]), float(moved[i, 2]), float(moved[i, 3])),
                tuple((float(x), float(y)) for x, y in placed[i]),
                float(scores[i]),
                bool(scores[i] >= self.sure[2]),
            )
            for i in _suppress(moved, scores, 0.7, of_smaller=True)
        )


def _load(path: Path) -> _Cascade:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    nets = _Cascade()
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: cannot be read as safetensors ({error}); make it anew.") from error
    wanted = {name: tuple(value.shape) for name, value in nets.state_dict().items()}
    if {name: tuple(value.shape) for name, value in stored.items()} != wanted:
        raise ArtefactError(f"{path}: its tensors are not those of the three networks; make it anew.")
    values = {name: value.float() for name, value in stored.items()}
    if not all(bool(value.isfinite().all()) for value in values.values()):
        raise ArtefactError(f"{path}: holds NaN or infinite weights; make it anew.")
    nets.load_state_dict(values)
    return nets.eval().requires_grad_(False)


def _values(seen: list[Image]) -> Float32[Tensor, "crops 3 height width"]:
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in seen]))
    return (pixels.permute(0, 3, 1, 2).float() - 127.5) / 128


def _sides(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _crops(picture: Image, boxes: Float[np.ndarray, "boxes 4"], side: int) -> list[Image]:
    crops = []
    for left, top, right, bottom in np.rint(boxes).astype(int).tolist():
        inside = left >= 0 and top >= 0 and right <= picture.width and bottom <= picture.height
        box = (left, top, max(right, left + 1), max(bottom, top + 1))
        source = picture if inside else picture.crop(box)  # what lies outside the picture is black
        crops.append(source.resize((side, side), Resampling.BILINEAR, box=box if inside else None))
    return crops


def _cells(
    face: Float32[np.ndarray, "rows columns"],
    shift: Float32[np.ndarray, "4 rows columns"],
    sure: float,
    pixel: Float[np.ndarray, " 4"],
) -> tuple[Float[np.ndarray, "boxes 4"], Float32[np.ndarray, " boxes"]]:
    """The boxes of P-Net's cells that pass, in pixels of the picture (``pixel`` of them to one of the level's)."""
    rows, columns = np.nonzero(face >= sure)
    best = np.argsort(-face[rows, columns], kind="stable")[:_LOOKED_AT]
    rows, columns = rows[best], columns[best]
    corner = np.stack([columns, rows], 1) * float(_STRIDE)
    squares = np.concatenate([corner, corner + _CELL], 1) * pixel
    return _moved(squares, shift[:, rows, columns].T), face[rows, columns]


def _moved(boxes: Float[np.ndarray, "boxes 4"], shift: Float32[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    sides = boxes[:, 2:] - boxes[:, :2]
    moved: Float[np.ndarray, "boxes 4"] = boxes + shift * np.concatenate([sides, sides], 1)
    return moved


def _squares(boxes: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _suppress(
    boxes: Float[np.ndarray, "boxes 4"], scores: Float32[np.ndarray, " boxes"], most: float, *, of_smaller: bool = False
) -> Int[np.ndarray, " kept"]:
    """Indices of the boxes kept, best first, when none may overlap a better one by more than ``most``.

    Overlap is intersection over union, or over the smaller of the two boxes.
    """
    order = np.argsort(-scores, kind="stable")[:_LOOKED_AT]
    boxes = boxes[order]
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    common = np.maximum(high - low, 0).prod(2)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)
    whole = np.minimum(areas[:, None], areas) if of_smaller else areas[:, None] + areas - common
    overlaps = common > most * whole
    left_over, kept = np.ones(len(boxes), bool), []
    for i in range(len(boxes)):
        if left_over[i]:
            kept.append(i)
            left_over &= ~overlaps[i]
    best_first: Int[np.ndarray, " kept"] = order[kept] if kept else order[:0]
    return best_first
