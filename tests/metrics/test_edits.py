"""What a mitigation did, on hand-made tables of eight rows."""

from math import inf, isnan

import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.edits import GateTable, edit_rates, gate_quality, gate_table, was_edited
from evenhand.records import Edit, Sample

GROUPS = ("male", "female")


def edit(position, drafted=" man", emitted=" woman", *, kl=0.0, attribute="gender"):
    return Edit(position, 0, 1, drafted, emitted, 0.9, -1.0, -6.0, 6.0, attribute=attribute, kl=kl, why="contradiction")


def sample(name, tokens, edits=(), passed=(), **options):
    return Sample(name, 0, 0, "text", edits=tuple(edits), passed=tuple(passed), tokens=tokens, **options)


def table():
    return [
        sample("a", 10, [edit(1, kl=2.0), edit(5, " his", " her", kl=1.0)]),
        sample("b", 10, [edit(2, " woman", " woman", kl=0.5)], [edit(3)]),  # shifted, but the same token came out
        sample("c", 10, [], [edit(0)]),
        sample("d", 10),
        sample("e", 20, [edit(1, kl=1.5, attribute="race"), edit(1, kl=1.5)]),  # two attributes, one token
        sample("f", 20),
        sample("g", 0),
        Sample("h", 0, 0, None, error="PictureError: gone"),
    ]


UNITS = list("abcdefgh")


def rates(samples, unit=None, **options):
    options = {"unit_name": "picture", "seed": 0, **options}
    return {one.name: one for one in edit_rates(samples, unit or UNITS[: len(samples)], **options)}


def test_eight_rows_by_hand():
    # Tokens: 10 + 10 + 10 + 10 + 20 + 20 + 0 = 80; the error is left out. Open gates: a 2, b 2, c 1, e 1 = 6. Edited:
    # a 2, b 1, e 1 = 4; another token came out: a 2, e 1 = 3. Captions: a, b, e edited and a, e changed, of 7. KL: 3 +
    # 0.5 + 1.5 = 5 nats over 80 tokens; e's step counts once.
    found = rates(table())
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "trigger_rate": 6 / 80,
            "edited_token_rate": 4 / 80,
            "changed_token_rate": 3 / 80,
            "edited_captions": 3 / 7,
            "changed_captions": 2 / 7,
            "kl_per_token": 5 / 80,
        }
    )
    assert all(one.low <= one.value <= one.high <= one.largest for one in found.values())
    assert (found["kl_per_token"].largest, found["trigger_rate"].n, found["edited_captions"].n) == (inf, 6, 7)


def test_one_attribute():
    found = rates(table(), attribute="race")
    assert found["trigger_rate"].value == pytest.approx(1 / 80)
    assert found["edited_captions"].value == pytest.approx(1 / 7)
    assert found["kl_per_token"].value == pytest.approx(1.5 / 80)
    assert was_edited(table()[4], attribute="race")
    assert not was_edited(table()[0], attribute="race")
    assert was_edited(table()[0])
    assert not was_edited(table()[2])  # an open gate is no edit


def test_no_mitigation_is_zero():
    found = rates([sample(name, 10) for name in "abcd"])
    assert all(one.value == one.low == 0.0 for one in found.values())
    assert found["trigger_rate"].high > 0.0


def test_an_edited_stop_token_is_a_token():
    # 4 tokens and a stop token that was edited: 5 steps, 1 of 5 + 5.
    found = rates([sample("a", 4, [edit(4)]), sample("b", 5)])
    assert found["edited_token_rate"].value == pytest.approx(1 / 10)


def test_tokens_of_one_caption_stay_together():
    # 2 of 40 captions hold all 20 edits: were tokens independent, the interval would be far narrower.
    few = [sample(f"{i:02}", 10, [edit(p) for p in range(10)] if i < 2 else ()) for i in range(40)]
    spread = [sample(f"{i:02}", 10, [edit(0)] if i < 20 else ()) for i in range(40)]
    names = [one.prompt_id for one in few]
    wide, narrow = (rates(some, names)["edited_token_rate"] for some in (few, spread))
    assert wide.value == narrow.value == 0.05
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_kl_that_was_not_measured():
    found = rates([sample("a", 10, [edit(1, kl=None)]), sample("b", 10)])["kl_per_token"]
    assert isnan(found.value)
    assert found.method == "undefined: KL was not measured at every edit in 1 samples"


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([sample("a", None), sample("b", 1)], BadInputError, "does not say how many tokens"),
        ([sample("a", 3, [edit(4)]), sample("b", 1)], BadInputError, "an edit at token 4 of 3"),
        ([sample("a", 3, [], [edit(-1)]), sample("b", 1)], BadInputError, "allowed: 0 to 3"),
        ([sample("a", 3, [edit(0, kl=-0.1)]), sample("b", 1)], BadInputError, "KL divergence"),
        ([sample("a", 3, [edit(0, kl=float("nan"))]), sample("b", 1)], BadInputError, "KL divergence"),
        ([sample("a", 0), sample("b", 0)], TooFewSamplesError, "got 0 generated tokens"),
        ([sample("a", 3)], TooFewSamplesError, "independent units"),
    ],
)
def test_refused(samples, error, message):
    with pytest.raises(error, match=message):
        rates(samples)


def test_a_unit_each():
    with pytest.raises(BadInputError, match="1 samples and 2 units"):
        rates([sample("a", 3)], ["a", "b"])


# The gate -------------------------------------------------------------------------------------------------

# row          1       2        3          4          5         6         7          8
TRUTH = ["male", "male", "male", "male", "female", "female", "female", "female"]
PLAIN = ["male", "female", "both", "neutral", "male", "male", "female", "none"]
EDITED = [False, True, True, False, True, False, True, False]


def gate(edited=EDITED, plain=PLAIN):
    found = gate_quality(TRUTH, plain, edited, UNITS, groups=GROUPS, unit_name="picture", seed=0)
    return {one.name: one for one in found}


def test_gate_by_hand():
    # Plain captions that contradict: rows 2, 5, 6. Edited: 2, 3, 5, 7. Caught 2 and 5, missed 6, besides 3 (both) and
    # 7 (right), left 1, 4, 8.
    assert gate_table(TRUTH, PLAIN, EDITED, groups=GROUPS) == GateTable(2, 1, 2, 3)
    found = gate()
    assert found["gate_recall"].value == pytest.approx(2 / 3)
    assert found["gate_precision"].value == pytest.approx(2 / 4)
    assert (found["gate_recall"].n, found["gate_precision"].n) == (3, 4)


def test_gate_without_a_base():
    nothing = gate(edited=[False] * 8)
    assert nothing["gate_recall"].value == 0.0
    assert isnan(nothing["gate_precision"].value)
    assert nothing["gate_precision"].method == "undefined: no caption was edited"
    right = gate(plain=TRUTH)
    assert isnan(right["gate_recall"].value)
    assert right["gate_precision"].value == 0.0


def test_gate_refused():
    with pytest.raises(BadInputError, match="edited flags"):
        gate_table(TRUTH, PLAIN, EDITED[:-1], groups=GROUPS)
    with pytest.raises(BadInputError, match="said 'error'"):
        gate_table(TRUTH, ["error", *PLAIN[1:]], EDITED, groups=GROUPS)
