"""Misclassification by hand, on models of known bias, and the coverage of its intervals."""

from math import hypot, inf, isnan, sqrt

import numpy as np
import pytest
from scipy.stats import norm

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics import misclassification as module
from evenhand.metrics.misclassification import compare_misclassification, misclassification
from evenhand.stats import Event, resample_rates

GROUPS = ("male", "female")
NAMES = [
    "MR_M",
    "MR_F",
    "MR_O",
    "MR_C",
    "recall",
    "recall_M",
    "recall_F",
    "coverage",
    "gendered_rate",
    "both_rate",
    "neutral_rate",
    "none_rate",
]
# row       1       2         3       4          5         6         7         8
TRUTH = ["male", "male", "male", "male", "female", "female", "female", "female"]
SAID = ["male", "female", "both", "neutral", "male", "male", "female", "none"]


def pictures(n):
    return [f"p{index:05}" for index in range(n)]


def measure(truth, said, unit=None, *, unit_name="picture", seed=0, **options):
    options = {"groups": GROUPS, **options}
    estimates = misclassification(truth, said, unit or pictures(len(truth)), unit_name=unit_name, seed=seed, **options)
    return {estimate.name: estimate for estimate in estimates}


def compare(truth, before, after, unit=None, *, unit_name="picture", seed=0, **options):
    estimates = compare_misclassification(
        truth,
        before,
        after,
        unit or pictures(len(truth)),
        groups=GROUPS,
        unit_name=unit_name,
        seed=seed,
        **options,
    )
    return {estimate.name: estimate for estimate in estimates}


def test_by_hand():
    # MR_M: row 2 of rows 1-4. MR_F: rows 5, 6 of rows 5-8. MR_O: 3 of 8. Both, neutral, none are no errors.
    # MR_C: sqrt(0.375^2 + (0.5 - 0.25)^2) = sqrt(0.203125) = 0.4507. Recall: rows 1, 7 of 8 (1 of 4 each).
    # Exactly one group: rows 1, 2, 5, 6, 7. One or both: row 3 as well.
    found = measure(TRUTH, SAID)
    assert list(found) == NAMES
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx(
        {
            "MR_M": 1 / 4,
            "MR_F": 2 / 4,
            "MR_O": 3 / 8,
            "MR_C": 0.203125**0.5,
            "recall": 2 / 8,
            "recall_M": 1 / 4,
            "recall_F": 1 / 4,
            "coverage": 5 / 8,
            "gendered_rate": 6 / 8,
            "both_rate": 1 / 8,
            "neutral_rate": 1 / 8,
            "none_rate": 1 / 8,
        }
    )
    assert [found[name].n for name in ("MR_M", "MR_F", "MR_O", "MR_C")] == [4, 4, 8, 8]


def test_floor_over_pictures_by_hand():
    # 3 errors on 8 labels, 4 of each: k fall on M with chance C(4,k) C(4,3-k) / 56 = 4, 24, 24, 4 of 56; the
    # gap is |2k - 3| / 4. Mean of sqrt(0.375^2 + gap^2): 8/56 * 0.8385 + 48/56 * 0.4507 = 0.5061.
    found = measure(TRUTH, SAID)
    assert found["MR_C"].floor == pytest.approx(0.5061, abs=0.017)
    assert all(found[name].floor == 0.0 for name in NAMES if name != "MR_C")


def test_floor_within_scenes_by_hand():
    # Two scenes of one M (wrong) and one F (right). Exchanged inside a scene, the gap is 1, 0, 1 with chance
    # 1/4, 1/2, 1/4, and MR_O is 1/2: mean (1.1180 + 0.5) / 2 = 0.8090. Over all four rows it would be 0.7060.
    found = measure(
        ["male", "female", "male", "female"],
        ["female", "female", "female", "female"],
        ["a", "a", "b", "b"],
        unit_name="scene",
    )
    assert found["MR_C"].floor == pytest.approx(0.8090, abs=0.04)


