"""Pieces of a page. In: a number, a picture, settings of templates. Out: markup that is inert.

Every number stands in ``<data value="full precision" data-key="run/…">shown</data>``, so that
``evenhand.report.check`` can compare it with the ledger. Text from outside is escaped by jinja2 and made visible by
``plain_text``.
"""

import base64
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evenhand.report.numbers import cut_text, full_precision, plain_text, plural_of, show_number

__all__ = ["NAME_LENGTH", "SHOWN_CHARACTERS", "data_address", "number", "plot_version", "templates"]

SHOWN_CHARACTERS = 600
"""Characters of a caption, question, error or setting that are shown; a cut one states its full length."""

NAME_LENGTH = 60
"""Characters of a name that are shown."""

_JPEG = b"\xff\xd8\xff"


@cache
def templates() -> Environment:
    """The report's templates, compiled once; text from outside is escaped, names that are not there are refused."""
    environment = Environment(
        loader=PackageLoader("evenhand.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=plain_text, cut=cut_text, plural=plural_of, name=lambda text: cut_text(text, NAME_LENGTH)
    )
    return environment


def number(key: str, value: float, form: str) -> Markup:
    """One number: its full precision as the value, its shown form as the text, and what it is as the key."""
    element = Markup('<data value="{}" data-key="{}">{}</data>')
    return element.format(full_precision(value), plain_text(key), show_number(value, form))


def data_address(preview: bytes) -> str | None:
    """A JPEG as a data address; anything else is not shown."""
    return f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}" if preview.startswith(_JPEG) else None


def plot_version() -> str:
    """Of the library that draws the plots."""
    import matplotlib

    return str(matplotlib.__version__)
