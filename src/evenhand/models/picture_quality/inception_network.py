"""The network of the Inception Score. In: pictures of 299 by 299 pixels. Out: 1008 class scores.

The graph of Inception v3 that was published on 2015-12-05 and that every Inception Score and FID since is computed
with: its last two blocks and its average pools differ from torchvision's. Tensors have the names of torch-fidelity's
conversion of it (``weights-inception-2015-12-05``), so that file fits. Scores are those of the last layer without its
bias (``logits_unbiased``), as there.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["InceptionNetwork", "resize_like_tensorflow"]

_Size = int | tuple[int, int]
_Conv = tuple[int, int, _Size, int, _Size]  # channels in, channels out, kernel, stride, padding
_Step = str | tuple[str, ...]  # a convolution, a pool, or several convolutions side by side


class InceptionNetwork(nn.Module):
    """Inception v3 of 2015, to be filled with ``load_state_dict``."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1, 1, 0)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, 1, 0)
        self.Mixed_5b = _square(192, 32)
        self.Mixed_5c = _square(256, 64)
        self.Mixed_5d = _square(288, 64)
        self.Mixed_6a = _halving(288)
        self.Mixed_6b = _long(768, 128)
        self.Mixed_6c = _long(768, 160)
        self.Mixed_6d = _long(768, 160)
        self.Mixed_6e = _long(768, 192)
        self.Mixed_7a = _long_halving(768)
        self.Mixed_7b = _forked(1280, "average")
        self.Mixed_7c = _forked(2048, "largest")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, pixels: Float[Tensor, "pictures 3 299 299"]) -> Float[Tensor, "pictures 1008"]:
        """Class scores without the last bias; pixels are in [-1, 1)."""
        seen = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        seen = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_POOLS["half"](seen)))
        seen = _POOLS["half"](seen)
        for block in (
            *(self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c),
            *(self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c),
        ):
            seen = block(seen)
        return functional.linear(seen.mean((2, 3)), self.fc.weight)


def resize_like_tensorflow(picture: Float[Tensor, "3 height width"], side: int) -> Float[Tensor, "3 side side"]:
    """Bilinear to a square, as TensorFlow 1 did it: target pixel i looks at i times the ratio of the sides.

    Other libraries look half a pixel further; the network was published with this one.
    """
    for axis in (1, 2):
        length = picture.shape[axis]
        at = torch.arange(side, device=picture.device, dtype=picture.dtype) * (length / side)
        below = at.floor().long().clamp(max=length - 1)
        above = (below + 1).clamp(max=length - 1)
        part = (at - below).reshape((side, 1) if axis == 1 else (side,))
        low, high = picture.index_select(axis, below), picture.index_select(axis, above)
        picture = low + (high - low) * part
    return picture


class _Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, into: int, out: int, kernel: _Size, stride: int, padding: _Size) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, seen: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(seen)))


def _average(seen: Tensor) -> Tensor:
    return functional.avg_pool2d(seen, 3, 1, 1, count_include_pad=False)


def _largest(seen: Tensor) -> Tensor:
    return functional.max_pool2d(seen, 3, 1, 1)


def _half(seen: Tensor) -> Tensor:
    return functional.max_pool2d(seen, 3, 2)


_POOLS = {"average": _average, "largest": _largest, "half": _half}


class _Block(nn.Module):
    """Paths side by side; their outputs become channels of one picture."""

    def __init__(self, convolutions: Mapping[str, _Conv], paths: Sequence[Sequence[_Step]]) -> None:
        super().__init__()
        for name, sizes in convolutions.items():
            self.add_module(name, _Convolution(*sizes))
        self._paths = paths

    def forward(self, seen: Tensor) -> Tensor:
        return torch.cat([self._walk(seen, path) for path in self._paths], 1)

    def _walk(self, seen: Tensor, path: Sequence[_Step]) -> Tensor:
        for step in path:
            if isinstance(step, tuple):
                seen = torch.cat([self.get_submodule(name)(seen) for name in step], 1)
            else:
                seen = _POOLS[step](seen) if step in _POOLS else self.get_submodule(step)(seen)
        return seen


