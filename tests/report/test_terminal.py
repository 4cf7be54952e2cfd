"""Tables in a terminal."""

import dataclasses

from drawn_runs import compared, small_run
from rich.console import Console

from evenhand.report import comparison_table, estimates_table, picture_comparison_table, picture_estimates_table


def printed(table):
    console = Console(width=160, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(table)
    return console.export_text().replace("\u00a0", " ")


def test_estimates(audit):
    text = printed(estimates_table(audit[0]))
    assert "37.5 % [20.8, 58.3]" in text
    assert "48 pictures · floor 0.071" in text


def test_comparisons(audit):
    text = printed(comparison_table(audit[1]))
    assert "align against plain" in text
    assert "−29.2 pp [−44.2, −14.2]" in text
    assert "×0.22 [0.09, 0.42]" in text


def test_control_characters_and_markup_are_inert(audit):
    run = dataclasses.replace(audit[0][0], run="\x1b[31mred[/]\x07[bold]")
    text = printed(estimates_table([run]))
    assert "\x1b[31m" not in text
    assert "␛[31mred[/]␇[bold]" in text


def test_a_missing_estimate_is_a_dash(audit):
    short = dataclasses.replace(audit[0][1], estimates=audit[0][1].estimates[:1])
    assert "–" in printed(estimates_table([audit[0][0], short]))


def test_a_gap_counts_answers_and_pictures(drawn):
    (first, _), _ = drawn
    gap = {one.name: one for one in first.answers["gender"].estimates}["gap"]
    assert f"{gap.n} answers or pictures" in printed(picture_estimates_table([first]))


def test_drawn_pictures():
    runs = small_run(), small_run("moved", nurse=5)
    text = printed(picture_estimates_table(runs))
    rd = {one.name: one for one in runs[0].estimates["gender"]}["RD"]
    assert f"{rd.value:.3f} [{rd.low:.3f}, {rd.high:.3f}]" in text
    assert "gender: RD_observed" in text
    assert "35 pictures · floor 0.2" in text
    text = printed(picture_comparison_table([compared(*runs)]))
    assert "moved against plain" in text
    assert "gender: RD difference" in text
