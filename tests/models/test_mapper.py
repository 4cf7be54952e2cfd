"""Mapping networks against numbers by hand and a plain NumPy forward pass."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.mapper import (
    Mapper,
    MlpMapper,
    TransformerMapper,
    build_mapper,
    check_weights,
    load_mapper,
)


def seeded(seed: int, mapper: MlpMapper | TransformerMapper) -> MlpMapper | TransformerMapper:
    """Every weight, norms and biases included, drawn anew, so that none is at a neutral value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in mapper.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    return mapper.eval()


def tiny_transformer(seed: int = 0) -> TransformerMapper:
    mapper = seeded(seed, TransformerMapper(5, 8, 3, clip_length=2, num_layers=2, num_heads=4))
    assert isinstance(mapper, TransformerMapper)
    return mapper


def numpy_transformer(mapper: TransformerMapper, features: Tensor) -> np.ndarray:
    """The same network written out one picture, one head and one query at a time, in float64."""
    w = {name: value.double().numpy() for name, value in mapper.state_dict().items()}
    width, heads = mapper.embedding_dim, mapper.num_heads
    size = width // heads

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    prefixes = []
    for row in features.double().numpy():
        seen = (w["linear.weight"] @ row + w["linear.bias"]).reshape(mapper.clip_length, width)
        x = np.concatenate([seen, w["prefix_const"]])
        for i in range(mapper.num_layers):
            at = f"transformer.layers.{i}"
            y = norm(x, f"{at}.norm1")
            queries = y @ w[f"{at}.attn.to_queries.weight"].T
            keys_values = y @ w[f"{at}.attn.to_keys_values.weight"].T
            keys, values = keys_values[:, :width], keys_values[:, width:]
            mixed = np.zeros_like(x)
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                for n in range(len(x)):
                    scores = np.exp(keys[:, part] @ queries[n, part] / math.sqrt(size))
                    mixed[n, part] = (scores / scores.sum()) @ values[:, part]
            x = x + mixed @ w[f"{at}.attn.project.weight"].T + w[f"{at}.attn.project.bias"]
            y = norm(x, f"{at}.norm2")
            inner = np.maximum(y @ w[f"{at}.mlp.fc1.weight"].T + w[f"{at}.mlp.fc1.bias"], 0)
            x = x + inner @ w[f"{at}.mlp.fc2.weight"].T + w[f"{at}.mlp.fc2.bias"]
        prefixes.append(x[mapper.clip_length :])
    return np.stack(prefixes)


def test_mlp_by_hand():
    # x = 0.5: hidden = tanh(2 * 0.5 + 0) = tanh(1) = 0.7615942
    # outputs = [1 * h + 0, -1 * h + 1] = [0.7615942, 0.2384058], the first embedding first
    mapper = load_mapper(
        {"kind": "mlp", "feature_dim": 1, "embedding_dim": 1, "prefix_length": 2, "hidden_dim": 1},
        {
            "model.0.weight": torch.tensor([[2.0]]),
            "model.0.bias": torch.tensor([0.0]),
            "model.2.weight": torch.tensor([[1.0], [-1.0]]),
            "model.2.bias": torch.tensor([0.0, 1.0]),
        },
    )
    prefix = mapper(torch.tensor([[0.5]]))
    assert prefix.shape == (1, 2, 1)
    assert prefix.flatten().tolist() == pytest.approx([0.7615942, 0.2384058], abs=1e-6)


def test_mlp_lays_embeddings_out_one_after_the_other():
    # Zero weights leave the output bias 0..5: embedding 0 is (0, 1, 2), embedding 1 is (3, 4, 5).
    mapper = MlpMapper(4, 3, 2)
    with torch.no_grad():
        mapper.model[2].weight.zero_()
        mapper.model[2].bias.copy_(torch.arange(6.0))
    assert mapper(torch.ones(1, 4)).tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_published_mlp_sizes():
    # GPT-2 small, 10 embeddings: hidden 768 * 10 / 2 = 3840, output 7680.
    with torch.device("meta"):
        weights = MlpMapper(512, 768, 10).state_dict()
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "model.0.weight": (3840, 512),
        "model.0.bias": (3840,),
        "model.2.weight": (7680, 3840),
        "model.2.bias": (7680,),
    }