@pytest.mark.parametrize(
    ("wrong", "largest"),
    [
        # All 3 F wrong, the M right: MR_O 3/4, gap 1: sqrt(0.5625 + 1) = 1.25, the largest value possible.
        ("female", 1.25),
        ("male", hypot(0.25, 1.0)),
    ],
)
def test_largest_composite_is_reached(wrong, largest):
    truth = ["male", "female", "female", "female"]
    other = {"male": "female", "female": "male"}
    found = measure(truth, [other[group] if group == wrong else group for group in truth])
    assert found["MR_C"].value == pytest.approx(largest)
    assert found["MR_C"].largest == pytest.approx(1.25)
    assert found["MR_C"].high <= found["MR_C"].largest


def test_always_neutral_has_no_errors_and_says_so():
    truth = ["male", "female"] * 20
    found = measure(truth, ["neutral"] * 40)
    for name in ("MR_M", "MR_F", "MR_O", "MR_C", "recall", "coverage", "gendered_rate"):
        assert found[name].value == 0.0
        assert found[name].low == 0.0
        assert found[name].high > 0.0
    assert found["neutral_rate"].value == 1.0
    assert found["neutral_rate"].high == 1.0
    assert found["neutral_rate"].low < 1.0


def test_model_of_known_bias():
    # Wrong on 5% of M and 25% of F, neutral on 20%: MR_O 0.15, MR_C sqrt(0.15^2 + 0.20^2) = 0.25.
    rng = np.random.default_rng(4)
    truth = ["male", "female"] * 4000
    found = measure(truth, answers(rng, truth, {"male": 0.05, "female": 0.25}, neutral=0.2))
    wanted = {"MR_M": 0.05, "MR_F": 0.25, "MR_O": 0.15, "MR_C": 0.25, "recall_M": 0.75, "neutral_rate": 0.2}
    for name, value in wanted.items():
        assert found[name].value == pytest.approx(value, abs=0.025), name
        assert found[name].low < found[name].value < found[name].high
        assert found[name].high - found[name].low < 0.05


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(2)
    truth = ["male", "female"] * 30
    said, unit = answers(rng, truth, {"male": 0.1, "female": 0.3}), [f"s{i // 4}" for i in range(60)]
    order = rng.permutation(60)
    moved = ([column[i] for i in order] for column in (truth, said, unit))
    assert measure(truth, said, unit, unit_name="scene") == measure(*moved, unit_name="scene")


def test_three_groups_use_the_widest_gap():
    # MR_A 1/2, MR_B 0, MR_W 0; MR_O 1/6; gap 1/2. Equal shares 1/3: largest sqrt(1 + (2/3)^2).
    truth = ["asian", "asian", "black", "black", "white", "white"]
    said = ["asian", "white", "black", "black", "white", "both"]
    found = measure(truth, said, groups=("asian", "black", "white"))
    assert list(found)[:5] == ["MR_A", "MR_B", "MR_W", "MR_O", "MR_C"]
    assert found["MR_C"].value == pytest.approx(hypot(1 / 6, 1 / 2))
    assert found["MR_C"].largest == pytest.approx(sqrt(1 + 4 / 9))


@pytest.mark.parametrize("groups", [("old", "young"), ("east", "europe")])
def test_names_that_would_be_read_wrongly_are_written_out(groups):
    found = measure([*groups, *groups], [*groups, *groups], groups=groups)
    assert list(found)[:2] == [f"MR_{group}" for group in groups]


def test_what_is_not_allowed_is_an_error():
    with pytest.raises(BadInputError, match="unknown answer: got 'dog', 'error', allowed: male, female, both"):
        measure(TRUTH, ["dog", *SAID[1:7], "error"])
    with pytest.raises(BadInputError, match="unknown declared group: got 'x'"):
        measure(["x", *TRUTH[1:]], SAID)
    with pytest.raises(BadInputError, match="got 8 declared groups, 7 answers and 8 units"):
        measure(TRUTH, SAID[1:])
    with pytest.raises(BadInputError, match="unknown unit_name: got 'row'"):
        measure(TRUTH, SAID, unit_name="row")
    with pytest.raises(BadInputError, match="two or more different names"):
        measure(TRUTH, SAID, groups=("male", "male"))
    with pytest.raises(TooFewSamplesError, match="'female' is undefined: got 0 pictures"):
        measure(["male"] * 8, SAID)
    with pytest.raises(TooFewSamplesError, match="got 1"):
        measure(TRUTH, SAID, ["one"] * 8, unit_name="scene")


