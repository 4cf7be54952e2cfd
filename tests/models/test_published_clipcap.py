"""Published checkpoints: converted, loaded again, and compared with both networks in plain torch."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.mapper import load_mapper
from evenhand.models.published_clipcap import convert_published

FEATURES, WIDTH, PREFIX, CLIP, VOCAB, POSITIONS, GPT_HEADS, MAPPER_HEADS = 6, 128, 3, 2, 40, 16, 2, 8
TOKENS = torch.tensor([[7, 0, 39, 12], [1, 2, 3, 4]])


def gpt2_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """The names of a real GPT-2 with two layers, every value drawn anew, and the masks once stored."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=GPT_HEADS,
        bos_token_id=None,
        eos_token_id=None,
    )
    names = GPT2LMHeadModel(config).state_dict()
    weights = {name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in names.items()}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    mask = torch.ones(POSITIONS, POSITIONS, dtype=torch.uint8).tril()[None, None]
    for i in range(2):
        weights[f"transformer.h.{i}.attn.bias"] = mask.clone()
        weights[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    return {f"gpt.{name}": value for name, value in weights.items()}


def mlp_weights(generator: torch.Generator) -> dict[str, Tensor]:
    shapes = {
        "model.0.weight": (20, FEATURES),
        "model.0.bias": (20,),
        "model.2.weight": (PREFIX * WIDTH, 20),
        "model.2.bias": (PREFIX * WIDTH,),
    }
    return {f"clip_project.{n}": torch.randn(s, generator=generator) * 0.3 for n, s in shapes.items()}


def transformer_weights(generator: torch.Generator) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "linear.weight": (CLIP * WIDTH, FEATURES),
        "linear.bias": (CLIP * WIDTH,),
        "prefix_const": (PREFIX, WIDTH),
    }
    for i in range(2):
        at = f"transformer.layers.{i}"
        shapes |= {f"{at}.{n}": (WIDTH,) for n in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")}
        shapes |= {
            f"{at}.attn.to_queries.weight": (WIDTH, WIDTH),
            f"{at}.attn.to_keys_values.weight": (2 * WIDTH, WIDTH),
            f"{at}.attn.project.weight": (WIDTH, WIDTH),
            f"{at}.attn.project.bias": (WIDTH,),
            f"{at}.mlp.fc1.weight": (2 * WIDTH, WIDTH),
            f"{at}.mlp.fc1.bias": (2 * WIDTH,),
            f"{at}.mlp.fc2.weight": (WIDTH, 2 * WIDTH),
            f"{at}.mlp.fc2.bias": (WIDTH,),
        }
    return {f"clip_project.{n}": torch.randn(s, generator=generator) * 0.15 for n, s in shapes.items()}


MAPPERS = {"mlp": mlp_weights, "transformer": transformer_weights}


def published(kind: str, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {**gpt2_weights(generator), **MAPPERS[kind](generator)}


def norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def plain_prefix(w: dict[str, Tensor], features: Tensor) -> Tensor:
    """The mapping network on the published names, with einsum, in float64."""
    rows = len(features)
    if "clip_project.model.0.weight" in w:
        hidden = torch.einsum("rf,hf->rh", features, w["clip_project.model.0.weight"])
        hidden = torch.tanh(hidden + w["clip_project.model.0.bias"])
        flat = torch.einsum("rh,oh->ro", hidden, w["clip_project.model.2.weight"]) + w["clip_project.model.2.bias"]
        return flat.reshape(rows, PREFIX, WIDTH)
    flat = torch.einsum("rf,of->ro", features, w["clip_project.linear.weight"]) + w["clip_project.linear.bias"]
    x = torch.cat([flat.reshape(rows, CLIP, WIDTH), w["clip_project.prefix_const"].expand(rows, -1, -1)], dim=1)
    for i in range(2):
        at = f"clip_project.transformer.layers.{i}"
        y = norm(x, w, f"{at}.norm1")
        split = (rows, CLIP + PREFIX, MAPPER_HEADS, WIDTH // MAPPER_HEADS)
        kv = w[f"{at}.attn.to_keys_values.weight"]
        q = torch.einsum("rni,oi->rno", y, w[f"{at}.attn.to_queries.weight"]).reshape(split)
        k = torch.einsum("rni,oi->rno", y, kv[:WIDTH]).reshape(split)
        v = torch.einsum("rni,oi->rno", y, kv[WIDTH:]).reshape(split)
        scores = torch.einsum("rnhd,rmhd->rnmh", q, k) * (WIDTH // MAPPER_HEADS) ** -0.5
        mixed = torch.einsum("rnmh,rmhd->rnhd", scores.softmax(2), v).flatten(2)
        x = x + mixed @ w[f"{at}.attn.project.weight"].T + w[f"{at}.attn.project.bias"]
        y = norm(x, w, f"{at}.norm2") @ w[f"{at}.mlp.fc1.weight"].T + w[f"{at}.mlp.fc1.bias"]
        x = x + y.clamp_min(0) @ w[f"{at}.mlp.fc2.weight"].T + w[f"{at}.mlp.fc2.bias"]
    return x[:, CLIP:]


def plain_logits(w: dict[str, Tensor], features: Tensor, tokens: Tensor) -> Tensor:
    """Logits of GPT-2 after prefix and text, on the published names, in float64."""
    w = {name: value.double() for name, value in w.items()}
    x = torch.cat([plain_prefix(w, features.double()), w["gpt.transformer.wte.weight"][tokens]], dim=1)
    rows, length, _ = x.shape
    x = x + w["gpt.transformer.wpe.weight"][:length]
    for i in range(2):
        at = f"gpt.transformer.h.{i}"
        y = norm(x, w, f"{at}.ln_1") @ w[f"{at}.attn.c_attn.weight"] + w[f"{at}.attn.c_attn.bias"]
        q, k, v = (part.reshape(rows, length, GPT_HEADS, 64) for part in y.split(WIDTH, dim=-1))
        scores = torch.einsum("rnhd,rmhd->rhnm", q, k) / math.sqrt(64)
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        mixed = torch.einsum("rhnm,rmhd->rnhd", scores.softmax(-1), v).flatten(2)
        x = x + mixed @ w[f"{at}.attn.c_proj.weight"] + w[f"{at}.attn.c_proj.bias"]
        y = norm(x, w, f"{at}.ln_2") @ w[f"{at}.mlp.c_fc.weight"] + w[f"{at}.mlp.c_fc.bias"]
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + y @ w[f"{at}.mlp.c_proj.weight"] + w[f"{at}.mlp.c_proj.bias"]
    return norm(x, w, "gpt.transformer.ln_f") @ w["gpt.lm_head.weight"].T


def converted_logits(folder: Path, features: Tensor, tokens: Tensor) -> Tensor:
    record = json.loads((folder / "captioner.json").read_text())
    mapper = load_mapper(record["mapper"], load_file(folder / "mapper.safetensors"))
    model = GPT2LMHeadModel.from_pretrained(folder / record["lm"]).eval()
    with torch.inference_mode():
        text = model.get_input_embeddings()(tokens)
        return model(inputs_embeds=torch.cat([mapper(features), text], dim=1)).logits


def save(weights: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".pt":
        torch.save(weights, path)
    else:  # safetensors keeps tied weights once
        save_file({name: value for name, value in weights.items() if name != "gpt.lm_head.weight"}, path)
    return path


def convert(path: Path, out: Path) -> Path:
    return convert_published(path, out, encoder="some/clip", normalise=False)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_logits_are_those_of_the_published_networks(kind, suffix, tmp_path):
    weights = published(kind)
    out = convert(save(weights, tmp_path / f"model{suffix}"), tmp_path / "out")
    features = torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(9))
    found = converted_logits(out, features, TOKENS)
    expected = plain_logits(weights, features, TOKENS)
    assert found.shape == (2, PREFIX + TOKENS.shape[1], VOCAB)
    assert expected.std() > 0.1  # the comparison is not of zeros
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_untied_head_is_kept(tmp_path):
    weights = published("mlp")
    weights["gpt.lm_head.weight"] = weights["gpt.lm_head.weight"] * -2
    out = convert(save(weights, tmp_path / "model.pt"), tmp_path / "out")
    features = torch.ones(2, FEATURES)
    assert torch.allclose(
        converted_logits(out, features, TOKENS).double(), plain_logits(weights, features, TOKENS), atol=1e-5
    )


def test_half_precision_is_widened(tmp_path):
    weights = {n: v.half() if v.is_floating_point() else v for n, v in published("mlp").items()}
    out = convert(save(weights, tmp_path / "model.pt"), tmp_path / "out")
    assert {value.dtype for value in load_file(out / "mapper.safetensors").values()} == {torch.float32}
    assert {value.dtype for value in load_file(out / "lm" / "model.safetensors").values()} == {torch.float32}


def test_folder_and_record(tmp_path):
    out = convert(save(published("transformer"), tmp_path / "model.pt"), tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {"captioner.json", "lm", "mapper.safetensors"}
    assert not [path for path in out.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    assert json.loads((out / "captioner.json").read_text()) == {
        "format": 1,
        "kind": "clipcap",
        "mapper": {
            "kind": "transformer",
            "feature_dim": 6,
            "embedding_dim": 128,
            "prefix_length": 3,
            "clip_length": 2,
            "num_layers": 2,
            "num_heads": 8,
        },
        "lm": "lm",
        "tokenizer": "openai-community/gpt2",
        "encoder": {"kind": "clip", "model": "some/clip"},
        "prompt": {"bos": False, "stop": "."},
        "max_new_tokens": 67,
    }


def test_what_the_weights_do_not_say_must_be_said(tmp_path):
    mlp, transformer = (save(published(kind), tmp_path / f"{kind}.pt") for kind in ("mlp", "transformer"))
    with pytest.raises(BadInputError, match="takes 6 features and openai/clip-vit-base-patch32 gives 512"):
        convert_published(mlp, tmp_path / "out")
    with pytest.raises(BadInputError, match="say normalise=True"):
        convert_published(transformer, tmp_path / "out", encoder="some/clip")
    assert not (tmp_path / "out").exists()
    out = convert_published(transformer, tmp_path / "out", encoder="some/clip", normalise=True, tokenizer="tok")
    record = json.loads((out / "captioner.json").read_text())
    assert record["encoder"] == {"kind": "clip", "model": "some/clip", "normalise": True}
    assert record["tokenizer"] == "tok"


def test_vit_b32_is_the_default_for_512_features(tmp_path):
    weights = published("mlp") | {"clip_project.model.0.weight": torch.zeros(20, 512)}
    out = convert_published(save(weights, tmp_path / "model.pt"), tmp_path / "out")
    record = json.loads((out / "captioner.json").read_text())
    assert record["encoder"] == {"kind": "clip", "model": "openai/clip-vit-base-patch32"}


class Touches:
    """Unpickled by an ordinary reader, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return open, (str(self.sentinel), "w")


@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_not_run(bare, tmp_path):
    sentinel = tmp_path / "sentinel"
    bomb = Touches(sentinel)
    pickle.loads(pickle.dumps(bomb)).close()  # noqa: S301
    assert sentinel.exists()  # the bomb is live
    sentinel.unlink()
    weights = {**published("mlp"), "gpt.more": bomb}
    path = tmp_path / "model.pt"
    if bare:
        path.write_bytes(pickle.dumps(weights, protocol=2))
    else:
        torch.save(weights, path)
    with pytest.raises(ArtefactError, match=r"model\.pt was refused.*nothing in it was run"):
        convert(path, tmp_path / "out")
    assert not sentinel.exists()
    assert not (tmp_path / "out").exists()


def test_the_refused_object_is_named(tmp_path):
    torch.save({"gpt.x": Touches(tmp_path / "sentinel")}, tmp_path / "model.pt")
    with pytest.raises(ArtefactError, match=r"it holds \S*open, which is not a tensor"):
        convert(tmp_path / "model.pt", tmp_path / "out")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00(U", b"PK\x03\x04" + bytes(64)])
def test_damaged_files(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=name):
        convert(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize(
    ("loaded", "says"),
    [
        ([torch.ones(2)], "holds a list"),
        ({}, "holds a dict"),
        ({"epoch": 3, "model": {"gpt.x": torch.ones(1)}}, "these are not: epoch, model"),
        ({"gpt.x": torch.zeros(1).expand(1 << 40)}, r"these are not: gpt\.x"),
        ({"gpt.x": torch.zeros(2, 2).to_sparse()}, r"these are not: gpt\.x"),
    ],
)
def test_other_than_a_state_dict_of_tensors(loaded, says, tmp_path):
    torch.save(loaded, tmp_path / "model.pt")
    with pytest.raises(ArtefactError, match=says):
        convert(tmp_path / "model.pt", tmp_path / "out")


def without(*names: str):
    return lambda weights: [weights.pop(name) for name in names]


def with_(**named):
    return lambda weights: weights.update({name.replace("__", "."): value for name, value in named.items()})


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        ("mlp", with_(visual__weight=torch.ones(1)), r"unexpected visual\.weight"),
        ("mlp", without("gpt.transformer.wte.weight"), r"gpt\.transformer\.wte\.weight is missing"),
        ("mlp", without("clip_project.model.0.weight"), r"clip_project\.model\.0\.weight is missing"),
        ("mlp", without("clip_project.model.0.bias"), r"the mapper .* missing model\.0\.bias"),
        ("mlp", with_(clip_project__model__4__bias=torch.ones(1)), r"unexpected model\.4\.bias"),
        (
            "mlp",
            with_(clip_project__model__2__weight=torch.ones(100, 20)),
            "has 100 rows; .* multiple of .* 128",
        ),
        ("mlp", with_(clip_project__model__2__bias=torch.ones(1)), r"model\.2\.bias has shape \(1,\)"),
        (
            "mlp",
            with_(clip_project__model__2__bias=torch.full((384,), math.nan)),
            r"model\.2\.bias .* not finite",
        ),
        ("mlp", with_(gpt__transformer__wte__weight=torch.ones(40)), r"wte\.weight has shape \(40,\)"),
        (
            "mlp",
            with_(gpt__transformer__ln_f__bias=torch.full((128,), math.inf)),
            r"ln_f\.bias .* not finite",
        ),
        (
            "mlp",
            without("gpt.transformer.h.0.ln_1.weight"),
            r"GPT-2 .* missing transformer\.h\.0\.ln_1\.weight",
        ),
        (
            "mlp",
            with_(gpt__transformer__h__5__ln_1__bias=torch.ones(128)),
            r"unexpected transformer\.h\.5\.ln_1",
        ),
        ("transformer", without("clip_project.linear.weight"), r"linear\.weight is missing"),
        (
            "transformer",
            with_(clip_project__prefix_const=torch.ones(3, 64)),
            r"prefix_const has shape \(3, 64\)",
        ),
        (
            "transformer",
            without(*[name for name in published("transformer") if ".layers." in name]),
            "num_layers is 0",
        ),
    ],
)
def test_wrong_layout(kind, spoil, says, tmp_path):
    weights = published(kind)
    spoil(weights)
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(ArtefactError, match=says):
        convert(tmp_path / "model.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_and_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(BadInputError, match="there is no file"):
        convert(tmp_path / "absent.pt", tmp_path / "out")
    (tmp_path / "model.bin").touch()
    with pytest.raises(BadInputError, match=r"suffix '\.bin'; allowed: \.pt, \.safetensors"):
        convert(tmp_path / "model.bin", tmp_path / "out")
    with pytest.raises(BadInputError, match="not an empty folder"):
        convert(tmp_path / "model.bin", tmp_path)
