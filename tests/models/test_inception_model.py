"""Class scores of Inception: by hand on given features; its network on random weights, against torch-fidelity's."""

import json
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from quality_pictures import as_tensors, compass, noise, plain
from safetensors.torch import save_file

from evenhand.errors import ArtefactError, BadInputError
from evenhand.metrics.picture_quality import quality_estimates
from evenhand.models.picture_quality.inception import InceptionScore, load_inception
from evenhand.models.picture_quality.protocol import QualityMetric


def test_inception_rows_by_hand():
    metric = InceptionScore(compass, weights="compass", splits=2)
    assert metric.rows([plain(3, 4), plain(5)], ["", ""]).tolist() == [[3.0, 4.0], [5.0, 0.0]]
    assert metric.settings["splits"] == 2
    assert isinstance(metric, QualityMetric)
    (found,) = quality_estimates(
        metric.settings,
        np.concatenate([metric.rows([plain(250), plain(0, 250)] * 5, [""] * 10) for _ in range(4)]),
        ["p"] * 40,
        seed=0,
    )
    assert 1.9 < found.value <= 2.0
    with pytest.raises(BadInputError, match="splits: got 0"):
        InceptionScore(compass, weights="x", splits=0)
    with pytest.raises(BadInputError, match="1 classes apart"):
        InceptionScore(lambda pictures: np.ones((len(pictures), 1)), weights="x").rows([plain(1)], [""])


def test_resizing_by_hand():
    from evenhand.models.picture_quality.inception_network import resize_like_tensorflow

    # Two pixels 0 and 4 to four: target i looks at i / 2: 0, 2 (half way), 4, 4 (beyond the last).
    row = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]]).expand(3, 2, 2)
    assert resize_like_tensorflow(row, 4)[0].tolist() == [[0.0, 2.0, 4.0, 4.0]] * 4
    # Four pixels to two: targets look at 0 and 2.
    shrunk = resize_like_tensorflow(torch.arange(4.0).expand(3, 4, 4), 2)
    assert shrunk[1].tolist() == [[0.0, 2.0]] * 2


@pytest.fixture(scope="module")
def network():
    from evenhand.models.picture_quality.inception_network import InceptionNetwork

    generator = torch.Generator().manual_seed(0)
    made = InceptionNetwork().eval()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return made


@pytest.fixture(scope="module")
def inception_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save({key: one for key, one in network.state_dict().items() if "num_batches" not in key}, path)
    return path


def test_inception_of_a_file(network, inception_file):
    metric = load_inception(str(inception_file), splits=3)
    assert metric.settings["weights"] == "inception.pth"
    assert len(metric.settings["sha256"]) == 16
    (picture,) = noise(1, size=(299, 299))
    found = metric.rows([picture], [""])
    assert found.shape == (1, 1008)
    with torch.inference_mode():
        expected = network((torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() - 128) / 128)
    assert found == pytest.approx(expected.numpy(), abs=1e-4)
    assert found.std() > 1e-3  # pictures of random weights still differ
    assert load_inception(str(inception_file), resize="antialias").rows([picture], [""]) == pytest.approx(
        expected.numpy(), abs=1e-4
    )  # nothing to resize


def test_inception_is_torch_fidelitys(inception_file, monkeypatch):
    # The package itself imports torchvision, which its network does not need.
    spec = find_spec("torch_fidelity")
    if spec is None:
        pytest.skip("torch-fidelity is not installed")
    package = ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations or ())
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("i", ["logits_unbiased"], feature_extractor_weights_path=str(inception_file))
    pictures = noise(2, size=(64, 40))
    with torch.inference_mode():
        (expected,) = theirs(torch.stack(as_tensors(pictures)))
    found = load_inception(str(inception_file)).rows(pictures, ["", ""])
    assert expected.std() > 1e-3
    assert found == pytest.approx(expected.numpy(), abs=1e-4)


def test_inception_files_that_are_refused(inception_file, tmp_path):
    with pytest.raises(BadInputError, match="no weights; give inception:FILE"):
        load_inception(None)
    with pytest.raises(BadInputError, match="resize: got 'other'"):
        load_inception(str(inception_file), resize="other")
    with pytest.raises(ArtefactError, match="cannot be read as weights"):
        load_inception(str(tmp_path / "absent.pth"))
    torch.save({"run": json.JSONDecoder}, tmp_path / "evil.pth")
    with pytest.raises(ArtefactError, match="was not run"):
        load_inception(str(tmp_path / "evil.pth"))
    stored = torch.load(inception_file, weights_only=True)
    save_file({**stored, "fc.bias": stored["fc.bias"] * torch.nan}, tmp_path / "nan.safetensors")
    with pytest.raises(ArtefactError, match=r"fc\.bias holds NaN"):
        load_inception(str(tmp_path / "nan.safetensors"))
    save_file({"fc.bias": stored["fc.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(ArtefactError, match="are not those of the Inception network of 2015"):
        load_inception(str(tmp_path / "part.safetensors"))
