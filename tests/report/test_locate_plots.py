"""Marks, shades and texts of the plots of a location, by hand, and its table in a terminal."""

import dataclasses
import re

import pytest
from located_runs import AGES, GROUPS, bare, full
from pages import HOSTILE
from rich.console import Console

from evenhand.errors import BadInputError
from evenhand.located import HeatMap
from evenhand.report.locate_maps import SHADES, heat_svg, lay_maps
from evenhand.report.locate_plots import curve_plot, flow_plot
from evenhand.report.locate_terminal import verdict_table

EVEN = (0.5, 0.5)


def texts(svg):
    return [text.replace("\u00a0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def marks(svg):
    """Place of every marker, by the colour that is written first."""
    found = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: (#\w+)', svg)
    return {colour: [(float(x), float(y)) for x, y, one in found if one == colour] for _, _, colour in found}


def test_two_groups_share_a_panel():
    svg = flow_plot(full().prompts[:2], GROUPS, EVEN)
    assert {"plumber", "← all female", "all male →", "target 50 %", "97 % · 98 % · –"} <= set(texts(svg))


def test_codes_stand_above_what_is_shown_and_answered():
    svg = flow_plot(full().prompts[3:4], GROUPS, EVEN)  # 0.31 by likelihood, 0.40 shown, 0.48 answered
    found = marks(svg)
    (codes,), (shown,), (answered,) = (found[colour] for colour in ("#b35400", "#1d2733", "#ffffff"))
    assert codes[1] < shown[1] < answered[1]
    assert (shown[0] - codes[0]) / (answered[0] - shown[0]) == pytest.approx(9 / 8, abs=0.01)


def test_three_groups_have_a_panel_each():
    assert set(AGES) <= set(texts(flow_plot(bare().prompts, AGES, (1 / 3,) * 3)))


def test_a_plot_of_nothing_is_refused():
    empty = dataclasses.replace(bare().prompts[0], shown={})
    with pytest.raises(BadInputError, match="no prompt has a share"):
        flow_plot([empty], AGES, (1 / 3,) * 3)
    with pytest.raises(BadInputError, match="no probe was fitted"):
        curve_plot([])


def test_curves_name_every_place_and_size():
    shown = texts(curve_plot(full().probes))
    assert {probe.place for probe in full().probes} <= set(shown)
    assert {"50", "100", "200", "400", "800"} <= set(shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_in_plots_are_inert(text):
    probes = [dataclasses.replace(full().probes[0], place=text)]
    prompts = [dataclasses.replace(full().prompts[0], name=text)]
    for svg in (curve_plot(probes), flow_plot(prompts, GROUPS, EVEN)):
        assert "<script" not in svg
        assert "onload" not in re.sub(r"<text.*?</text>", "", svg, flags=re.DOTALL)


def test_a_heat_map_by_hand():
    # 2 x 2: darkest where the value is the largest, white at 0; dots where the interval reaches 0
    heat = HeatMap("enters", GROUPS, 2, 2, (0.0, 0.2, 0.4, 0.1), (0.0, 0.1, 0.3, 0.0), (0.1,) * 4, 0.95, 1, "none")
    svg = heat_svg(heat, 0.4)
    assert 'viewBox="0 0 2 2"' in svg
    assert f'<path fill="{SHADES[0]}" d="M0 0h1v1h-1z"/>' in svg
    assert f'<path fill="{SHADES[-1]}" d="M0 1h1v1h-1z"/>' in svg
    assert svg.count("h.16") == 2
    (laid,) = lay_maps([heat])["enters"]
    assert laid.total == pytest.approx(0.7)
    assert (laid.row, laid.column, laid.largest, laid.low, laid.clear) == (2, 1, 0.4, 0.3, 2)


def test_maps_of_one_kind_share_a_scale():
    one = HeatMap("enters", GROUPS, 1, 1, (0.1,), (0.1,), (0.1,), 0.95, 1, "none")
    two = dataclasses.replace(one, values=(0.4,))
    alone = dataclasses.replace(one, what="differs")
    laid = lay_maps([one, two, alone])
    assert SHADES[-1] in laid["enters"][1].svg
    assert SHADES[-1] not in laid["enters"][0].svg
    assert SHADES[-1] in laid["differs"][0].svg


def test_shades_get_darker_with_every_step():
    lightness = [sum(int(shade[at : at + 2], 16) for at in (1, 3, 5)) for shade in SHADES]
    assert lightness == sorted(set(lightness), reverse=True)


def printed(table):
    console = Console(width=80, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(table)
    return console.export_text().replace("\u00a0", " ")


def test_the_table_fits_80_columns():
    text = printed(verdict_table(full()))
    assert max(map(len, text.splitlines())) <= 80
    assert "perceived gender: margin 5.0 %" in text
    assert "31.2 %" in text
    assert "[25.2, 37.2]" in text
    assert "+1.2 pp" in text
    assert "–" in printed(verdict_table(bare()))


def test_control_characters_in_the_table_are_inert():
    part = dataclasses.replace(full().parts[0], why="\x1b[31mred[/]\x07[bold]")
    text = printed(verdict_table(dataclasses.replace(full(), parts=(part,), run="[bold]\x1b")))
    assert "\x1b[31m" not in text
    assert "␛[31mred[/]␇" in text