_DOUBLE = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
_SEVEN = ("branch7x7_1", "branch7x7_2", "branch7x7_3")


def _square(into: int, pool: int) -> _Block:
    return _Block(
        {
            "branch1x1": (into, 64, 1, 1, 0),
            "branch5x5_1": (into, 48, 1, 1, 0),
            "branch5x5_2": (48, 64, 5, 1, 2),
            "branch3x3dbl_1": (into, 64, 1, 1, 0),
            "branch3x3dbl_2": (64, 96, 3, 1, 1),
            "branch3x3dbl_3": (96, 96, 3, 1, 1),
            "branch_pool": (into, pool, 1, 1, 0),
        },
        (("branch1x1",), ("branch5x5_1", "branch5x5_2"), _DOUBLE, ("average", "branch_pool")),
    )


def _halving(into: int) -> _Block:
    return _Block(
        {
            "branch3x3": (into, 384, 3, 2, 0),
            "branch3x3dbl_1": (into, 64, 1, 1, 0),
            "branch3x3dbl_2": (64, 96, 3, 1, 1),
            "branch3x3dbl_3": (96, 96, 3, 2, 0),
        },
        (("branch3x3",), _DOUBLE, ("half",)),
    )


def _long(into: int, inner: int) -> _Block:
    across: tuple[_Size, int, _Size] = ((1, 7), 1, (0, 3))
    down: tuple[_Size, int, _Size] = ((7, 1), 1, (3, 0))
    return _Block(
        {
            "branch1x1": (into, 192, 1, 1, 0),
            "branch7x7_1": (into, inner, 1, 1, 0),
            "branch7x7_2": (inner, inner, *across),
            "branch7x7_3": (inner, 192, *down),
            "branch7x7dbl_1": (into, inner, 1, 1, 0),
            "branch7x7dbl_2": (inner, inner, *down),
            "branch7x7dbl_3": (inner, inner, *across),
            "branch7x7dbl_4": (inner, inner, *down),
            "branch7x7dbl_5": (inner, 192, *across),
            "branch_pool": (into, 192, 1, 1, 0),
        },
        (
            ("branch1x1",),
            _SEVEN,
            tuple(f"branch7x7dbl_{number}" for number in range(1, 6)),
            ("average", "branch_pool"),
        ),
    )


def _long_halving(into: int) -> _Block:
    return _Block(
        {
            "branch3x3_1": (into, 192, 1, 1, 0),
            "branch3x3_2": (192, 320, 3, 2, 0),
            "branch7x7x3_1": (into, 192, 1, 1, 0),
            "branch7x7x3_2": (192, 192, (1, 7), 1, (0, 3)),
            "branch7x7x3_3": (192, 192, (7, 1), 1, (3, 0)),
            "branch7x7x3_4": (192, 192, 3, 2, 0),
        },
        (("branch3x3_1", "branch3x3_2"), tuple(f"branch7x7x3_{number}" for number in range(1, 5)), ("half",)),
    )


def _forked(into: int, pool: str) -> _Block:
    return _Block(
        {
            "branch1x1": (into, 320, 1, 1, 0),
            "branch3x3_1": (into, 384, 1, 1, 0),
            "branch3x3_2a": (384, 384, (1, 3), 1, (0, 1)),
            "branch3x3_2b": (384, 384, (3, 1), 1, (1, 0)),
            "branch3x3dbl_1": (into, 448, 1, 1, 0),
            "branch3x3dbl_2": (448, 384, 3, 1, 1),
            "branch3x3dbl_3a": (384, 384, (1, 3), 1, (0, 1)),
            "branch3x3dbl_3b": (384, 384, (3, 1), 1, (1, 0)),
            "branch_pool": (into, 192, 1, 1, 0),
        },
        (
            ("branch1x1",),
            ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
            ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
            (pool, "branch_pool"),
        ),
    )
