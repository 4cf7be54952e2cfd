"""Estimates of picture quality: by hand, against torchmetrics, and coverage by simulation."""

from math import exp, log

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.picture_quality import inception_score, mean_quality, quality_estimates

SURE = 1000.0  # of the softmax: exp(-1000) is 0
CLIP_S = {
    "kind": "CLIP-S",
    "formula": "100 max(cos, 0)",
    "weights": "some-clip",
    "sha256": "0123456789abcdef",
    "statistic": "mean",
    "columns": ["CLIP-S"],
    "largest": 100.0,
}


def one_hot(*classes: int, of: int = 2) -> np.ndarray:
    return SURE * np.eye(of)[list(classes)]


def test_mean_by_hand():
    # Two prompts, values 1, 3 and 5, 7: mean 4. Each prompt's variance is 2, that of its mean 1, that of the mean of
    # all (1 + 1) / 4 = 0.5. Welch: 0.5^2 / (0.25^2 + 0.25^2) = 2 degrees of freedom, t = 4.302653.
    values, prompt = np.array([1.0, 3.0, 5.0, 7.0]), ["a", "a", "b", "b"]
    found = mean_quality("Q", values, prompt, how="how", largest=10.0)
    assert found.value == 4.0
    assert (found.low, found.high) == pytest.approx((4 - 4.302653 * 0.5**0.5, 4 + 4.302653 * 0.5**0.5), abs=1e-5)
    assert (found.n, found.unit, found.largest, found.floor) == (4, "picture", 10.0, 0.0)
    assert found.method == "how; mean over 4 pictures; Student's t over pictures of 2 fixed prompts"


def test_sampled_prompts_by_hand():
    # Means of prompts 2 and 6: the deviation of their mean is sqrt(8 / 2) = 2, t with 1 degree of freedom 12.706.
    # At level 0.5 the critical value is 1: 4 - 2 and 4 + 2.
    values, prompt = np.array([1.0, 3.0, 5.0, 7.0]), ["a", "a", "b", "b"]
    found = mean_quality("Q", values, prompt, how="", largest=10.0, prompts="sampled", level=0.5)
    assert (found.low, found.high) == pytest.approx((2.0, 6.0))
    assert (found.n, found.unit) == (2, "prompt")
    wide = mean_quality("Q", values, prompt, how="", largest=10.0, prompts="sampled")
    assert (wide.low, wide.high) == (0.0, 10.0)  # 12.7 * 2 on either side, cut to what is possible


def test_a_prompt_of_one_picture_takes_the_pooled_variance():
    # Prompt a: 1, 3 with variance 2; b has one picture, so 2 as well. Shares 2/3, 1/3:
    # (4/9) 2/2 + (1/9) 2/1 = 6/9; degrees of freedom (6/9)^2 / ((4/9)^2 + (2/9)^2) = 1.8; t(0.75; 1.8) at level 0.5.
    from scipy.stats import t

    found = mean_quality("Q", np.array([1.0, 3.0, 5.0]), ["a", "a", "b"], how="", largest=10.0, level=0.5)
    assert found.high - 3.0 == pytest.approx((6 / 9) ** 0.5 * t.ppf(0.75, 1.8))


def test_order_and_one_value():
    rng = np.random.default_rng(0)
    values, prompt = rng.random(30), np.array(["c", "a", "b"] * 10)
    order = rng.permutation(30)
    first = mean_quality("Q", values, list(prompt), how="", largest=1.0)
    again = mean_quality("Q", values[order], list(prompt[order]), how="", largest=1.0)
    assert (first.value, first.low, first.high) == pytest.approx((again.value, again.low, again.high), abs=1e-12)
    same = mean_quality("Q", np.full(4, 0.5), ["a", "a", "b", "b"], how="", largest=1.0)
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)


def test_inception_score_by_hand():
    # Five pictures surely show A, five surely B: p(y) = (1/2, 1/2), every divergence log 2, score 2, the most there is.
    both = inception_score(one_hot(*[0, 1] * 5), ["p"] * 10, how="how", seed=0)
    assert both.value == pytest.approx(2.0)
    assert (both.largest, both.floor, both.n) == (2.0, 1.0, 10)
    assert both.low < 1.97  # no picture moves it to first order; that does not make it sure
    # One class only: 1, the least.
    one = inception_score(one_hot(*[0] * 10), ["p"] * 10, how="", seed=0)
    assert (one.value, one.low) == (1.0, 1.0)
    # Half of them sure of A, half (1/2, 1/2): p(y) = (3/4, 1/4). Divergences log(4/3), and
    # (log(2/3) + log 2) / 2 = log(4/3) / 2: their mean is 0.75 log(4/3).
    mixed = inception_score(np.concatenate([one_hot(*[0] * 5), np.zeros((5, 2))]), ["p"] * 10, how="", seed=0)
    assert mixed.value == pytest.approx((4 / 3) ** 0.75)


