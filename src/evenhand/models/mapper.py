"""Mapping networks. In: picture features. Out: prefix embeddings for a language model.

Both networks of CLIP-CAP (Mokady, Hertz, Bermano 2021, "ClipCap: CLIP Prefix for Image Captioning",
arXiv:2111.09734): a perceptron with one hidden layer, and a transformer over projected features and learnt
constants. Their weights carry the names of the published ones, so a published file loads without renaming.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evenhand.errors import ArtefactError, BadInputError

__all__ = ["Mapper", "MlpMapper", "TransformerMapper", "build_mapper", "check_weights", "load_mapper"]


@runtime_checkable
class Mapper(Protocol):
    """Turns picture features into prefix embeddings. Any module with these members qualifies; no base class.

    Attributes:
        feature_dim: Numbers per picture.
        embedding_dim: Width of the language model's token embeddings.
        prefix_length: Embeddings per picture.
    """

    feature_dim: int
    embedding_dim: int
    prefix_length: int

    def config(self) -> dict[str, object]:
        """What ``build_mapper`` needs to build the same network; plain JSON."""
        ...

    def __call__(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows prefix embedding"]:
        """The prefix of each picture."""
        ...


class MlpMapper(nn.Module):
    r"""Perceptron with one hidden layer, the published network beside a finetuned GPT-2.

    .. math:: P = W_2 \tanh(W_1 x + b_1) + b_2, \quad P \in R^{prefix \cdot embedding}

    Initial weights come from torch's generator. Source: section 3.3 of the paper.

    Args:
        feature_dim: Numbers per picture, at least 1.
        embedding_dim: Width of the language model's token embeddings, at least 1.
        prefix_length: Embeddings per picture, at least 1.
        hidden_dim: Width of the hidden layer; None is the published ``embedding_dim * prefix_length // 2``.

    Raises:
        BadInputError: A size is below 1.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, prefix_length: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden = embedding_dim * prefix_length // 2 if hidden_dim is None else hidden_dim
        _check_sizes(
            feature_dim=feature_dim,
            embedding_dim=embedding_dim,
            prefix_length=prefix_length,
            hidden_dim=hidden,
        )
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim
        self.prefix_length = prefix_length
        self.hidden_dim = hidden
        self.model = nn.Sequential(
            nn.Linear(feature_dim, hidden), nn.Tanh(), nn.Linear(hidden, prefix_length * embedding_dim)
        )

    def config(self) -> dict[str, object]:
        """What ``build_mapper`` needs to build the same network; plain JSON."""
        return {
            "kind": "mlp",
            "feature_dim": self.feature_dim,
            "embedding_dim": self.embedding_dim,
            "prefix_length": self.prefix_length,
            "hidden_dim": self.hidden_dim,
        }

    def forward(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows prefix embedding"]:
        """The prefix of each picture."""
        flat: Tensor = self.model(features)
        return flat.view(len(features), self.prefix_length, self.embedding_dim)


class TransformerMapper(nn.Module):
    """Transformer over projected features and learnt constants, the published network beside a frozen GPT-2.

    One linear map turns the features into ``clip_length`` embeddings, and ``prefix_length`` learnt constants
    follow. Pre-norm layers without a mask mix all positions; the prefix is what the constants became.
    Initial weights come from torch's generator. Source: section 3.3 of the paper.

    Args:
        feature_dim: Numbers per picture, at least 1.
        embedding_dim: Width of the language model's token embeddings, a multiple of ``num_heads``.
        prefix_length: Embeddings per picture, at least 1.
        clip_length: Embeddings the features are projected to, at least 1.
        num_layers: Layers, at least 1; 8 in the published one.
        num_heads: Attention heads; 8 in the published one.

    Raises:
        BadInputError: A size is below 1, or ``embedding_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self,
        feature_dim: int,
        embedding_dim: int,
        prefix_length: int,
        clip_length: int,
        num_layers: int = 8,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        _check_sizes(
            feature_dim=feature_dim,
            embedding_dim=embedding_dim,
            prefix_length=prefix_length,
            clip_length=clip_length,
            num_layers=num_layers,
            num_heads=num_heads,
        )
        if embedding_dim % num_heads:
            raise BadInputError(
                f"embedding_dim {embedding_dim} cannot be split over {num_heads} heads; give a multiple of num_heads"
            )
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim
        self.prefix_length = prefix_length
        self.clip_length = clip_length
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.linear = nn.Linear(feature_dim, clip_length * embedding_dim)
        self.prefix_const = nn.Parameter(torch.randn(prefix_length, embedding_dim))
        self.transformer = _Transformer(embedding_dim, num_heads, num_layers)

    def config(self) -> dict[str, object]:
        """What ``build_mapper`` needs to build the same network; plain JSON."""
        return {
            "kind": "transformer",
            "feature_dim": self.feature_dim,
            "embedding_dim": self.embedding_dim,
            "prefix_length": self.prefix_length,
            "clip_length": self.clip_length,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
        }

    def forward(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows prefix embedding"]:
        """The prefix of each picture."""
        seen: Tensor = self.linear(features).view(len(features), self.clip_length, self.embedding_dim)
        constants = self.prefix_const.expand(len(features), -1, -1)
        mixed: Tensor = self.transformer(torch.cat((seen, constants), dim=1))
        return mixed[:, self.clip_length :]


class _Attention(nn.Module):
    """Self-attention of every position to every position; queries, keys and values have no bias."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "rows positions width"]) -> Float[Tensor, "rows positions width"]:
        keys, values = self.to_keys_values(x).chunk(2, dim=-1)
        queries, keys, values = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.to_queries(x), keys, values)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        projected: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return projected


