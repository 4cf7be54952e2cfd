"""Where pictures are asked for. In: what the user gave. Out: an ``Endpoint``, checked; the body of a request.

The key is no part of it: only the name of the environment variable that holds it.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from evenhand.errors import BadInputError

__all__ = ["OPENAI", "Endpoint", "open_endpoint"]

OPENAI = "https://api.openai.com/v1"
_FORMATS = ("auto", "b64_json", "base64", "none")
_OURS = ("model", "prompt", "n", "size", "seed", "response_format")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, one of its models and how pictures are asked for.

    Attributes:
        model: The server's name of the model.
        url: Without ``/images/generations`` and without a key.
        key_variable: Environment variable that holds the key; None sends none.
        size: Of the pictures, for example ``1024x1024``; None is the server's own.
        seed_field: Send ``seed``: True, False, or ``auto`` until the server rejects it.
        response_format: ``b64_json``, ``base64``, ``none`` (the field is left out), or ``auto``: ``b64_json`` until the
            server rejects it.
        extra: More fields of every request.
    """

    model: str
    url: str
    key_variable: str | None = None
    size: str | None = None
    seed_field: bool | str = "auto"
    response_format: str = "auto"
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """What is posted to."""
        return f"{self.url}/images/generations"

    def body(self, prompt: str, seed: int, *, without: frozenset[str]) -> dict[str, object]:
        """The fields of one request; ``without`` names those that the server rejected."""
        wanted = {"auto": "b64_json", "none": None}.get(self.response_format, self.response_format)
        fields = {
            "model": self.model,
            "prompt": prompt,
            "n": 1,
            "size": self.size,
            "seed": seed if self.seed_field is not False else None,
            "response_format": wanted,
        }
        return {
            **self.extra,
            **{name: value for name, value in fields.items() if value is not None and name not in without},
        }

    def may_leave_out(self, name: str) -> bool:
        """Whether a field that the server rejects is left out from then on."""
        return {"seed": self.seed_field, "response_format": self.response_format}.get(name) == "auto"

    def key(self) -> str | None:
        """The key as the environment holds it now; never kept.

        Raises:
            BadInputError: The variable is empty, or holds what no header can carry.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise BadInputError(f"no key for {self.url}: set the environment variable {self.key_variable}.")
        if not (key.isascii() and key.isprintable()):
            raise BadInputError(f"{self.key_variable}: the key holds characters that no header carries; copy it again.")
        return key


def open_endpoint(
    source: str | None,
    *,
    base_url: str | None = None,
    key_variable: str | None = None,
    size: str | None = None,
    seed_field: bool | str = "auto",
    response_format: str = "auto",
    extra: str | Mapping[str, object] | None = None,
) -> Endpoint:
    """An endpoint from what the user gave.

    Args:
        source: The model's name, or ``MODEL@URL``.
        base_url: The server, for example ``http://localhost:8000/v1``; by default OpenAI's. Without a path ``/v1`` is
            added.
        key_variable: Environment variable of the key. By default ``OPENAI_API_KEY`` for OpenAI's own server and none
            for any other: a key is sent only to whom it was meant for.
        size: ``WIDTHxHEIGHT``, or a word of the server's.
        seed_field: As ``Endpoint``.
        response_format: As ``Endpoint``.
        extra: More fields, a mapping or a JSON object: ``{"quality": "low"}``.

    Raises:
        BadInputError: No model, two addresses, or a value out of range.
    """
    model, at, address = (source or "").partition("@http")
    if not model.strip():
        raise BadInputError("which model? Give the server's name of it, or NAME@URL.")
    if at and base_url is not None:
        raise BadInputError(f"base_url: got {base_url!r} and an address behind @; give one.")
    url = _checked_url(f"http{address}" if at else base_url or OPENAI)
    if seed_field not in (True, False, "auto"):
        raise BadInputError(f"seed_field: got {seed_field!r}; allowed: true, false, 'auto'.")
    if response_format not in _FORMATS:
        raise BadInputError(f"response_format: got {response_format!r}; allowed: {', '.join(_FORMATS)}.")
    if size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}|[a-z]{1,16}", size):
        raise BadInputError(
            f"size: got {size!r}; allowed: WIDTHxHEIGHT, for example 1024x1024, or a word such as auto."
        )
    variable = key_variable or ("OPENAI_API_KEY" if url == OPENAI else None)
    if variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", variable):
        # What was given may be the key itself: it is not shown.
        raise BadInputError("key_variable: got no name of an environment variable; give its name, never the key.")
    return Endpoint(model.strip(), url, variable, size, seed_field, response_format, _fields(extra))


def _checked_url(given: str) -> str:
    try:
        parts = urlsplit(given.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise BadInputError("base_url: got no http(s) address; give for example http://localhost:8000/v1.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadInputError(
            f"base_url of {host}: a name, password or query in it would be stored; give the bare address, and the key "
            "by key_variable."
        )
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{port}" if port is not None else shown
    path = parts.path.rstrip("/").removesuffix("/images/generations")
    return f"{parts.scheme}://{place}{path or '/v1'}"


def _fields(extra: str | Mapping[str, object] | None) -> dict[str, object]:
    try:
        given = json.loads(extra) if isinstance(extra, str) else dict(extra or {})
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"extra: got no JSON ({error}); give an object, for example '{{\"steps\": 20}}'."
        ) from error
    if not isinstance(given, dict):
        raise BadInputError(
            f"extra: got a {type(given).__name__}; give a JSON object, for example '{{\"steps\": 20}}'."
        )
    taken = sorted(set(given) & set(_OURS))
    if taken:
        raise BadInputError(f"extra: got {taken[0]!r}, which is set by itself; allowed: fields other than {_OURS}.")
    return given
