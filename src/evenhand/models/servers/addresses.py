"""Where a server is and who may read its key. In: what the user gave. Out: a bare address, a variable's name, the key.

The key is kept nowhere: only the name of the environment variable that holds it.
"""

import os
import re
from urllib.parse import urlsplit

from evenhand.errors import BadInputError

__all__ = ["OPENAI", "checked_address", "checked_variable", "read_key"]

OPENAI = "https://api.openai.com/v1"


def checked_address(given: str, *, ending: str, option: str = "base_url", key_option: str = "key_variable") -> str:
    """An address without what follows ``/v1``; without a path ``/v1`` is added.

    Args:
        given: For example ``http://localhost:8000``.
        ending: What is taken off, for example ``/images/generations``.
        option: Its name, for messages.
        key_option: The name of the key's option, for messages.

    Raises:
        BadInputError: No http(s) address, or one with a name, a password or a query.
    """
    try:
        parts = urlsplit(given.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise BadInputError(f"{option}: got no http(s) address; give for example http://localhost:8000/v1.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadInputError(
            f"{option} of {host}: a name, password or query in it would be stored; give the bare address, and the key "
            f"by {key_option}."
        )
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{port}" if port is not None else shown
    path = parts.path.rstrip("/").removesuffix(ending)
    return f"{parts.scheme}://{place}{path or '/v1'}"


def checked_variable(given: str | None, url: str, *, option: str = "key_variable") -> str | None:
    """The environment variable of a server's key; by default ``OPENAI_API_KEY`` for OpenAI's own and none for others.

    A key is sent only to whom it was meant for.

    Raises:
        BadInputError: No name of a variable; what was given may be the key itself, so it is not shown.
    """
    variable = given or ("OPENAI_API_KEY" if url == OPENAI else None)
    if variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", variable):
        raise BadInputError(f"{option}: got no name of an environment variable; give its name, never the key.")
    return variable


def read_key(variable: str | None, url: str) -> str | None:
    """The key as the environment holds it now; None where none is sent.

    Raises:
        BadInputError: The variable is empty, or holds what no header can carry.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInputError(f"no key for {url}: set the environment variable {variable}.")
    if not (key.isascii() and key.isprintable()):
        raise BadInputError(f"{variable}: the key holds characters that no header carries; copy it again.")
    return key
