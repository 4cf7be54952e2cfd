"""Tiny models of the real classes, and tuples of theirs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from evenhand.mitigate.bpo.tuples import PictureTuple, TupleSet

_TINY = Path(__file__).parents[2] / "models" / "unified"


@pytest.fixture(scope="session")
def tiny():
    sys.path.insert(0, str(_TINY))
    try:
        import tiny_unified
    finally:
        sys.path.pop(0)
    return tiny_unified


@pytest.fixture
def make_tuples():
    """Tuples of random codes for a model: ``make_tuples(model, number, groups)``."""

    def made(model, number=6, groups=("male", "female"), *, seed=0):
        drawn = np.random.default_rng(seed)
        rows, columns = model.code_shape
        subjects = ("nurse", "sewer", "dog")
        found = [
            PictureTuple(
                f"{subjects[i % 3]}/neutral",
                f"a photo of the face of a {subjects[i % 3]}",
                tuple(f"a photo of the face of a {group} {subjects[i % 3]}" for group in groups),
                tuple(groups),
                drawn.integers(0, model.codebook_size, (len(groups), rows * columns)).astype(np.int32),
                (0.9,) * len(groups),
                "model",
            )
            for i in range(number)
        ]
        return TupleSet(
            "gender", tuple(groups), model.code_shape, model.codebook_size, model.codebook_digest, tuple(found)
        )

    return made
