"""CLIP-S, CLIP-IQA and class scores: by hand on given features; the loaders on tiny models of the real classes."""

import json
from importlib.util import find_spec
from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quality_pictures import SIDE, as_tensors, compass, noise, plain
from safetensors.torch import load_file, save_file

from evenhand.errors import ArtefactError, BadInputError
from evenhand.metrics.picture_quality import quality_estimates
from evenhand.models.picture_quality.clip_iqa import PAIRS, ClipIqa, load_clip_iqa
from evenhand.models.picture_quality.clip_score import ClipScore, load_clip_scorer
from evenhand.models.picture_quality.protocol import PictureExtractor, QualityMetric, TextExtractor

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed (extra `hf`)")
COLOURS = {"red": (230, 20, 20), "green": (20, 200, 30), "blue": (20, 30, 230), "white": (240, 240, 240)}
SPACE = {"east": (3.0, 0.0), "north": (0.0, 0.5), "north east": (1.0, 1.0), "west": (-1.0, 0.0)}


def words(texts):
    return np.array([SPACE[one] for one in texts])


def tokenizer(length):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["a", "photo", "of", "picture", "A", "depicts", ".", "Good", "Bad", "Sharp", "Blurry", *COLOURS]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *known])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<bos>", 1), ("<eos>", 2)]
    fast.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    marks = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=length, **marks)


def tiny(kind="clip"):
    import transformers

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 40, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
    text["pad_token_id"] = 0
    vision, size = {**tower, "image_size": SIDE, "patch_size": 14}, {"height": SIDE, "width": SIDE}
    torch.manual_seed(2)  # cosines of either sign
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        images = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)
        model = transformers.CLIPModel(config)
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        images = transformers.SiglipImageProcessorPil(size=size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.1)
    return model.eval(), images, tokenizer(8)


def saved(parts, folder):
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def either(request, tmp_path_factory):
    parts = tiny(request.param)
    return parts, saved(parts, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def folder(tmp_path):
    return saved(tiny(), tmp_path / "tiny-clip")


# CLIP-S


def test_clip_s_by_hand():
    # Cosines: east with east 1, with north 0, with north east 1 / sqrt 2, with west -1, which counts as 0.
    pictures, texts = [plain(200)] * 4, ["east", "north", "north east", "west"]
    metric = ClipScore(compass, words, weights="compass")
    assert metric.rows(pictures, texts)[:, 0] == pytest.approx([100.0, 0.0, 100 / 2**0.5, 0.0])
    assert metric.settings["largest"] == 100.0
    assert isinstance(metric, QualityMetric)
    assert isinstance(compass, PictureExtractor)
    assert isinstance(words, TextExtractor)
    assert json.loads(json.dumps(metric.settings)) == metric.settings


def test_clip_s_of_the_paper_by_hand():
    asked = []

    def prefixed(texts):
        asked.extend(texts)
        return words([one.removeprefix("A photo depicts ") for one in texts])

    metric = ClipScore(compass, prefixed, weights="compass", formula="paper")
    found = metric.rows([plain(9), plain(9, 9), plain(9)], ["east", "east", "east"])
    assert found[:, 0] == pytest.approx([2.5, 2.5 / 2**0.5, 2.5])
    assert asked == ["A photo depicts east"]  # each text once
    assert metric.settings["largest"] == 2.5


def test_rows_of_nothing_and_of_unequal_lists():
    metric = ClipScore(compass, words, weights="compass")
    assert metric.rows([], []).shape == (0, 1)
    with pytest.raises(BadInputError, match="2 texts for 1 pictures"):
        metric.rows([plain(1)], ["east", "west"])
    with pytest.raises(BadInputError, match="formula: got 'mine'"):
        ClipScore(compass, words, weights="compass", formula="mine")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda pictures: np.full((len(pictures), 2), np.nan), "NaN or infinity"),
        (lambda pictures: np.ones((1, 2)), "shape \\(1, 2\\) for 2 inputs"),
        (lambda pictures: np.ones((2, 2), dtype=np.int64), "int64"),
        (lambda pictures: np.zeros((2, 2)), "no direction"),
        (lambda pictures: np.ones((2, 3)), "3 features and texts 2"),
    ],
)
def test_extractors_that_are_refused(given, said):
    with pytest.raises(BadInputError, match=said):
        ClipScore(given, words, weights="x").rows([plain(1)] * 2, ["east"] * 2)
    if "features" not in said:
        with pytest.raises(BadInputError, match=said):
            ClipIqa(given, lambda texts: np.eye(2), weights="x").rows([plain(1)] * 2, ["east"] * 2)


