"""The answer. In: scored runs and their comparisons. Out: an HTML file, its numbers as JSON, tables."""

from evenhand.report.check import check_report
from evenhand.report.html import render_report, write_report
from evenhand.report.numbers import estimate_as_dict
from evenhand.report.plots import forest_plot
from evenhand.report.terminal import comparison_table, estimates_table

__all__ = [
    "check_report",
    "comparison_table",
    "estimate_as_dict",
    "estimates_table",
    "forest_plot",
    "render_report",
    "write_report",
]
