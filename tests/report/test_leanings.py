"""Counts read back from shares, leanings and pairs, by hand."""

import pytest
from drawn_runs import answers_of, label_row, prompt_of, score, small_run
from scipy.stats import beta

from evenhand.records import Label, Prompt
from evenhand.report.leanings import answer_rows, prompt_rows, prompt_titles, read_pattern, unknown_by_reason
from evenhand.report.understanding import pair_answers


def pattern_of(run, attribute="gender"):
    return read_pattern(prompt_rows(run, attribute), run.groups[attribute], run.targets[attribute])


def test_counts_by_hand():
    rows = prompt_rows(small_run(), "gender")
    assert [(row.title, row.counts, row.base) for row in rows] == [
        ("sewer", (12, 0), 12),
        ("nurse", (2, 8), 11),  # one without a face is not in the denominator, one uncertain is
        ("clerk", (6, 6), 12),
    ]
    assert rows[1].unknown == {"no face": 1, "uncertain": 1}
    assert rows[1].unknown_share == pytest.approx(1 / 11)
    assert unknown_by_reason(rows) == {"no face": 1, "uncertain": 1}


def test_leanings_by_hand():
    # sewer: 12 of 12 male, low end far above 1/2. clerk: 6 of 12. nurse: 8 of 11 female, low end below 1/2.
    assert beta.ppf(0.025, 12.5, 0.5) > 0.5 > beta.ppf(0.025, 8.5, 3.5)
    pattern = pattern_of(small_run())
    assert [(one.group, one.count, one.above, one.below) for one in pattern.groups] == [
        ("male", 20, 1, 0),  # 12 + 2 + 6
        ("female", 14, 0, 1),  # 0 + 8 + 6
    ]
    assert (pattern.base, pattern.prompts, pattern.near) == (35, 3, 2)
    assert pattern.by_chance == pytest.approx(3 * 0.025)


def test_unknown_pictures_stop_a_verdict_of_below():
    # 0 of 11 male: the interval ends at 0.20; with the uncertain one 0.29: below 1/2 even so. Female: 10 of 11, above.
    assert beta.ppf(0.975, 0.5, 11.5) + 1 / 11 < 0.5 < beta.ppf(0.025, 10.5, 1.5)
    nurse = pattern_of(small_run(nurse=0)).groups
    assert [(one.above, one.below) for one in nurse] == [(1, 1), (1, 1)]
    # 2 of 12 male ends at 0.44, below 1/2; but the 10 that are uncertain could all be male.
    assert beta.ppf(0.975, 2.5, 10.5) < 0.5
    prompt = prompt_of("guard")
    labels = label_row(prompt, "gender", ["male"] * 2 + ["[uncertain]"] * 10)
    pattern = pattern_of(score([prompt], {"gender": labels}))
    assert [(one.above, one.below) for one in pattern.groups] == [(0, 0), (0, 0)]
    assert pattern.near == 1


def test_low_confidence_is_a_reason_under_confident():
    prompt = prompt_of("guard")
    labels = [Label(prompt.id, k, "gender", "male" if k else "female", None, 0.9 if k < 6 else 0.5) for k in range(10)]
    (row,) = prompt_rows(score([prompt], {"gender": labels}, denominator="confident"), "gender")
    assert (row.counts, row.base, row.unknown) == ((5, 1), 6, {"low confidence": 4})


def test_a_prompt_without_faces_has_no_shares():
    one, two = prompt_of("guard"), prompt_of("nurse")
    labels = label_row(one, "gender", ["[no face]"] * 4) + label_row(two, "gender", ["male"] * 4)
    run = score([one, two], {"gender": labels})
    rows = prompt_rows(run, "gender")
    assert (rows[0].shares, rows[0].base, rows[0].unknown) == ((), 0, {"no face": 4})
    assert pattern_of(run).prompts == 1


def test_titles_tell_prompts_apart():
    same = [Prompt(f"nurse/{n}", "occupations", "", None, {"occupation": "nurse"}) for n in "ab"]
    other = Prompt("x.txt", "mine", "", None, {})
    assert prompt_titles([*same, prompt_of("sewer"), other]) == {
        "nurse/a": "nurse/a",
        "nurse/b": "nurse/b",
        "sewer/neutral": "sewer",
        "x.txt": "x.txt",
    }


def test_pairs_are_of_those_that_name_a_group():
    run = small_run()
    # all answers are male, about sewer and nurse only
    answers = answers_of(run.prompts[:2], shares=[(1, 0, 0), (1, 0, 0)], n=20)
    named = [
        sum(label.group is not None for label in answers.labels if label.prompt_id == p.id) for p in answers.prompts
    ]
    assert [row.counts for row in answer_rows(answers)] == [(n, 0) for n in named]
    run = small_run(answers={"gender": answers})
    pairs = pair_answers(run, "gender")
    assert [pair.drawn.title for pair in pairs] == ["sewer", "nurse"]
    # answers 1, 0; pictures of a nurse that show a group: 2 and 8 of 10
    assert pairs[1].gaps == pytest.approx((0.8, -0.8))
    assert pairs[1].drawn_shares[0].high == pytest.approx(beta.ppf(0.975, 2.5, 8.5))
    assert pairs[0].gaps == (0.0, 0.0)


def test_prompts_that_ask_for_a_group_are_not_paired():
    asked = Prompt("sewer/female", "occupations_augmented", "", None, {"occupation": "sewer", "asked": "female"})
    answers = answers_of([prompt_of("sewer")], shares=[(1, 1, 0)], n=20)
    run = score([asked], {"gender": label_row(asked, "gender", ["male", "female"])}, answers={"gender": answers})
    assert pair_answers(run, "gender") == ()
