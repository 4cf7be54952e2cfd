"""evenhand measures, locates and mitigates social bias in multimodal language models.

In: a model and pictures. Out: estimates with intervals, and answers that were moved toward what the pictures show.
``audit`` asks and scores, ``score`` scores a stored run, ``compare`` pairs two. Importing this loads nothing heavy;
every name is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenhand.pipeline import audit, compare, score
    from evenhand.records import Attribute, Claim, Comparison, Edit, Estimate, Label, Prompt, Sample, Scored
    from evenhand.registry import load
    from evenhand.report.html import write_report

__version__ = "0.1.0"

__all__ = [
    "Attribute",
    "Claim",
    "Comparison",
    "Edit",
    "Estimate",
    "Label",
    "Prompt",
    "Sample",
    "Scored",
    "audit",
    "compare",
    "load",
    "score",
    "write_report",
]

_HOME = {
    **dict.fromkeys(("audit", "compare", "score"), "evenhand.pipeline"),
    "load": "evenhand.registry",
    "write_report": "evenhand.report.html",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'evenhand' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "evenhand.records")), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
