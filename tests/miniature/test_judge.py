from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evenhand.classify.pictures.protocol import PictureClassifier
from evenhand.errors import ArtefactError, UnknownNameError
from evenhand.miniature.avatars import Avatar, render_avatar
from evenhand.miniature.declared import AGES, CLOTHES, GENDERS, SKIN_TONES
from evenhand.miniature.judge import HEADS, WEIGHTS, JudgeNetwork, load_judge

_GROUPS = {"gender": GENDERS, "skin_tone": SKIN_TONES, "age": AGES}


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: value.contiguous() for name, value in JudgeNetwork().state_dict().items()}


def _saved(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "judge.safetensors"
    save_file(weights, path)
    return path


@pytest.mark.parametrize("attribute", HEADS)
def test_it_is_a_classifier_of_pictures(attribute, tmp_path, weights):
    judge = load_judge(attribute, path=_saved(tmp_path, weights))
    assert isinstance(judge, PictureClassifier)
    assert judge.groups == _GROUPS[attribute]
    (reading,) = judge.read([Image.new("RGB", (32, 32), "white")])
    assert reading.shares is not None
    assert sum(reading.shares) == pytest.approx(1)


def test_a_reading_does_not_depend_on_the_others(tmp_path, weights):
    judge = load_judge("gender", path=_saved(tmp_path, weights))
    drawn = np.random.default_rng(0)
    pictures = [Image.fromarray(drawn.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(5)]
    together = [reading.shares for reading in judge.read(pictures)]
    alone = [judge.read([picture])[0].shares for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_larger_picture_is_averaged_down(tmp_path, weights):
    # Every pixel four times over: the mean of each block is the pixel.
    judge = load_judge("gender", path=_saved(tmp_path, weights))
    small = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    first, second = judge.read([Image.fromarray(small), Image.fromarray(large)])
    assert first.shares == pytest.approx(second.shares, abs=1e-6)


def test_other_weights_are_refused(tmp_path, weights):
    with pytest.raises(ArtefactError, match="not the weights"):
        load_judge("gender", path=_saved(tmp_path, {"heads.gender.weight": torch.zeros(2, 3)}))
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ArtefactError, match="not the weights"):
        load_judge("gender", path=tmp_path / "text")
    with pytest.raises(ArtefactError, match="not the weights"):
        load_judge("gender", path=tmp_path / "nowhere")


def test_weights_that_are_not_finite_are_refused(tmp_path, weights):
    weights["heads.gender.bias"][0] = float("nan")
    with pytest.raises(ArtefactError, match="not finite"):
        load_judge("gender", path=_saved(tmp_path, weights))


def test_an_unknown_attribute_is_refused(tmp_path, weights):
    with pytest.raises(UnknownNameError, match="gender, skin_tone, age"):
        load_judge("race", path=_saved(tmp_path, weights))


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the judge's weights are not made yet (training/miniature/make.py)")
@pytest.mark.parametrize("attribute", HEADS)
def test_the_judge_that_ships_reads_new_avatars(attribute):
    hint = "needs the extra `miniature` (python-avatars, resvg-py)"
    pytest.importorskip("python_avatars", reason=hint)
    pytest.importorskip("resvg_py", reason=hint)
    drawn = np.random.default_rng(20_261_122)
    people = [
        Avatar(GENDERS[g], SKIN_TONES[s], AGES[a], CLOTHES[c], int(drawn.integers(2**40)))
        for g, s, a, c in zip(
            drawn.integers(2, size=300),
            drawn.integers(3, size=300),
            drawn.integers(2, size=300),
            drawn.integers(8, size=300),
            strict=True,
        )
    ]
    judge = load_judge(attribute)
    said = [judge.groups[int(np.argmax(one.shares))] for one in judge.read([render_avatar(one) for one in people])]
    meant = [{"gender": one.gender, "skin_tone": one.skin, "age": one.age}[attribute] for one in people]
    assert np.mean([a == b for a, b in zip(said, meant, strict=True)]) >= 0.97