def test_published_transformer_names_and_shapes():
    with torch.device("meta"):
        weights = TransformerMapper(640, 768, 40, clip_length=40).state_dict()
    found = {name: tuple(value.shape) for name, value in weights.items()}
    expected = {"linear.weight": (30720, 640), "linear.bias": (30720,), "prefix_const": (40, 768)}
    for i in range(8):
        at = f"transformer.layers.{i}"
        expected |= {f"{at}.{norm}.{part}": (768,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        expected |= {
            f"{at}.attn.to_queries.weight": (768, 768),
            f"{at}.attn.to_keys_values.weight": (1536, 768),
            f"{at}.attn.project.weight": (768, 768),
            f"{at}.attn.project.bias": (768,),
            f"{at}.mlp.fc1.weight": (1536, 768),
            f"{at}.mlp.fc1.bias": (1536,),
            f"{at}.mlp.fc2.weight": (768, 1536),
            f"{at}.mlp.fc2.bias": (768,),
        }
    assert found == expected


def test_silent_layers_leave_the_constants():
    # With project and fc2 at zero both branches add nothing: the prefix is prefix_const, whatever is seen.
    mapper = tiny_transformer()
    with torch.no_grad():
        for layer in mapper.transformer.layers:
            for last in (layer.attn.project, layer.mlp.fc2):
                last.weight.zero_()
                last.bias.zero_()
    prefix = mapper(torch.randn(2, 5, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(prefix, mapper.prefix_const.expand(2, 3, 8))


@pytest.mark.parametrize("seed", range(3))
def test_transformer_agrees_with_numpy(seed):
    mapper = tiny_transformer(seed)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(100 + seed))
    with torch.inference_mode():
        prefix = mapper(features)
    np.testing.assert_allclose(prefix.numpy(), numpy_transformer(mapper, features), atol=1e-5)


@pytest.mark.parametrize("mapper", [seeded(0, MlpMapper(5, 8, 3)), tiny_transformer()])
def test_rows_do_not_depend_on_each_other(mapper):
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    kept = features.clone()
    with torch.inference_mode():
        whole = mapper(features)
        alone = torch.cat([mapper(features[i : i + 1]) for i in (3, 0)])
        none = mapper(features[:0])
    assert torch.allclose(whole[[3, 0]], alone, atol=1e-6)
    assert none.shape == (0, 3, 8)
    assert torch.equal(features, kept)


@pytest.mark.parametrize("mapper", [seeded(0, MlpMapper(5, 8, 3, hidden_dim=7)), tiny_transformer()])
def test_config_and_weights_make_the_same_network(mapper):
    assert isinstance(mapper, Mapper)
    config = json.loads(json.dumps(mapper.config()))
    again = load_mapper(config, mapper.state_dict())
    features = torch.randn(2, 5, generator=torch.Generator().manual_seed(3))
    assert again.config() == mapper.config() == build_mapper(config).config()
    assert not again.training
    with torch.inference_mode():
        assert torch.equal(again(features), mapper(features))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_loading_copies_and_widens(dtype):
    weights = {name: value.to(dtype) for name, value in tiny_transformer().state_dict().items()}
    mapper = load_mapper(tiny_transformer().config(), weights)
    before = mapper.state_dict()["prefix_const"].clone()
    weights["prefix_const"].zero_()
    assert before.dtype == torch.float32
    assert torch.equal(mapper.state_dict()["prefix_const"], before)


MLP = {"kind": "mlp", "feature_dim": 5, "embedding_dim": 8, "prefix_length": 3, "hidden_dim": 12}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "kind None is unknown; allowed: mlp, transformer"),
        ({**MLP, "kind": "rnn"}, "'rnn' is unknown"),
        ({**MLP, "kind": ["mlp"]}, "is unknown"),
        ({**MLP, "kind": "transformer"}, r"lacks \['clip_length'.*unknown \['hidden_dim'\]"),
        ({**MLP, "feature_dim": 5.0}, "feature_dim is 5.0; it must be a whole number"),
        ({**MLP, "feature_dim": True}, "feature_dim is True"),
        ({**MLP, "prefix_length": 0}, "prefix_length is 0; it must be at least 1"),
        ({**tiny_transformer().config(), "num_heads": 3}, "8 cannot be split over 3 heads"),
    ],
)
def test_impossible_config(config, says):
    with pytest.raises(ArtefactError, match=says):
        build_mapper(config)


def test_impossible_sizes():
    with pytest.raises(BadInputError, match="hidden_dim is 0"):
        MlpMapper(5, 1, 1)  # 1 * 1 // 2
    with pytest.raises(BadInputError, match="give a multiple of num_heads"):
        TransformerMapper(5, 12, 1, clip_length=1)


def test_weights_that_do_not_fit():
    good = MlpMapper(5, 8, 3, hidden_dim=12).state_dict()
    check_weights(good, good, what="the mapper")
    lacking = {name: value for name, value in good.items() if name != "model.0.bias"} | {"other": torch.ones(1)}
    with pytest.raises(ArtefactError, match=r"missing model\.0\.bias; unexpected other"):
        load_mapper(MLP, lacking)
    with pytest.raises(ArtefactError, match=r"model\.2\.bias has shape \(23,\); it must be \(24,\)"):
        load_mapper(MLP, good | {"model.2.bias": torch.zeros(23)})
    for bad in (
        torch.full((24,), math.nan),
        torch.full((24,), -math.inf),
        torch.zeros(24, dtype=torch.int64),
    ):
        with pytest.raises(ArtefactError, match=r"model\.2\.bias .* not finite floats"):
            load_mapper(MLP, good | {"model.2.bias": bad})
