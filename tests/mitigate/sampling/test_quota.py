"""Which group is next: by hand, in the long run, and where a group is not obeyed or cannot be read."""

import numpy as np
import pytest

from evenhand.errors import BadInputError
from evenhand.mitigate.sampling.quota import drawn_group, followed, next_group

NOTHING = np.zeros((2, 2), dtype=np.int64)
NONE = np.zeros(2, dtype=np.int64)
EVEN = (0.5, 0.5)


def counted(*rows):
    return np.array(rows, dtype=np.int64)


def run(obeyed, target, pictures, *, seed=0, read=None):
    """Pictures shown and asked, one after another; ``read``: with what probability a group's picture has a verdict."""
    random, size = np.random.default_rng(seed), len(target)
    seen, asked, unread = np.zeros((size, size), dtype=np.int64), np.zeros(size, dtype=np.int64), 0
    for _ in range(pictures):
        group = next_group(seen, np.zeros(size, dtype=np.int64), target, unread=unread, draw=random.random())
        asked[group] += 1
        found = random.choice(size, p=obeyed[group])
        if read is None or random.random() < read[found]:
            seen[group, found] += 1
        else:
            unread += 1
    return seen.sum(axis=0), asked


def test_what_is_followed_by_hand():
    # Asked for the first group 4 times, shown 1 and 3: (1 + 2) / 6 and 3 / 6. Never asked for the second: itself.
    assert followed(counted([1, 3], [0, 0])).tolist() == [[0.5, 0.5], [0, 1]]


def test_the_larger_deficit_by_hand():
    # 2 and 0 shown, target even: n + 1 = 3, 1.5 each wanted, deficits -0.5 and 1.5. Both groups are obeyed.
    assert next_group(counted([2, 0], [0, 0]), NONE, EVEN, draw=0.0) == 1
    # 2 of 3 shown are the first, target .7: wanted 2.8 and 1.2 of 4, deficits .8 and .2.
    assert next_group(counted([2, 0], [0, 1]), NONE, (0.7, 0.3), draw=0.99) == 0


def test_what_is_shown_counts_and_not_what_was_asked():
    # 4 asked of the second, all shown as the first: deficits -1.5 and 2.5 of 5. a = (1, 0) and (4/6, 2/6):
    # -1.5 against 4/6 * -1.5 + 2/6 * 2.5 = -0.17. The second is asked for again.
    assert next_group(counted([0, 0], [4, 0]), NONE, EVEN, draw=0.0) == 1


def test_pictures_on_their_way_count_as_what_they_should_show():
    assert next_group(NOTHING, np.array([1, 0]), EVEN, draw=0.0) == 1
    assert next_group(NOTHING, np.array([1, 2]), EVEN, draw=0.99) == 0


def test_the_random_number_chooses_among_equals_alone():
    assert [next_group(NOTHING, NONE, EVEN, draw=draw) for draw in (0.0, 0.49, 0.5, 0.999)] == [0, 0, 1, 1]
    one_more = counted([1, 0], [0, 0])
    assert {next_group(one_more, NONE, EVEN, draw=draw) for draw in (0.0, 0.5, 0.999)} == {1}


def test_a_group_whose_target_is_0_is_never_asked_for():
    # Asked for, the third is all that shows the first; still it is not wanted.
    obeyed = [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert run(obeyed, (0.5, 0.5, 0), 100)[1][2] == 0
    assert {drawn_group((0, 1, 0), draw=draw) for draw in (0.0, 0.5, 0.999999)} == {1}


def test_a_group_drawn_from_the_target():
    assert [drawn_group((0.2, 0.5, 0.3), draw=draw) for draw in (0.0, 0.19, 0.21, 0.69, 0.71)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_half_obedience_comes_out_at_the_target(seed):
    # Asked for the second, half of the pictures show the first. Target .75, .25: d2 = .25 (n + 1) - c2. While d2 > 1/4
    # the second is asked for, which adds +1/2 to c2 against +1/4 to what is wanted of it: the deficit falls by 1/4 a
    # picture on average, in steps of -3/4 and +1/4. While it is below, the first is asked for and it rises by 1/4. An
    # excursion above by x has a probability of about exp(-2 x (1/4) / (1/4)) = exp(-2 x) (drift 1/4, variance 1/4):
    # 6 pictures is 6e-6. From below it never misses by more than 1.
    shown, asked = run([[1, 0], [0.5, 0.5]], (0.75, 0.25), 400, seed=seed)
    assert -6 <= shown[1] - 100 <= 1
    # c2 = asked / 2 within 4.5 standard deviations of a binomial of 200.
    assert abs(asked[1] - 200) < 2 * 6 + 4.5 * np.sqrt(200)


def test_a_target_that_cannot_be_reached_is_come_near_to():
    # At best 6 of 10 show the second: it is always asked for once the first is at its share.
    shown, asked = run([[1, 0], [0.4, 0.6]], (0.2, 0.8), 500)
    assert asked[0] == 0
    assert shown[1] / 500 == pytest.approx(0.6, abs=4.5 * np.sqrt(0.24 / 500))


def test_a_group_that_is_never_obeyed_starves_no_other():
    # The third shows as the second. Of all shares (x, 1 - x, 0) the nearest to thirds is (1/2, 1/2, 0).
    shown, asked = run([[1, 0, 0], [0, 1, 0], [0, 1, 0]], (1 / 3,) * 3, 300)
    assert shown[0] == pytest.approx(150, abs=4)
    assert shown[2] == 0
    assert asked.min() >= 1


def test_a_group_that_is_never_read_starves_no_other():
    # x of the pictures are unread, so a group is drawn evenly with probability x; else the second is asked for. Unread:
    # x = x / 2 + (1 - x), x = 2/3: the first is still asked for in every third picture, of 300 within 4.5 deviations.
    shown, asked = run([[1, 0], [0, 1]], EVEN, 300, read=(1, 0))
    assert shown[1] == 0
    assert shown[0] == asked[0] == pytest.approx(100, abs=4.5 * np.sqrt(300 * 2 / 9))


def test_a_group_that_is_read_half_the_time_is_made_up_for():
    # 1/3 first, 2/3 second of which half are read, so 1/3 of 300 is unread and as many groups are drawn evenly: 1/6
    # each, and the rest of what is asked for can still be the second, 5/6 at most. Shown: 100 each.
    shown, _ = run([[1, 0], [0, 1]], EVEN, 300, read=(1, 0.5))
    assert shown[0] - shown[1] == pytest.approx(0, abs=10)
    assert shown.sum() == pytest.approx(200, abs=4.5 * np.sqrt(300 * 2 / 9))


@pytest.mark.parametrize("draw", [-0.1, 1.0, float("nan")])
def test_a_random_number_is_below_1(draw):
    with pytest.raises(BadInputError, match="draw"):
        next_group(NOTHING, NONE, EVEN, draw=draw)