class _FeedForward(nn.Module):
    """Two linear maps with a ReLU between; twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "rows positions width"]) -> Float[Tensor, "rows positions width"]:
        widened: Tensor = self.fc2(functional.relu(self.fc1(x)))
        return widened


class _Layer(nn.Module):
    """Attention, then the feed-forward part, each on a normalised copy and added to what came in."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _FeedForward(width)

    def forward(self, x: Float[Tensor, "rows positions width"]) -> Float[Tensor, "rows positions width"]:
        attended: Tensor = x + self.attn(self.norm1(x))
        out: Tensor = attended + self.mlp(self.norm2(attended))
        return out


class _Transformer(nn.Module):
    """Layers in a row, without a norm after the last."""

    def __init__(self, width: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, num_heads) for _ in range(num_layers))

    def forward(self, x: Float[Tensor, "rows positions width"]) -> Float[Tensor, "rows positions width"]:
        for layer in self.layers:
            x = layer(x)
        return x


_SIZES: Mapping[str, tuple[str, ...]] = {
    "mlp": ("feature_dim", "embedding_dim", "prefix_length", "hidden_dim"),
    "transformer": (
        "feature_dim",
        "embedding_dim",
        "prefix_length",
        "clip_length",
        "num_layers",
        "num_heads",
    ),
}


def build_mapper(config: Mapping[str, object]) -> MlpMapper | TransformerMapper:
    """The network that a ``config()`` describes, with initial weights.

    Raises:
        ArtefactError: ``kind`` is unknown, or a size is missing, extra, not a whole number or not possible.
    """
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in _SIZES:
        raise ArtefactError(f"mapper kind {kind!r} is unknown; allowed: {', '.join(_SIZES)}")
    wanted, found = {"kind", *_SIZES[kind]}, set(config)
    if wanted != found:
        raise ArtefactError(
            f"the config of a {kind} mapper lacks {sorted(wanted - found)} and has the unknown {sorted(found - wanted)}"
        )
    sizes: dict[str, int] = {}
    for name in _SIZES[kind]:
        value = config[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise ArtefactError(f"mapper config: {name} is {value!r}; it must be a whole number")
        sizes[name] = value
    try:
        return MlpMapper(**sizes) if kind == "mlp" else TransformerMapper(**sizes)
    except BadInputError as error:
        raise ArtefactError(f"mapper config: {error}") from error


def load_mapper(config: Mapping[str, object], weights: Mapping[str, Tensor]) -> MlpMapper | TransformerMapper:
    """The network that a ``config()`` describes, with these weights, in float32 and in evaluation mode.

    Args:
        config: What ``config()`` gave.
        weights: A state dict of the network, any float dtype; copied.

    Raises:
        ArtefactError: The config is not a mapper's, or a weight is missing, extra, misshapen or not finite.
    """
    with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to fit
        mapper = build_mapper(config)
    check_weights(weights, mapper.state_dict(), what="the mapper")
    mapper.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in weights.items()}, assign=True)
    return mapper.eval()


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, what: str) -> None:
    """Refuse weights that do not fit a network.

    Args:
        weights: What a file holds.
        expected: A state dict with the wanted names and shapes; its values are not read.
        what: The network, for the message.

    Raises:
        ArtefactError: A name is missing or extra, a shape differs, or a value is not a finite float.
    """
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    if missing or extra:
        raise ArtefactError(
            f"{what} does not have the known layout: missing {_list(missing)}; unexpected {_list(extra)}"
        )
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise ArtefactError(
                f"{what}: {name} has shape {tuple(value.shape)}; it must be {tuple(expected[name].shape)}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ArtefactError(f"{what}: {name} ({value.dtype}) is not finite floats; the file is damaged")


def _list(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "nothing"


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise BadInputError(f"{name} is {value}; it must be at least 1")
