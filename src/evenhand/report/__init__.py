"""The answer. In: scored runs and their comparisons. Out: HTML, JSON, a model card, tables, a verdict."""

from evenhand.report.card import model_card
from evenhand.report.check import check_report
from evenhand.report.gate import Bound, Finding, Verdict, judge
from evenhand.report.html import render_report, write_report
from evenhand.report.locate import check_location, location_as_dict, render_location, write_location
from evenhand.report.locate_terminal import verdict_table
from evenhand.report.numbers import estimate_as_dict
from evenhand.report.plots import forest_plot
from evenhand.report.terminal import (
    comparison_table,
    estimates_table,
    picture_comparison_table,
    picture_estimates_table,
)

__all__ = [
    "Bound",
    "Finding",
    "Verdict",
    "check_location",
    "check_report",
    "comparison_table",
    "estimate_as_dict",
    "estimates_table",
    "forest_plot",
    "judge",
    "location_as_dict",
    "model_card",
    "picture_comparison_table",
    "picture_estimates_table",
    "render_location",
    "render_report",
    "verdict_table",
    "write_location",
    "write_report",
]