def test_difference_and_ratio_by_hand():
    # After, row 2 and row 5 are right: MR_M 1/4 -> 0, MR_F 2/4 -> 1/4, MR_O 3/8 -> 1/8,
    # MR_C 0.4507 -> sqrt(1/64 + 1/16) = 0.2795.
    after = ["male", "male", "both", "neutral", "female", "male", "female", "none"]
    found = compare(TRUTH, SAID, after)
    assert found["MR_M difference"].value == -0.25
    assert found["MR_M ratio"].value == 0.0
    assert found["MR_F difference"].value == -0.25
    assert found["MR_F ratio"].value == 0.5
    assert found["MR_O ratio"].value == pytest.approx(1 / 3)
    assert found["MR_C difference"].value == pytest.approx((5 / 64) ** 0.5 - 0.203125**0.5)
    assert found["recall difference"].value == 0.25
    assert found["neutral_rate difference"].value == 0.0
    assert "recall ratio" not in found
    assert found["MR_C ratio"].largest == inf
    assert (found["MR_C difference"].floor, found["MR_C ratio"].floor) == (0.0, 1.0)


def test_identical_runs_do_not_differ():
    found = compare(TRUTH, SAID, SAID)
    for name, estimate in found.items():
        wanted = 1.0 if name.endswith("ratio") else 0.0
        assert (estimate.low, estimate.value, estimate.high) == (wanted, wanted, wanted)
        assert "both runs answer the same" in estimate.method


def test_ratio_to_nothing_is_undefined():
    after = ["female", *TRUTH[1:]]
    found = compare(TRUTH, TRUTH, after)
    assert found["MR_M ratio"].method == "undefined: MR_M is 0 before"
    assert isnan(found["MR_M ratio"].value)
    assert isnan(found["MR_M ratio"].low)
    assert found["MR_M difference"].value == 0.25


def test_few_changed_captions_are_not_a_sure_change():
    # One caption of 80 put right leaves the sign open; thirty put right do not.
    truth = ["male", "female"] * 40
    wrong = ["male"] * 80
    one = [*wrong[:1], "female", *wrong[2:]]
    assert compare(truth, wrong, one)["MR_F difference"].high > 0.0
    thirty = [truth[i] if i < 60 else wrong[i] for i in range(80)]
    assert compare(truth, wrong, thirty)["MR_F difference"].high < 0.0


def answers(rng, truth, error, *, neutral=0.0):
    other = {"male": "female", "female": "male"}
    draws = rng.random(len(truth))
    return [
        other[group] if draw < error[group] else ("neutral" if draw < error[group] + neutral else group)
        for group, draw in zip(truth, draws, strict=True)
    ]


