"""Simulated audits of a declared truth: the miniature's table, 50 test occupations, 160 pictures of each."""

import numpy as np
import pytest

from evenhand.metrics.disparity import disparity
from evenhand.metrics.tally import Tally
from evenhand.miniature.declared import declared_shares
from evenhand.probes.occupation_lists import read_occupations

AUDITS, PICTURES = 200, 160


def coverage(variant: str) -> float:
    """Share of audits whose interval of the mean RD holds the declared one."""
    names = tuple(row.occupation for row in read_occupations("test"))
    shares = np.array([declared_shares(name, variant=variant) for name in names])
    declared = float(np.abs(shares[:, 0] - shares[:, 1]).mean())
    rng, held = np.random.default_rng(0), 0
    for audit in range(AUDITS):
        counts = rng.multinomial(PICTURES, shares)
        counted = Tally("gender", ("male", "female"), "face", names, counts, counts.sum(axis=1), ({},) * len(names))
        rd = next(one for one in disparity(counted, seed=audit, replicates=100).estimates if one.name == "RD")
        held += rd.low <= declared <= rd.high
    return held / AUDITS


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_the_interval_of_rd_covers_the_declared_truth_in_93_to_97_of_100_audits(variant):
    assert 0.93 <= coverage(variant) <= 0.97
