"""What `import evenhand` gives, and what it does not cost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import evenhand

SOURCE = Path(evenhand.__file__).parents[1]
HEAVY = {"torch", "transformers", "pandas", "matplotlib"}


def imported_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter imports for ``code``."""
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-X", "importtime", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_is_light_and_silent():
    found = imported_by("import evenhand")
    assert "evenhand" in found  # the listing was read
    assert not found & {*HEAVY, "numpy", "pyarrow", "yaml", "PIL"}


def test_scoring_needs_no_model_packages():
    found = imported_by("from evenhand import audit, compare, load, score")
    assert {"evenhand", "pyarrow", "numpy"} <= found
    assert not found & HEAVY


def test_names_are_resolved_on_use():
    code = "import sys, evenhand; evenhand.Sample; assert 'evenhand.pipeline' not in sys.modules"
    assert "pyarrow" not in imported_by(code)


@pytest.mark.parametrize("name", evenhand.__all__)
def test_every_public_name_is_there_and_documented(name):
    found = getattr(evenhand, name)
    assert found.__name__ == name
    assert found.__module__.startswith("evenhand.")
    first = (found.__doc__ or "").strip().splitlines()[0]
    # A dataclass without a docstring gets its signature as one.
    assert first
    assert not first.startswith(f"{name}(")


def test_listing():
    assert sorted(evenhand.__all__) == list(evenhand.__all__)
    assert set(evenhand.__all__) <= set(dir(evenhand))
    assert evenhand.__version__.count(".") == 2


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'audti'"):
        _ = evenhand.audti
