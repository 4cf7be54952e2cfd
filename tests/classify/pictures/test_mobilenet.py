"""The published classifiers' layout on torchvision's own network: what goes in, what comes out, what is refused."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from pictures_of import drawn
from PIL import Image
from safetensors.torch import save_file

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.classify.pictures.mobilenet import LAYOUTS, MobileNetClassifier, chip_values, load_mobilenet
from evenhand.classify.pictures.protocol import PictureClassifier
from evenhand.errors import ArtefactError, BadInputError, MissingExtraError

GENDER = load_attribute("gender")
absent = find_spec("torchvision") is None
needs_torchvision = pytest.mark.skipif(absent, reason="torchvision is not installed (extra `classifiers`)")


def network(outputs, seed=0):
    """torchvision's network; a torchvision built for another torch lacks compiled operators that it does not need."""
    try:
        from torchvision.models import mobilenet_v3_large
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        network.library = library  # as long as it lives, so do the operators
        from torchvision.models import mobilenet_v3_large
    torch.manual_seed(seed)
    return mobilenet_v3_large(weights=None, num_classes=outputs).eval()


def chips(n=3, size=(224, 224)):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(n)]


class Sums(torch.nn.Module):
    """A stand-in with a last layer: its logits are the sums of the red and of the blue."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1e-5))

    def forward(self, seen):
        return self.scale * seen.sum((2, 3))[:, [0, 2]]


def test_input_by_hand():
    # 0 is -1, 255 is 1, 51 is 51 / 127.5 - 1 = -0.6; no mean, no deviation; red, green, blue.
    values = chip_values([Image.new("RGB", (224, 224), (0, 255, 51))])
    assert values.shape == (1, 3, 224, 224)
    torch.testing.assert_close(values[0, :, 7, 9], torch.tensor([-1.0, 1.0, -0.6]))


def test_what_is_not_a_chip_is_scaled_to_one():
    small = Image.new("RGB", (50, 80), (10, 20, 30))
    assert torch.equal(chip_values([small]), chip_values([small.resize((224, 224))]))


def test_zero_is_female_in_the_published_gender_head():
    # All red: the sum of the first output is the larger, and the first is female.
    classifier = MobileNetClassifier(Sums(), LAYOUTS["gender"], name="sums")
    labels = PictureLabeller(classifier, GENDER).label(
        drawn(Image.new("RGB", (224, 224), "red"), Image.new("RGB", (224, 224), "blue"))
    )
    assert [label.group for label in labels] == ["female", "male"]
    # The sums differ by 2 * 224 * 224 = 100352, so by 1.00352 in logits.
    assert labels[0].confidence == pytest.approx(1 / (1 + np.exp(-1.00352)), abs=1e-5)
    assert isinstance(classifier, PictureClassifier)


def test_published_layouts():
    assert {name: len(groups) for name, groups in LAYOUTS.items()} == {"gender": 2, "race": 4, "age": 2}
    with pytest.raises(BadInputError, match="wmelh, black, indian, asian apart"):
        PictureLabeller(MobileNetClassifier(Sums(), LAYOUTS["race"], name="x"), load_attribute("race"))


@needs_torchvision
def test_checkpoints_give_torchvisions_own_answer(tmp_path):
    net = network(4)
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    wrapped = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"epoch": 19, "state_dict": wrapped}, tmp_path / "wrapped.pt")
    save_file(net.state_dict(), tmp_path / "same.safetensors")
    pixels = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in chips()])
    with torch.inference_mode():
        own = net(pixels.float() / 255 * 2 - 1).double().softmax(1)  # the published preprocessing
    for file in ("plain.pt", "wrapped.pt", "same.safetensors"):
        classifier = load_mobilenet(tmp_path / file, groups=LAYOUTS["race"])
        told = torch.tensor([reading.shares for reading in classifier.read(chips())], dtype=torch.float64)
        torch.testing.assert_close(told, own, atol=1e-6, rtol=1e-5)
    one = classifier.read(chips()[1:2])[0]
    assert one.shares == pytest.approx(own[1].tolist(), abs=1e-6)
    assert classifier.read([]) == ()


@needs_torchvision
def test_checkpoints_that_are_refused(tmp_path):
    net = network(2)
    state = net.state_dict()
    path = tmp_path / "net.pt"

    def refused(says, held=None, groups=LAYOUTS["gender"]):
        if held is not None:
            torch.save(held, path)
        with pytest.raises(ArtefactError, match=says):
            load_mobilenet(path, groups=groups)

    refused("2 outputs; wanted: one for each of wmelh", state, LAYOUTS["race"])
    refused("'extra'", {**state, "extra": torch.zeros(1)})
    refused("tensors are not those", {key: value for key, value in state.items() if key != "features.0.0.weight"})
    refused("no last layer", {"fc.weight": torch.zeros(2, 3)})
    refused("NaN", {**state, "features.0.0.weight": torch.full_like(state["features.0.0.weight"], torch.nan)})
    refused("it was not run", net)  # a whole module is a pickle with code
    refused("holds", {"epoch": 3})
    path.write_bytes(b"not a checkpoint")
    refused("net.pt")
    path.unlink()
    refused("cannot be read")


class Trap:
    """What runs when a pickle is opened without care."""

    def __reduce__(self):
        return open, ("trap-was-sprung", "w")


def test_a_pickle_is_never_run(tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    torch.save({"classifier.3.weight": torch.zeros(2, 1280), "x": Trap()}, tmp_path / "zip.pt")
    for name in ("raw.pt", "zip.pt"):
        with pytest.raises(ArtefactError, match="it was not run"):
            load_mobilenet(tmp_path / name, groups=LAYOUTS["gender"])
    assert not (tmp_path / "trap-was-sprung").exists()


@pytest.mark.skipif(not absent, reason="torchvision is installed")
def test_without_torchvision_the_message_says_how_to_install_it(tmp_path):
    save_file({"classifier.3.weight": torch.zeros(2, 1280)}, tmp_path / "a.safetensors")
    with pytest.raises(MissingExtraError, match=r"pip install 'evenhand\[classifiers\]'"):
        load_mobilenet(tmp_path / "a.safetensors", groups=LAYOUTS["gender"])


@pytest.mark.parametrize("groups", [("a",), ("a", "a")])
def test_groups_that_are_none(groups):
    with pytest.raises(BadInputError, match="each once"):
        MobileNetClassifier(Sums(), groups, name="x")
