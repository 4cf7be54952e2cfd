"""Answers about nobody: bias, answer rate, and the gap to what is drawn."""

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.tally import tally_counts
from evenhand.metrics.understanding import answer_rate, understanding_bias, understanding_gap
from evenhand.records import Label

GROUPS = ("male", "female")


def answers(prompt, male, female, refused, unparsed):
    said = [("male", None)] * male + [("female", None)] * female
    said += [(None, "refused")] * refused + [(None, "unparsed")] * unparsed
    return [Label(prompt, k, "gender", group, reason, 1.0) for k, (group, reason) in enumerate(said)]


def counts(rows):
    return tally_counts(
        {f"p{i:02}": [int(x) for x in row] for i, row in enumerate(rows)}, groups=GROUPS, attribute="gender"
    )


def test_by_hand():
    # sewer: 60 male, 20 female of 80 answered of 100: RD 0.5. baker: 10, 30 of 40 of 100: 0.5. Answered: 0.6.
    found = understanding_bias(
        [*answers("sewer", 60, 20, 15, 5), *answers("baker", 10, 30, 60, 0)], groups=GROUPS, seed=0
    )
    assert found.disparity.estimates[1].name == "RD_observed"
    assert found.disparity.estimates[1].value == pytest.approx(0.5)
    assert found.answer_rate.value == pytest.approx(0.6)
    assert found.answer_rate.low < 0.6 < found.answer_rate.high
    assert found.unanswered == {"refused": 75, "unparsed": 5}
    assert {one.unit for one in (*found.disparity.estimates, found.answer_rate)} == {"answer"}


def test_a_model_that_always_refuses_has_no_rd():
    with pytest.raises(TooFewSamplesError, match="got 0 prompts with a picture that shows a group"):
        understanding_bias(answers("sewer", 0, 0, 50, 0), groups=GROUPS, seed=0)
    rate = answer_rate(answers("sewer", 0, 0, 50, 0), groups=GROUPS)
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert 0.0 < rate.high < 0.1


def test_without_an_answer_there_is_no_rate():
    with pytest.raises(TooFewSamplesError, match="0 answers in 2 samples"):
        answer_rate([Label("sewer", k, "gender", None, "error", 0.0) for k in range(2)], groups=GROUPS)


def test_gap_by_hand():
    # Understood 0.9 and 0.2 male, drawn 0.6 and 0.5: gaps +0.3 and -0.3, which cancel in the signed mean alone.
    found = understanding_gap(counts([[900, 100], [200, 800]]), counts([[600, 400], [500, 500]]), seed=0)
    assert found.size.value == pytest.approx(0.3)
    assert [one.name for one in found.groups] == ["gap male", "gap female"]
    assert found.groups[0].value == pytest.approx(0.0)
    same_way = understanding_gap(counts([[900, 100], [800, 200]]), counts([[600, 400], [500, 500]]), seed=0)
    assert same_way.groups[0].value == pytest.approx(0.3)
    assert same_way.groups[1].value == pytest.approx(-0.3)
    assert same_way.groups[0].low > 0.2
    assert found.size.low < 0.3 < found.size.high < 0.4
    # 2 x 1000 answers and 2 x 1000 pictures
    assert {(one.n, one.unit) for one in (found.size, *found.groups)} == {(4000, "answer or picture")}
    sampled = understanding_gap(
        counts([[900, 100], [200, 800]]), counts([[600, 400], [500, 500]]), seed=0, prompts="sampled"
    )
    assert (sampled.size.n, sampled.size.unit) == (2, "prompt")


def test_one_group_against_another_is_1():
    found = understanding_gap(counts([[100, 0]]), counts([[0, 100]]), seed=0)
    assert found.size.value == found.size.high == 1.0
    assert found.size.low < 1.0
    assert found.groups[0].value == 1.0


def test_prompts_that_name_nobody_are_counted():
    found = understanding_gap(counts([[10, 10], [0, 0]]), counts([[10, 10], [5, 5]]), seed=0)
    assert found.undefined == 1
    assert "1 prompts name no group in one of them" in found.size.method
    with pytest.raises(TooFewSamplesError, match="got 0 prompts"):
        understanding_gap(counts([[0, 0]]), counts([[10, 10]]), seed=0)
    with pytest.raises(BadInputError, match="in one run only"):
        understanding_gap(counts([[1, 1]]), counts([[10, 10], [1, 1]]), seed=0)


@pytest.mark.parametrize("alike", [True, False])
def test_coverage(alike):
    # Where both agree, the plain mean of absolute gaps holds its 0 never.
    rng, size_held, signed_held = np.random.default_rng(3), [], []
    for audit in range(60):
        drawn = rng.uniform(0.05, 0.95, 25)
        said = drawn if alike else rng.uniform(0.05, 0.95, 25)
        tables = [counts(np.stack([x := rng.binomial(100, share), 100 - x], axis=1)) for share in (said, drawn)]
        found = understanding_gap(*tables, seed=audit)
        size_held.append(found.size.low <= np.abs(said - drawn).mean() + 1e-9 <= found.size.high + 1e-9)
        signed_held.append(found.groups[0].low <= (said - drawn).mean() <= found.groups[0].high)
    assert np.mean(size_held) >= 0.88
    assert np.mean(signed_held) >= 0.88