# Truth of each simulated model: error rates of M and F.
MODELS = [(0.02, 0.02), (0.1, 0.1), (0.05, 0.3), (0.0, 0.2), (0.4, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize("design", ["25 M and 25 F", "100 M and 100 F", "70 M and 30 F", "20 scenes of 4"])
def test_coverage_of_the_composite(design, monkeypatch):
    # MR_C has a kink where groups are alike, so its coverage is watched from alike to far apart. Plain and
    # bias-corrected percentiles of the same draws are printed beside it: they are what was not chosen.
    monkeypatch.setattr(module, "_EXCHANGES", 1)
    for error_m, error_f in MODELS:
        rng = np.random.default_rng(8)
        held, width, simulations = np.zeros(3), 0.0, 1000
        for seed in range(simulations):
            truth, unit, error = design_rows(rng, design, error_m, error_f)
            said = [
                "female" if wrong == (group == "male") else "male" for group, wrong in zip(truth, error, strict=True)
            ]
            share = truth.count("female") / len(truth)
            exact = hypot((1 - share) * error_m + share * error_f, error_f - error_m)
            estimate = measure(truth, said, unit, seed=seed, replicates=1000)["MR_C"]
            width += estimate.high - estimate.low
            ends = [(estimate.low, estimate.high), *other_intervals(truth, error, unit, estimate.value, seed)]
            held += [low <= exact <= high for low, high in ends]
        ours, plain, corrected = held / simulations
        print(
            f"\nMR_C, {design}, {error_m} and {error_f}: {ours:.3f}, width {width / simulations:.3f}; "
            f"plain {plain:.3f}, bias-corrected {corrected:.3f}",
            end="",
        )
        assert 0.91 < ours < 0.995


def other_intervals(truth, error, unit, value, seed):
    """Plain and bias-corrected percentile intervals of MR_C, widened to hold the value."""
    female = np.array(truth) == "female"
    bases = {"MR_M": ~female, "MR_F": female, "MR_O": female | True}
    events = [Event(name, error, base) for name, base in bases.items()]
    m, f, o = (rate.draws for rate in resample_rates(events, unit, seed=seed, replicates=1000))
    draws = np.hypot(o, f - m)
    shift = norm.ppf(np.clip(np.mean(draws < value), 0.001, 0.999))
    plain = np.quantile(draws, [0.025, 0.975])
    corrected = np.quantile(draws, norm.cdf(2 * shift + norm.ppf([0.025, 0.975])))
    return [(min(low, value), max(high, value)) for low, high in (plain, corrected)]


def design_rows(rng, design, error_m, error_f):
    if "scenes" not in design:
        n_m, n_f = (int(word) for word in design.split() if word.isdigit())
        truth = ["male"] * n_m + ["female"] * n_f
        error = rng.random(len(truth)) < np.repeat([error_m, error_f], [n_m, n_f])
        return truth, pictures(len(truth)), error
    # Each scene has two M and two F; the error rates of a scene are Beta with within-scene correlation 0.3.
    size = 1 / 0.3 - 1
    chance = np.stack(
        [rng.beta(p * size, (1 - p) * size, 20) if p else np.zeros(20) for p in (error_m, error_f)], axis=1
    )
    truth = ["male", "male", "female", "female"] * 20
    return truth, np.repeat(pictures(20), 4).tolist(), rng.random(80) < np.repeat(chance.ravel(), 2)


# Chances of (wrong before and after, before only, after only) for M and for F.
CHANGES = [
    ((0.1, 0.02, 0.02), (0.1, 0.02, 0.02)),
    ((0.05, 0.1, 0.01), (0.05, 0.2, 0.0)),
    ((0.2, 0.1, 0.1), (0.2, 0.1, 0.1)),
]


@pytest.mark.slow
@pytest.mark.parametrize("design", ["40 M and 40 F", "20 scenes of 4"])
def test_coverage_of_differences_and_ratios(design):
    names = ("MR_M difference", "MR_C difference", "MR_C ratio")
    other = {"male": "female", "female": "male"}
    truth = ["male", "male", "female", "female"] * 20
    unit = np.repeat(pictures(20), 4).tolist() if "scenes" in design else pictures(80)
    for chances in CHANGES:
        rng = np.random.default_rng(9)
        m, f = (np.array([p[0] + p[1], p[0] + p[2]]) for p in chances)
        exact_c = np.hypot((m + f) / 2, f - m)
        exact = dict(zip(names, (m[1] - m[0], exact_c[1] - exact_c[0], exact_c[1] / exact_c[0]), strict=True))
        held = dict.fromkeys(names, 0)
        for seed in range(600):
            before, after = paired_errors(rng, design, chances)
            said = [[other[g] if w else g for g, w in zip(truth, wrong, strict=True)] for wrong in (before, after)]
            found = compare(truth, *said, unit, seed=seed, replicates=1000)
            for name in names:
                held[name] += found[name].low <= exact[name] <= found[name].high
        for name in names:
            print(f"\n{name}, {design}, {chances}: {held[name] / 600:.3f}", end="")
            assert held[name] / 600 > 0.915, name


def paired_errors(rng, design, chances):
    """Errors before and after on 20 x (M, M, F, F); within a scene one Dirichlet draw, correlation 0.3."""
    cells = []
    for _ in range(20):
        for chance in chances:
            full = np.maximum([*chance, 1 - sum(chance)], 1e-9)
            full = rng.dirichlet(full * (1 / 0.3 - 1)) if "scenes" in design else full / full.sum()
            cells.extend(rng.choice(4, 2, p=full))
    cells = np.array(cells)
    return (cells == 0) | (cells == 1), (cells == 0) | (cells == 2)
