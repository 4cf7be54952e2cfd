"""In which part of a model the bias sits. In: a model that draws. Out: a verdict for each part, and its evidence.

``locate_bias`` draws, scores and measures; ``read_location`` measures a folder again. The estimators stand alone too:
``divergence``, ``positions``, ``turning``, ``two_samples``, ``probes``, ``round_trip``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenhand.locate.plan import LocationPlan
    from evenhand.locate.runs import locate_bias, read_location

__all__ = ["LocationPlan", "locate_bias", "read_location"]

_HOME = {"LocationPlan": "plan", "locate_bias": "runs", "read_location": "runs"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'evenhand.locate' has no attribute {name!r}")
    return getattr(import_module(f"evenhand.locate.{_HOME[name]}"), name)