@torch.inference_mode()
def test_clip_s_is_the_models_own_cosine(either):
    # transformers gives logits_per_image = scale * cos (+ bias): its scale and bias are taken off again.
    (model, images, tokens), path = either
    texts = ["a photo of red", "a picture of blue .", "photo"]
    metric = load_clip_scorer(path)
    inputs = tokens(texts, return_tensors="pt", padding="max_length", max_length=8)
    known = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    out = model(**known, pixel_values=images(noise(), return_tensors="pt")["pixel_values"])
    bias = getattr(model, "logit_bias", torch.tensor(0.0))
    cosine = ((out.logits_per_image - bias) / model.logit_scale.exp()).diagonal().numpy()
    expected = 100 * np.clip(cosine, 0, None)
    assert expected.any()
    assert (cosine < 0).any()
    assert metric.rows(noise(), texts)[:, 0] == pytest.approx(expected, abs=1e-3)
    alone = [float(metric.rows([one], [text])[0, 0]) for one, text in zip(noise(), texts, strict=True)]
    assert metric.rows(noise(), texts)[:, 0] == pytest.approx(alone, abs=1e-3)


class Unwrapped(torch.nn.Module):
    """What torchmetrics expects of transformers: tensors, where transformers 5 gives outputs."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixels):
        return self.model.get_image_features(pixels).pooler_output

    def get_text_features(self, ids, mask):
        return self.model.get_text_features(ids, mask).pooler_output


def processor_of(images, tokens):
    import transformers

    return transformers.CLIPProcessor(images, tokens)


def test_clip_s_is_torchmetrics(folder):
    clip_score = pytest.importorskip("torchmetrics.functional.multimodal.clip_score", exc_type=ImportError)
    model, images, tokens = tiny()
    texts, pictures = ["a photo of red", "a picture of blue .", "photo"], noise()
    found = load_clip_scorer(folder).rows(pictures, texts)[:, 0]
    assert found.any()
    for picture, text, one in zip(as_tensors(pictures), texts, found, strict=True):
        theirs = clip_score.clip_score(picture, text, lambda: (Unwrapped(model), processor_of(images, tokens)))
        assert one == pytest.approx(theirs.item(), abs=1e-3)


def test_what_is_named(folder):
    settings = load_clip_scorer(folder).settings
    assert settings["weights"] == "tiny-clip"  # not where it lies
    assert settings["formula"] == "100 max(cos, 0)"
    assert settings["sha256"] == load_clip_iqa(folder).settings["sha256"]
    weights = load_file(Path(folder) / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    assert load_clip_scorer(folder).settings["sha256"] != settings["sha256"]


def test_long_texts(folder):
    # 8 tokens fit, marks of start and end included: 6 words.
    six, seven = "a photo of a red picture", "a photo of a red picture ."
    scorer = load_clip_scorer(folder)
    assert scorer.rows([plain(1)], [six]).shape == (1, 1)
    with pytest.raises(BadInputError, match=r"'a photo of a red picture \.' has 9 tokens; allowed: 8.*truncate"):
        scorer.rows([plain(1)], [seven])
    cutting = load_clip_scorer(folder, truncate=True)
    found = cutting.rows([plain(1)] * 3, [six, seven, six])
    assert found[:, 1].tolist() == [0.0, 1.0, 0.0]
    assert found[1, 0] == pytest.approx(found[0, 0], abs=1e-4)  # the seventh word is gone, the end mark is not
    (estimate,) = quality_estimates(cutting.settings, found, ["p"] * 3, seed=0)
    assert "texts of 1 pictures cut (cut to 8 tokens)" in estimate.method


def test_matching_texts_score_higher_once_trained(tmp_path):
    # A reference model: a tiny CLIP, trained here to tell four colours apart, must find the right text for each.
    model, images, tokens = tiny()
    texts = [f"a picture of {name}" for name in COLOURS]
    batch = tokens(texts, return_tensors="pt", padding="max_length", max_length=8)
    rng, optimiser = np.random.default_rng(0), torch.optim.Adam(model.parameters(), 3e-3)

    def shades():
        return [plain(*np.clip(np.array(one) + rng.integers(-15, 15, 3), 0, 255).tolist()) for one in COLOURS.values()]

    for _ in range(40):
        pixels = images(shades(), return_tensors="pt")["pixel_values"]
        mask = batch["attention_mask"]
        loss = model(input_ids=batch["input_ids"], attention_mask=mask, pixel_values=pixels, return_loss=True).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    metric = load_clip_scorer(saved((model, images, tokens), tmp_path / "colours"))
    shown = shades()
    matching = metric.rows(shown, texts)[:, 0]
    for shift in (1, 2, 3):
        assert (matching > metric.rows(shown, texts[shift:] + texts[:shift])[:, 0] + 5).all()


# CLIP-IQA


def test_clip_iqa_by_hand():
    # Texts (1, 0) and (0, 1). East: cosines 1 and 0, scale 2: 1 / (1 + exp(-2)). North east: equal, 0.5.
    metric = ClipIqa(compass, lambda texts: np.eye(2), weights="compass", scale=2.0)
    found = metric.rows([plain(200), plain(0, 90), plain(7, 7)], ["", "", ""])[:, 0]
    assert found == pytest.approx([1 / (1 + exp(-2)), 1 / (1 + exp(2)), 0.5])
    assert metric.settings["columns"] == ["CLIP-IQA"]
    assert isinstance(metric, QualityMetric)
    sharp = ClipIqa(compass, lambda texts: np.eye(2), weights="compass").rows([plain(200), plain(0, 9)], ["", ""])
    assert sharp[:, 0].tolist() == [1.0, pytest.approx(exp(-100))]


@pytest.mark.parametrize("change", [{"pairs": {}}, {"pairs": {"q": ("a", "a")}}, {"scale": 0.0}])
def test_clip_iqa_options(change):
    with pytest.raises(BadInputError, match=r"pairs|scale"):
        ClipIqa(compass, lambda texts: np.eye(2), weights="compass", **change)


@pytest.mark.parametrize("pairs", ["beauty", "quality,quality", "one|", "a|b|c"])
def test_pairs_that_are_refused(folder, pairs):
    with pytest.raises(BadInputError, match="pairs: got"):
        load_clip_iqa(folder, pairs=pairs)


def test_clip_iqa_is_torchmetrics(folder):
    iqa = pytest.importorskip("torchmetrics.functional.multimodal.clip_iqa", exc_type=ImportError)
    model, images, tokens = tiny()
    processor, pairs = processor_of(images, tokens), (PAIRS["quality"], PAIRS["sharpness"])
    said = [text for pair in pairs for text in pair]
    with torch.inference_mode():
        anchors = iqa._clip_iqa_get_anchor_vectors("", Unwrapped(model), processor, said, "cpu")
        seen = torch.stack(as_tensors(noise()))
        shown = iqa._clip_iqa_update("", seen, Unwrapped(model), processor, 1.0, "cpu")
    theirs = iqa._clip_iqa_compute(shown, anchors, ["quality", "sharpness"], format_as_dict=False).numpy()
    metric = load_clip_iqa(folder, pairs="quality,sharpness")
    assert metric.settings["columns"] == ["CLIP-IQA", "CLIP-IQA sharpness"]
    # torchmetrics hands the processor floats of 0 to 255 that it scales itself; ours hands it the pictures.
    assert metric.rows(noise(), [""] * 3) == pytest.approx(theirs, abs=1e-4)


def test_without_positions_places_do_not_matter(folder):
    # Two patches exchanged: without positional embedding a vision transformer cannot tell.
    (picture,) = noise(1)
    left, right = picture.crop((0, 0, 14, 28)), picture.crop((14, 0, 28, 28))
    exchanged = Image.new("RGB", picture.size)
    exchanged.paste(right, (0, 0))
    exchanged.paste(left, (14, 0))
    without, kept = load_clip_iqa(folder, positions=False, scale=10.0), load_clip_iqa(folder, scale=10.0)
    first, second = without.rows([picture, exchanged], ["", ""])[:, 0]
    assert first == pytest.approx(second, abs=1e-5)
    first, second = kept.rows([picture, exchanged], ["", ""])[:, 0]
    assert abs(first - second) > 1e-4
    assert "left out" in without.settings["formula"]
    assert "kept" in kept.settings["formula"]
    assert without.settings["sha256"] == kept.settings["sha256"]


def test_without_positions_pictures_keep_their_size(folder):
    # A picture tiled from one patch has as many equal patches as one likes; attention is a mean, so the features are
    # those of a single patch. A resized picture would not show it.
    (patch,) = noise(1, size=(14, 14))
    wide = Image.new("RGB", (56, 28))
    for x in range(4):
        for y in range(2):
            wide.paste(patch, (14 * x, 14 * y))
    long = wide.crop((0, 0, 42, 28))
    without = load_clip_iqa(folder, positions=False, scale=10.0)
    same, other = without.rows([wide, long], ["", ""])[:, 0]
    assert same != 0.5
    assert without.rows([wide], [""])[0, 0] == pytest.approx(same, abs=1e-6)
    assert same == pytest.approx(other, abs=0.05)
    with pytest.raises(BadInputError, match=r"9 by 20 pixels; allowed .* 14 by 14"):
        without.rows([plain(1, size=(9, 20))], [""])


# Files


@pytest.mark.parametrize("load", [load_clip_scorer, load_clip_iqa])
def test_no_such_folder(load, tmp_path):
    with pytest.raises(BadInputError, match="no weights; give clip"):
        load(None)
    with pytest.raises(BadInputError, match="no CLIP in"):
        load(str(tmp_path / "absent"))
    with pytest.raises(BadInputError, match="no CLIP in"):
        load(str(tmp_path))


def test_a_pickle_is_refused(folder):
    weights = Path(folder) / "model.safetensors"
    torch.save(load_file(weights), Path(folder) / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ArtefactError, match=r"pytorch_model\.bin is a pickle, which is never read"):
        load_clip_scorer(folder)


def test_nan_and_incomplete_weights(folder):
    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    broken = {**weights, "text_projection.weight": weights["text_projection.weight"] * torch.nan}
    save_file(broken, path, metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"tiny-clip: text_projection\.weight holds NaN"):
        load_clip_scorer(folder)
    save_file({**weights, "text_projection.weight": torch.ones(3, 3)}, path, metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"lacks weights.*text_projection\.weight"):
        load_clip_scorer(folder)
    path.write_bytes(b"not weights")
    with pytest.raises(ArtefactError, match="no weights in safetensors"):
        load_clip_scorer(folder)


def test_another_model_and_no_processor(folder, tmp_path):
    from transformers import GPT2Config

    (Path(folder) / "tokenizer.json").unlink()
    (Path(folder) / "tokenizer_config.json").unlink()
    with pytest.raises(ArtefactError, match="lacks a tokenizer's vocabulary"):
        load_clip_scorer(folder)
    (Path(folder) / "preprocessor_config.json").unlink()
    with pytest.raises(ArtefactError, match="lacks an image processor or a tokenizer"):
        load_clip_scorer(folder)
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ArtefactError, match="is a 'gpt2' model; allowed: clip, siglip"):
        load_clip_scorer(str(tmp_path))
