"""Groups that are planned: the same for the same prompt and seed, and as many of each as wanted."""

from collections import Counter

import numpy as np

from evenhand.ledger import seed_of
from evenhand.mitigate.sampling import planned
from evenhand.mitigate.sampling.planned import PlannedGroups, random_number

THIRDS = (1 / 3, 1 / 3, 1 / 3)


def of_run(plan, pictures, prompt="nurse/neutral", run="occupations-0"):
    return [plan.group(prompt, seed_of(run, prompt, k)) for k in range(pictures)]


def test_numbers_are_spread_and_their_own():
    numbers = np.array([random_number("nurse", seed) for seed in range(4000)])
    # Mean of 4,000 uniform numbers: 1/2, standard error .2887 / 63.2 = .0046.
    assert abs(numbers.mean() - 0.5) < 4.5 * 0.0046
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert random_number("nurse", 3) == numbers[3] != random_number("pilot", 3)


def test_every_block_of_an_even_target_is_even():
    groups = of_run(PlannedGroups(THIRDS, run="occupations-0"), 90)
    assert all(sorted(groups[start : start + 3]) == [0, 1, 2] for start in range(0, 90, 3))
    # In a block the order is drawn: 30 blocks of one order out of six would have a probability of 6^-29.
    assert len({tuple(groups[start : start + 3]) for start in range(0, 90, 3)}) > 1
    assert groups != of_run(PlannedGroups(THIRDS, run="occupations-0"), 90, prompt="pilot/neutral")


def test_every_beginning_is_within_one_of_the_target():
    groups = of_run(PlannedGroups((0.7, 0.3), run="occupations-0"), 200)
    firsts = np.cumsum([group == 0 for group in groups])
    assert np.abs(firsts - 0.7 * np.arange(1, 201)).max() < 1


def test_order_and_batches_change_nothing():
    forwards, backwards = (PlannedGroups(THIRDS, run="occupations-0") for _ in range(2))
    seeds = [seed_of("occupations-0", "nurse/neutral", k) for k in range(100)]
    groups = [forwards.group("nurse/neutral", seed) for seed in seeds]
    assert [backwards.group("nurse/neutral", seed) for seed in reversed(seeds)] == groups[::-1]


def test_other_seeds_draw_by_themselves():
    plan, free = PlannedGroups((0.7, 0.3), run="occupations-0"), PlannedGroups((0.7, 0.3), run=None)
    groups = [free.group("nurse/neutral", seed) for seed in range(2000)]
    # 1,400 of 2,000, standard deviation sqrt(2000 * .21) = 20.5.
    assert abs(Counter(groups)[0] - 1400) < 4.5 * 20.5
    assert [plan.group("nurse/neutral", seed) for seed in range(20)] == groups[:20]


def test_samples_beyond_the_longest_run_draw_by_themselves(monkeypatch):
    monkeypatch.setattr(planned, "LONGEST", 100)
    plan, free = PlannedGroups((0.7, 0.3), run="occupations-0"), PlannedGroups((0.7, 0.3), run=None)
    far = [seed_of("occupations-0", "nurse/neutral", k) for k in range(100, 160)]
    assert [plan.group("nurse/neutral", seed) for seed in far] == [free.group("nurse/neutral", seed) for seed in far]