def test_interval_of_the_score_by_hand():
    # As above, 50 and 50: the log score is the mean of 50 times log(4/3) and 50 times log(4/3) / 2, its standard
    # deviation (log(4/3) / 2) sqrt(25 / 99) / 10... = sqrt(100 * (d / 2)^2 / 99) / 10 with d = log(4/3) / 2.
    from scipy.stats import t

    scores = np.concatenate([one_hot(*[0] * 50), np.zeros((50, 2))])
    found = inception_score(scores, ["p"] * 100, how="", seed=0)
    deviation = (100 * (log(4 / 3) / 4) ** 2 / 99) ** 0.5 / 10
    wanted = exp(0.75 * log(4 / 3) + float(t.ppf(0.975, 99)) * deviation)
    assert found.high >= wanted * (1 - 1e-12)  # at least the first order
    assert found.high == pytest.approx(wanted, rel=0.005)


def test_splits_by_hand():
    # 40 pictures, one of each of 40 classes: one split scores 40. In two splits of 20 no class is there twice, so each
    # scores 20, the number of its pictures, whatever the shuffle.
    scores = one_hot(*range(40), of=40)
    whole, halves = (inception_score(scores, ["p"] * 40, how="", seed=3, splits=n) for n in (1, 2))
    assert whole.value == pytest.approx(40.0)
    assert (halves.value, halves.largest) == (pytest.approx(20.0), 20.0)
    assert "40 pictures in 1 split;" in whole.method
    assert "half as many pictures a split give 20.000" in whole.method
    assert "in 2 splits" in halves.method
    assert "give 10.000" in halves.method


def test_order_has_no_effect_with_one_split():
    rng = np.random.default_rng(0)
    scores, order = rng.normal(size=(60, 5)), rng.permutation(60)
    first = inception_score(scores, ["p"] * 60, how="", seed=0).value
    assert inception_score(scores[order], ["p"] * 60, how="", seed=9).value == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize("splits", [1, 4])
def test_score_is_torchmetrics(splits, monkeypatch):
    torch = pytest.importorskip("torch")
    inception = pytest.importorskip("torchmetrics.image.inception", exc_type=ImportError)

    scores = np.random.default_rng(5).normal(size=(80, 12)) * 2
    order = np.random.default_rng([7]).permutation(80)  # torchmetrics' own shuffle has no seed
    monkeypatch.setattr(torch, "randperm", torch.arange)
    theirs = inception.InceptionScore(feature=torch.nn.Identity(), splits=splits)
    theirs.set_dtype(torch.float64)
    theirs.update(torch.from_numpy(scores[order]))
    found = inception_score(scores, ["p"] * 80, how="", seed=7, splits=splits)
    assert found.value == pytest.approx(float(theirs.compute()[0]), rel=1e-9)


@pytest.mark.parametrize("prompts", ["fixed", "sampled"])
def test_coverage_of_the_mean(prompts):
    # Values in [0, 1] around means of prompts; fixed: these means stay; sampled: they are drawn anew each time.
    rng, hits, runs = np.random.default_rng(1), 0, 1000
    fixed = rng.uniform(0.2, 0.8, 12)
    prompt = [str(one) for one in range(12) for _ in range(6)]
    for _ in range(runs):
        means = fixed if prompts == "fixed" else rng.uniform(0.2, 0.8, 12)
        values = rng.beta(np.repeat(means, 6) * 8, np.repeat(1 - means, 6) * 8)
        found = mean_quality("Q", values, prompt, how="", largest=1.0, prompts=prompts)
        hits += found.low <= (fixed.mean() if prompts == "fixed" else 0.5) <= found.high
    assert 0.93 <= hits / runs <= 0.97


