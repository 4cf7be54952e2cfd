"""Zero-shot shares: by hand on a stand-in space, and on a tiny CLIP and SigLIP of the real classes."""

from dataclasses import replace
from importlib.util import find_spec
from math import exp, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.zero_shot import default_texts
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.zero_shot import ZeroShotSignal, load_zero_shot
from evenhand.mitigate.ala.signals import PictureSignal
from evenhand.records import Claim

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed (extra `hf`)")
GENDER = load_attribute("gender")
RACE = load_attribute("race")
TEXTS = {"male": ("east", "north"), "female": ("west",)}
SPACE = {"east": (3.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0)}


class Compass(torch.nn.Module):
    """A space of two dimensions: a picture's red points east, its green north."""

    def __init__(self, scale):
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(log(scale)))
        self.dtype, self.config = torch.float32, SimpleNamespace(_name_or_path="")

    def get_image_features(self, pixel_values):
        return pixel_values

    def get_text_features(self, input_ids):
        return input_ids


def compass(images=None, text=None, **_):
    if images is not None:
        return {
            "pixel_values": torch.tensor([np.asarray(one)[0, 0, :2].tolist() for one in images], dtype=torch.float32)
        }
    return {"input_ids": torch.tensor([SPACE[one] for one in text])}


def test_by_hand():
    # Prototypes: mean of the unit vectors (1, 0) and (0, 1), so (1, 1) / sqrt 2; and (-1, 0). A picture pointing east
    # has cosines 0.7071 and -1; at scale 2 s = tanh((0.7071 + 1) * 2 / 2) = tanh(1.7071) = 0.936473.
    signal = ZeroShotSignal(Compass(2.0), compass, GENDER, texts=TEXTS)
    said = signal.claim(lambda: Image.new("RGB", (2, 2), (200, 0, 9)))
    assert said.s == pytest.approx(np.tanh(1 + 0.5**0.5), abs=1e-5)
    assert said.reason == "texts"
    # North: cosines 0.7071 and 0, tanh(0.7071) = 0.609 < 0.8.
    north = Image.new("RGB", (2, 2), (0, 200, 9))
    assert signal.claim(lambda: north) == Claim(None, "uncertain")
    sharp = ZeroShotSignal(Compass(2.0), compass, GENDER, texts=TEXTS, certain=0.5, sharpen=True)
    assert sharp.claim(lambda: north).s == 1.0


def test_default_texts():
    assert default_texts(GENDER)["female"] == (
        *("a photo of a woman", "a photo of a girl", "a photo of a lady", "a photo of a female person"),
    )
    assert default_texts(RACE)["asian"] == ("a photo of an asian person", "a photo of an asian face")


@pytest.mark.parametrize(
    "texts", [{}, {"male": ("man",)}, {"male": ("man",), "female": ()}, {**TEXTS, "other": ("x",)}]
)
def test_bad_texts(texts):
    with pytest.raises(BadInputError, match="texts"):
        ZeroShotSignal(Compass(2.0), compass, GENDER, texts=texts)


def test_a_model_without_a_common_space():
    with pytest.raises(BadInputError, match="logit_scale"):
        ZeroShotSignal(torch.nn.Linear(1, 1), compass, GENDER)


def tokenizer(length):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = [*default_texts(GENDER).values(), *default_texts(RACE).values()]
    words = sorted({word for group in texts for text in group for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *words])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=length, **marks)


def tiny(kind):
    import transformers

    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {k: text[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    vision |= {"image_size": 28, "patch_size": 14}
    size = {"height": 28, "width": 28}
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size)
        return transformers.CLIPModel(config), transformers.CLIPProcessor(images, tokenizer(16))
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    return transformers.SiglipModel(config), transformers.SiglipProcessor(
        transformers.SiglipImageProcessorPil(size=size), tokenizer(16)
    )


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.inference_mode()
def test_one_text_a_group_is_the_models_own_score(kind):
    # With one text per group the shares are the softmax of the model's own logits_per_image: SigLIP's bias is the same
    # for all texts and cancels.
    model, processor = tiny(kind)
    texts = {
        group: (f"a photo of a {word}",)
        for group, word in zip(RACE.groups, ("man", "woman", "boy", "girl", "lady", "white"), strict=True)
    }
    signal = ZeroShotSignal(model, processor, RACE, texts=texts, certain=0.0)
    inputs = processor(
        text=[one for (one,) in texts.values()], images=picture(), return_tensors="pt", padding="max_length"
    )
    logits = model(**{key: inputs[key] for key in ("input_ids", "attention_mask", "pixel_values") if key in inputs})
    own = logits.logits_per_image[0].double().softmax(0)
    torch.testing.assert_close(signal.shares(picture()), own, atol=1e-5, rtol=1e-4)
    said = signal.claim(picture)
    assert said.s is None
    assert int(np.argmax(said.shares)) == int(own.argmax())
    assert isinstance(signal, PictureSignal)


def test_a_models_folder_gives_the_same_shares(tmp_path):
    model, processor = tiny("clip")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, made = load_zero_shot(str(tmp_path), GENDER), ZeroShotSignal(model, processor, GENDER, name=str(tmp_path))
    assert loaded.settings == made.settings
    torch.testing.assert_close(loaded.shares(picture()), made.shares(picture()))
    assert loaded.settings["scale"] == pytest.approx(exp(2.6592), rel=1e-4)  # CLIP's starting temperature, 1 / 0.07


def test_groups_in_another_order():
    model, processor = tiny("clip")
    swapped = replace(GENDER, groups=GENDER.groups[::-1])
    shares = [ZeroShotSignal(model, processor, one).shares(picture()) for one in (GENDER, swapped)]
    torch.testing.assert_close(shares[0], shares[1].flip(0))
