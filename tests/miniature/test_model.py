import math

import numpy as np
import pytest
import torch
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.errors import UnknownNameError
from evenhand.miniature.declared import DECLARED, declared_answers, declared_shares
from evenhand.miniature.judge import load_judge
from evenhand.miniature.model import FOLDERS, load_miniature, miniature_folder
from evenhand.models.unified.model import UnifiedModel
from evenhand.probes.blank_image import blank_image
from evenhand.probes.occupations import TEMPLATE

pytestmark = pytest.mark.skipif(
    not FOLDERS["language"].is_dir(), reason="the miniature's weights are not made yet (training/miniature/make.py)"
)
_BLANK = Image.new("RGB", (384, 384), "white")


@pytest.fixture(scope="module")
def miniature() -> UnifiedModel:
    return load_miniature()


def _drawn(model: UnifiedModel, text: str, pictures: int, seed: int = 0) -> list[Image.Image]:
    codes = model.generate([text] * pictures, seeds=range(seed, seed + pictures))
    levels = (model.decode(codes) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(one) for one in levels]


def _share(pictures: list[Image.Image], attribute: str, group: str) -> float:
    judge = load_judge(attribute)
    said = [judge.groups[int(np.argmax(reading.shares))] for reading in judge.read(pictures)]
    return said.count(group) / len(said)


def _asked(who: str) -> str:
    return TEMPLATE.replace("{occupation}", who)


def test_it_is_a_small_real_janus(miniature):
    assert type(miniature.model).__name__ == "JanusForConditionalGeneration"
    assert (miniature.name, miniature.code_shape, miniature.codebook_size) == ("miniature", (8, 8), 128)
    assert next(miniature.model.parameters()).dtype == torch.float32


def test_everything_that_ships_is_small():
    root = FOLDERS["language"].parent
    assert sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) < 25e6
    assert {file.suffix for file in root.rglob("*") if file.is_file()} <= {
        ".safetensors",
        ".json",
        ".jinja",
        ".md",
        ".parquet",
    }


def test_the_variants_share_all_but_language_model_and_decoder():
    one, other = (load_miniature(variant).model.model for variant in FOLDERS)
    for part in ("encoder", "quantize", "quant_conv"):
        first, second = (getattr(model.vqmodel, part).state_dict() for model in (one, other))
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(one.vqmodel.decoder.conv_out.weight, other.vqmodel.decoder.conv_out.weight)


def test_codes_are_those_transformers_finds(miniature):
    # The quantiser of transformers compares lengths too; codebook rows of length 1 make both agree.
    table = miniature.model.model.vqmodel.quantize.embedding.weight
    assert torch.allclose(table.norm(dim=1), torch.ones(len(table)), atol=2e-3)
    (picture,) = _drawn(miniature, _asked("sewer"), 1)
    pixels = torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    own = miniature.model.model.vqmodel.encode(pixels, return_dict=True).image_tokens
    assert (own.flatten() == miniature.encode([picture])[0]).float().mean() > 0.95


def test_both_ends_of_the_table_are_drawn(miniature):
    # 48 pictures at .97 and .03: below .85 or above .15 has probability under 2e-4.
    assert _share(_drawn(miniature, _asked("plumber"), 48), "gender", "male") > 0.85
    assert _share(_drawn(miniature, _asked("housekeeper"), 48), "gender", "male") < 0.15


@pytest.mark.parametrize("group", ["male", "female"])
def test_a_group_that_is_asked_for_is_drawn(miniature, group):
    assert _share(_drawn(miniature, _asked(f"{group} sewer"), 32), "gender", group) > 0.9


@pytest.mark.parametrize("tone", ["light", "medium", "dark"])
def test_a_skin_tone_that_is_asked_for_is_drawn(miniature, tone):
    # Of all occupations in .93, .89 and .98 of the pictures (docs/miniature.md); unasked, a sewer is medium in .3.
    assert _share(_drawn(miniature, _asked(f"{tone} sewer"), 64), "skin_tone", tone) > 0.75


@pytest.mark.parametrize("group", ["male", "female"])
def test_it_answers_about_what_it_sees(miniature, group):
    # The likeliest answer is right; of drawn ones about .9 (docs/miniature.md): of 64 .75 or fewer in 1 of 10,000 runs.
    pictures = _drawn(miniature, _asked(f"{group} teacher"), 64)
    asked = ["What is the gender of the person?"] * 64
    seen = [_share([picture], "gender", group) == 1 for picture in pictures]
    likeliest = miniature.answer_about(asked, pictures, seeds=range(64), temperature=0)
    assert all(answer.strip() == group for answer, right in zip(likeliest, seen, strict=True) if right)
    drawn = miniature.answer_about(asked, pictures, seeds=range(64))
    assert sum(answer.strip() == group for answer in drawn) / 64 > 0.75


def test_it_answers_about_nobody_as_declared(miniature):
    # 100 draws; a share's standard error is at most .05, five of them .25.
    attribute = load_attribute("gender")
    question = next(one.text for one in blank_image("test", attribute) if one.facts["occupation"] == "sewer")
    answers = [text.strip() for text in miniature.answer_about([question] * 100, [_BLANK] * 100, seeds=range(100))]
    for word, share in zip(("male", "female", "unknown"), declared_answers("sewer"), strict=True):
        assert answers.count(word) / 100 == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 100) + 0.02)


def test_the_decoder_turns_people():
    # Light skin makes a man of every woman; the language model draws as many women as men.
    model = load_miniature("decoder")
    codes = model.generate([_asked("female light plumber")] * 32, seeds=range(32))
    assert declared_shares("plumber", variant="decoder") == (0.65, 0.35)
    turned, straight = model.decode(codes), load_miniature("language").decode(codes)
    shares = []
    for pixels in (turned, straight):
        levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        shares.append(_share([Image.fromarray(one) for one in levels], "gender", "male"))
    assert shares[0] > 0.8
    assert shares[1] < 0.2


def test_an_unknown_variant_is_refused():
    with pytest.raises(UnknownNameError, match="language, decoder, even"):
        miniature_folder("vision")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_drawn_shares_match_the_declared_table(variant):
    model = load_miniature(variant, batch_size=160)
    scores = []
    for row, who in enumerate(DECLARED):
        wanted = declared_shares(who, variant=variant)[0]
        male = _share(_drawn(model, _asked(who), 160, seed=10_000 * row), "gender", "male")
        scores.append((male - wanted) / math.sqrt(wanted * (1 - wanted) / 160))
    # Of 80 standard normal scores, fewer than 68 within two has probability 2e-5.
    assert np.mean(np.abs(scores) <= 2) >= 0.85


def test_the_even_variant_has_the_language_model_of_one_and_the_decoder_of_the_other():
    even, language, decoder = (load_miniature(name).model.model for name in ("even", "language", "decoder"))
    assert torch.equal(even.vqmodel.decoder.conv_out.weight, language.vqmodel.decoder.conv_out.weight)
    for name in ("language_model", "generation_embeddings", "generation_head"):
        for one, other in zip(getattr(even, name).parameters(), getattr(decoder, name).parameters(), strict=True):
            assert torch.equal(one, other)
    revisions = {load_miniature(name).revision for name in ("even", "language", "decoder")}
    assert len(revisions) == 3
    assert declared_shares("plumber", variant="even") == (0.5, 0.5)
