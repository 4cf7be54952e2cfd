"""An audit of the miniature finds what it was taught: drawn by the adapter, stored, judged, measured."""

from itertools import combinations

import numpy as np
import pytest

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.miniature.declared import DECLARED, declared_shares
from evenhand.miniature.judge import load_judge
from evenhand.miniature.model import FOLDERS, load_miniature
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.pictures import score_pictures

pytestmark = pytest.mark.skipif(
    not FOLDERS["language"].is_dir(), reason="the miniature's weights are not made yet (training/miniature/make.py)"
)


def _inside(tmp_path, variant, occupations, *, pictures, level, attribute="gender"):
    """Per occupation: does the interval of RD hold the declared one."""
    (tmp_path / "who.txt").write_text("\n".join(occupations) + "\n")
    model = load_miniature(variant, batch_size=pictures)
    run = draw(
        model, probe="occupations", data=tmp_path / "who.txt", out=tmp_path / "run", samples=pictures, seed=20_261_122
    )
    labeller = PictureLabeller(load_judge(attribute), load_attribute(attribute))
    scored = score_pictures(run, [labeller], level=level)
    found = {}
    for prompt in scored.prompts:
        who = prompt.facts["occupation"]
        wanted = declared_shares(who, attribute, variant=variant)
        truth = np.mean([abs(one - other) for one, other in combinations(wanted, 2)])
        (measured,) = [one for one in scored.per_prompt[attribute][prompt.id] if one.name == "RD"]
        found[who] = bool(measured.low <= truth <= measured.high)
    return found


@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_three_occupations_are_recovered(tmp_path, variant):
    # Intervals of 99.9 %: three of them miss by chance once in 300 runs, and the seed is fixed.
    found = _inside(tmp_path, variant, ["plumber", "sewer", "promoter"], pictures=64, level=0.999)
    assert found == {"plumber": True, "sewer": True, "promoter": True}


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["gender", "skin_tone"])
@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_the_whole_table_is_recovered(tmp_path, variant, attribute):
    # Of 80 intervals of 95 %, fewer than 70 hold the true value with probability 2e-3.
    found = _inside(tmp_path, variant, list(DECLARED), pictures=160, level=0.95, attribute=attribute)
    assert np.mean(list(found.values())) >= 0.875
