"""The answer. In: scored runs and their comparisons. Out: HTML, JSON, a model card, tables, a verdict."""

from evenhand.report.card import model_card
from evenhand.report.check import check_report
from evenhand.report.gate import Bound, Finding, Verdict, judge
from evenhand.report.html import render_report, write_report
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
    "check_report",
    "comparison_table",
    "estimate_as_dict",
    "estimates_table",
    "forest_plot",
    "judge",
    "model_card",
    "picture_comparison_table",
    "picture_estimates_table",
    "render_report",
    "write_report",
]