def test_coverage_of_the_score():
    # The truth is the mean over runs of this size: the mean of the simulated runs themselves.
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(4, 6)) * 2, 20, axis=0)
    prompt = [str(one) for one in range(4) for _ in range(20)]
    found = [inception_score(centres + rng.normal(size=(80, 6)) * 1.5, prompt, how="", seed=run) for run in range(400)]
    truth = float(np.mean([one.value for one in found]))
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98


def test_fewer_pictures_score_lower():
    # 400 classes, each picture sure of one: the model's score is 400. 100 pictures cannot score above 100.
    classes = np.random.default_rng(0).integers(0, 400, 800)
    many = inception_score(one_hot(*classes, of=400), ["p"] * 800, how="", seed=0)
    few = inception_score(one_hot(*classes[:100], of=400), ["p"] * 100, how="", seed=0)
    assert few.value < 100.0 < many.value < 400.0


def test_estimates_of_a_metric():
    rows = np.array([[20.0], [30.0], [25.0], [25.0]])
    (found,) = quality_estimates(CLIP_S, rows, ["a", "a", "b", "b"], seed=0)
    assert (found.name, found.value, found.largest) == ("CLIP-S", 25.0, 100.0)
    assert found.method.startswith("100 max(cos, 0); weights some-clip (sha256 0123456789abcdef); mean over 4 pictures")
    cut = {**CLIP_S, "columns": ["CLIP-S", "cut"], "long_texts": "cut to 77 tokens", "sha256": None}
    (found,) = quality_estimates(cut, np.c_[rows, [0.0, 1, 1, 0]], ["a", "a", "b", "b"], seed=0)
    assert "weights some-clip; texts of 2 pictures cut (cut to 77 tokens);" in found.method
    score = {**CLIP_S, "statistic": "inception score", "splits": 2}
    (found,) = quality_estimates(score, one_hot(*range(20), of=20).astype(np.float32), ["a"] * 20, seed=0)
    assert (found.name, found.value) == ("Inception Score", pytest.approx(10.0))


@pytest.mark.parametrize("settings", [CLIP_S, {**CLIP_S, "statistic": "inception score", "splits": 1}])
def test_nothing_and_nan(settings):
    with pytest.raises(TooFewSamplesError, match="0 pictures"):
        quality_estimates(settings, np.zeros((0, 1)), [], seed=0)
    rows = np.ones((20, 1))
    rows[3] = np.nan
    with pytest.raises(BadInputError, match="in 1 of 20"):
        quality_estimates(settings, rows, ["a"] * 20, seed=0)
    with pytest.raises(BadInputError, match="20 of numbers and 2 prompts"):
        quality_estimates(settings, rows, ["a"] * 2, seed=0)


def test_too_few():
    with pytest.raises(TooFewSamplesError, match="15 pictures in 2 splits, at least 10"):
        inception_score(np.zeros((15, 3)), ["p"] * 15, how="", seed=0, splits=2)
    with pytest.raises(TooFewSamplesError, match="a prompt of 2 pictures"):
        mean_quality("Q", np.ones(2), ["a", "b"], how="", largest=1.0)
    with pytest.raises(TooFewSamplesError, match="2 or more: got 1"):
        mean_quality("Q", np.ones(2), ["a", "a"], how="", largest=1.0, prompts="sampled")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"prompts": "some"}, "fixed, sampled"), ({"level": 1.0}, "probability"), ({"largest": 0.5}, "allowed: 0 to 0.5")],
)
def test_options(change, said):
    options = {"how": "", "largest": 1.0, **change}
    with pytest.raises(BadInputError, match=said):
        mean_quality("Q", np.ones(4), ["a"] * 4, **options)


@pytest.mark.parametrize("change", [{"seed": -1}, {"splits": 0}])
def test_options_of_the_score(change):
    with pytest.raises(BadInputError, match="Inception Score: got"):
        inception_score(np.zeros((20, 3)), ["p"] * 20, **{"how": "", "seed": 0, **change})
    with pytest.raises(BadInputError, match="1 classes"):
        inception_score(np.zeros((20, 1)), ["p"] * 20, how="", seed=0)


@pytest.mark.parametrize("change", [{"statistic": "median"}, {"columns": ["a", "b"]}, {"largest": None}])
def test_settings_of_no_metric(change):
    with pytest.raises(BadInputError, match="allowed"):
        quality_estimates({**CLIP_S, **change}, np.ones((4, 1)), ["a"] * 4, seed=0)
