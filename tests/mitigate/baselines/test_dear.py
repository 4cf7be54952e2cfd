"""DeAR: the classifier falls towards chance, the features stay near."""

import pytest
import torch
from planting import planted

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.baselines.dear import AdditiveResidual, DearRecipe, fit_dear


def test_residual_by_hand():
    # h = (1, -2); W1 = [[1, 0], [0, 1]] -> max((1, -2), 0) = (1, 0); W2 = [[0, 5], [3, 0]] -> (0, 3); h' = (1, 1).
    residual = AdditiveResidual("dear", 2, torch.eye(2), torch.tensor([[0.0, 5.0], [3.0, 0.0]]), {})
    given = torch.tensor([[1.0, -2.0]])
    assert residual(given).tolist() == [[1, 1]]
    assert given.tolist() == [[1, -2]]
    assert residual(given.expand(2, 3, 2)).shape == (2, 3, 2)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ArtefactError, match="shape"):
        AdditiveResidual("dear", 2, torch.eye(3), torch.eye(3), {})
    with pytest.raises(ArtefactError, match="NaN"):
        AdditiveResidual("dear", 2, torch.eye(2) * torch.nan, torch.eye(2), {})


@pytest.mark.parametrize("scale", [1.0, 25.0])
def test_the_classifier_falls_to_chance_and_the_features_stay_near(scale):
    features, labels = planted(1200, 32, [3, 20], seed=0)
    fitted = fit_dear(scale * features, labels, seed=0)
    found = fitted.settings
    assert found["accuracy_before"] > 0.95
    assert found["accuracy_after"] <= 0.55
    assert found["cosine"] >= 0.9
    # Judged here, on rows the fit never saw: nearness, and the gap between the groups' means in the planted dims (3.0).
    fresh, groups = planted(2000, 32, [3, 20], seed=1)
    moved = fitted(scale * fresh)
    assert torch.nn.functional.cosine_similarity(scale * fresh, moved).mean().item() >= 0.9
    gap = (moved[groups == 1].mean(dim=0) - moved[groups == 0].mean(dim=0))[[3, 20]] / scale
    assert gap.abs().max().item() < 1.5


def test_a_fit_is_a_function_of_its_seed():
    features, labels = planted(300, 16, [3], seed=2)
    quick = DearRecipe(steps=100, cosine=0.5, accuracy_above_chance=0.2)
    one, same, other = (fit_dear(features, labels, seed=seed, recipe=quick) for seed in (4, 4, 5))
    assert torch.equal(one.second, same.second)
    assert not torch.equal(one.second, other.second)


def test_three_groups():
    features = torch.randn(900, 24, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(900) % 3
    features[torch.arange(900), labels] += 2.5
    fitted = fit_dear(features, labels, seed=0)
    assert fitted.settings["accuracy_before"] > 0.85
    assert fitted.settings["accuracy_after"] <= 1 / 3 + 0.06  # held-out thirds: 75 of 225
    assert fitted.settings["cosine"] >= 0.9


def test_nothing_to_take_back_is_said():
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(4))
    with pytest.raises(BadInputError, match="nothing to take back"):
        fit_dear(noise, torch.arange(200) % 2, seed=0, recipe=DearRecipe(accuracy_above_chance=0.2))


def test_a_residual_that_cannot_stay_near_is_not_given_out():
    # The group is nearly all there is: hiding it within a cosine of 0.999 is not possible.
    features, labels = planted(400, 8, [0], seed=5, shift=5.0)
    with pytest.raises(BadInputError, match="cosine"):
        fit_dear(features, labels, seed=0, recipe=DearRecipe(cosine=0.999))
