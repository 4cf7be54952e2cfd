"""Shuffled weights: the same numbers in another order on the picture side alone, and back again whatever happens."""

import pytest
import torch
from tiny_unified import picture

from evenhand.errors import BadInputError
from evenhand.models.unified.shuffled import shuffled_pictures


def _state(model):
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def test_the_numbers_stay_and_their_order_goes(model):
    before, seen = _state(model), [picture(1)]
    features = {where: model.features(seen, where=where) for where in model.family.places}
    with shuffled_pictures(model.family, seed=3):
        inside = _state(model)
        other = {where: model.features(seen, where=where) for where in model.family.places}
    moved = {name for name in before if not torch.equal(before[name], inside[name])}
    assert moved
    for name, value in before.items():
        assert torch.equal(value.flatten().sort().values, inside[name].flatten().sort().values)
    assert not any("language_model" in name or "text_model" in name or "decoder" in name for name in moved)
    assert all(not torch.equal(features[where], other[where]) for where in features)
    after = _state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_come_back_after_an_error(model):
    before = _state(model)
    with pytest.raises(RuntimeError, match="inside"), shuffled_pictures(model.family, seed=0):
        raise RuntimeError("inside")
    assert all(torch.equal(value, before[name]) for name, value in _state(model).items())


def test_a_seed_is_an_order(model):
    found = []
    for seed in (1, 1, 2):
        with shuffled_pictures(model.family, seed=seed):
            found.append(_state(model))
    name = next(name for name in found[0] if name.endswith("quantize.embedding.weight"))
    assert torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[0][name], found[2][name])


def test_a_negative_seed_is_refused(model):
    with pytest.raises(BadInputError, match="got -1"), shuffled_pictures(model.family, seed=-1):
        pass
