"""Zero-shot readings: by hand on a stand-in space, and on a tiny CLIP and SigLIP of the real classes."""

from importlib.util import find_spec
from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pictures_of import drawn, plain
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.classify.pictures.protocol import PictureClassifier
from evenhand.classify.pictures.zero_shot import ZeroShotClassifier, default_texts, load_zero_shot_classifier
from evenhand.errors import ArtefactError, BadInputError

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed (extra `hf`)")
GENDER = load_attribute("gender")
RACE = load_attribute("race")
TEXTS = {"male": ("east", "north"), "female": ("west",)}
SPACE = {"east": (3.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0)}
WORDS = ("man", "woman", "boy", "girl", "lady", "white")


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
        return {"pixel_values": torch.tensor([one.getpixel((0, 0))[:2] for one in images], dtype=torch.float32)}
    return {"input_ids": torch.tensor([SPACE[one] for one in text])}


def test_by_hand():
    # Prototypes: mean of the unit vectors (1, 0) and (0, 1), so (1, 1) / sqrt 2; and (-1, 0). East has the cosines
    # 0.7071 and -1, at scale 2 a share of 1 / (1 + exp(-2 * 1.7071)) = 0.9681; north 0.7071 and 0, 0.8044.
    classifier = ZeroShotClassifier(Compass(2.0), compass, GENDER, texts=TEXTS)
    east, north = classifier.read([plain(200), plain(0, 90)])
    assert east.shares == pytest.approx((0.96819, 0.03181), abs=1e-4)
    assert north.shares[0] == pytest.approx(1 / (1 + np.exp(-(2**0.5))), abs=1e-5)
    labels = PictureLabeller(classifier, GENDER, confident=0.9).label(drawn(plain(200), plain(0, 90)))
    assert [(one.group, one.reason) for one in labels] == [("male", None), (None, "uncertain")]
    assert isinstance(classifier, PictureClassifier)
    assert classifier.read([]) == ()


@pytest.mark.parametrize(
    "texts", [{}, {"male": ("man",)}, {"male": ("man",), "female": ()}, {**TEXTS, "other": ("x",)}]
)
def test_bad_texts(texts):
    with pytest.raises(BadInputError, match="texts"):
        ZeroShotClassifier(Compass(2.0), compass, GENDER, texts=texts)


def test_models_that_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="logit_scale"):
        ZeroShotClassifier(torch.nn.Linear(1, 1), compass, GENDER)
    broken = Compass(2.0)
    broken.logit_scale.data.fill_(torch.nan)
    with pytest.raises(ArtefactError, match="logit_scale holds NaN"):
        ZeroShotClassifier(broken, compass, GENDER, texts=TEXTS)
    with pytest.raises(BadInputError, match="no CLIP or SigLIP"):
        load_zero_shot_classifier(str(tmp_path), GENDER)


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


def pictures(n=3):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.inference_mode()
def test_one_text_a_group_is_the_models_own_score(kind):
    # With one text per group the shares are the softmax of the model's own logits_per_image: SigLIP's bias is the same
    # for all texts and cancels.
    model, processor = tiny(kind)
    texts = {group: (f"a photo of a {word}",) for group, word in zip(RACE.groups, WORDS, strict=True)}
    classifier = ZeroShotClassifier(model, processor, RACE, texts=texts)
    said = [one for (one,) in texts.values()]
    inputs = processor(text=said, images=pictures(), return_tensors="pt", padding="max_length")
    logits = model(**{key: inputs[key] for key in ("input_ids", "attention_mask", "pixel_values") if key in inputs})
    own = logits.logits_per_image.double().softmax(1)
    torch.testing.assert_close(classifier.shares(pictures()), own, atol=1e-5, rtol=1e-4)


def test_a_folder_without_the_tokenizers_files_is_refused(tmp_path):
    model, processor = tiny("clip")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises((ArtefactError, BadInputError)):
        load_zero_shot_classifier(str(tmp_path), GENDER)


def test_a_models_folder_gives_the_same_readings(tmp_path):
    model, processor = tiny("clip")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load_zero_shot_classifier(str(tmp_path), GENDER)
    made = ZeroShotClassifier(model, processor, GENDER, name=str(tmp_path))
    assert loaded.settings == made.settings
    torch.testing.assert_close(loaded.shares(pictures()), made.shares(pictures()))
    alone = torch.cat([made.shares([one]) for one in pictures()])
    torch.testing.assert_close(made.shares(pictures()), alone, atol=1e-6, rtol=1e-5)
