"""Features by place: the model's own, histograms by hand, controls, and weights as they were afterwards."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers", reason="needs the extra `hf`")

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.locate.features import code_shares, picture_features
from evenhand.locate.labelled import balanced_pictures, read_labelled
from evenhand.locate.probes import probe_place
from evenhand.miniature.model import load_miniature

_GENDER = load_attribute("gender")


@pytest.fixture(scope="module")
def model():
    return load_miniature()


@pytest.fixture(scope="module")
def labelled():
    return balanced_pictures(read_labelled("avatars", [_GENDER]), _GENDER, at_most=60, seed=0)


@pytest.fixture(scope="module")
def features(model, labelled):
    return picture_features(model, labelled.pictures, seed=0)


def test_a_histogram_by_hand():
    found = code_shares(torch.tensor([[0, 2, 2, 2], [1, 1, 0, 0]]), 4)
    assert found.tolist() == [[0.25, 0, 0.75, 0], [0.5, 0.5, 0, 0]]


def test_places_are_the_models_own_and_controls(model, labelled, features):
    places = ("encoder", "latents", "codes", "projected")
    assert list(features) == [*places, "histogram", "pixels", *(f"shuffled {place}" for place in places)]
    pictures = [opener() for opener in labelled.pictures[:3]]
    for place in places:
        wanted = model.features(pictures, where=place).numpy()
        np.testing.assert_allclose(features[place][:3], wanted, rtol=1e-6)
        assert np.abs(features[f"shuffled {place}"][:3] - wanted).max() > 1e-3
    assert {len(values) for values in features.values()} == {120}
    np.testing.assert_allclose(features["histogram"].sum(axis=1), 1)


def test_pixels_by_hand(model):
    # 4 x 2, of which the square in the middle is half black and half white.
    wide = Image.new("RGB", (4, 2), "black")
    wide.paste("white", (2, 0, 4, 2))
    found = picture_features(model, [lambda: wide], seed=0)["pixels"].reshape(16, 16, 3)
    assert found[:, 0].max() < 0.05
    assert found[:, -1].min() > 0.95
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_weights_are_as_they_were(labelled):
    own = load_miniature()
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    picture_features(own, labelled.pictures[:2], seed=1)
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())

    opened = iter([labelled.open(0)])
    with pytest.raises(RuntimeError):  # nothing to open at the second reading, with the weights shuffled
        picture_features(own, [partial(next, opened)], seed=1)
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())


def test_the_miniatures_places_show_gender(labelled, features):
    shown = [one["gender"] for one in labelled.facts]
    found = {
        place: probe_place(place, features[place], shown, groups=_GENDER.groups, repeats=1, seed=0)
        for place in ("encoder", "shuffled encoder")
    }
    assert found["encoder"].accuracy.low > 0.7
    assert found["shuffled encoder"].accuracy.value < found["encoder"].accuracy.value


def test_another_code_model_has_no_shuffled_places(model, labelled):
    class Other:
        name, revision, code_shape, codebook_size = model.name, model.revision, model.code_shape, model.codebook_size
        generate, encode, decode, features = model.generate, model.encode, model.decode, model.features
        log_prob, answer_about = model.log_prob, model.answer_about

    found = picture_features(Other(), [labelled.open(0), labelled.pictures[1]], seed=0)
    assert list(found) == ["encoder", "codes", "projected", "histogram", "pixels"]


def test_bad_input_is_refused(model):
    with pytest.raises(BadInputError, match="pictures: got none"):
        picture_features(model, [], seed=0)
    with pytest.raises(BadInputError, match="seed: got -1"):
        picture_features(model, [lambda: Image.new("RGB", (32, 32))], seed=-1)
