"""Where pictures are asked for. In: what the user gave. Out: an ``Endpoint``, checked; the body of a request.

The key is no part of it: only the name of the environment variable that holds it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from evenhand.errors import BadInputError
from evenhand.models.images_api.replies import read_reply
from evenhand.models.servers.addresses import OPENAI, checked_address, checked_variable, read_key
from evenhand.models.servers.replies import Reply

__all__ = ["Endpoint", "open_endpoint"]

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
        return read_key(self.key_variable, self.url)

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes, *, sent: Mapping[str, object], now: float
    ) -> Reply:
        """What one HTTP answer means, as ``read_reply``."""
        return read_reply(status, headers, body, sent=sent, now=now)


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
    url = checked_address(f"http{address}" if at else base_url or OPENAI, ending="/images/generations")
    if seed_field not in (True, False, "auto"):
        raise BadInputError(f"seed_field: got {seed_field!r}; allowed: true, false, 'auto'.")
    if response_format not in _FORMATS:
        raise BadInputError(f"response_format: got {response_format!r}; allowed: {', '.join(_FORMATS)}.")
    if size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}|[a-z]{1,16}", size):
        raise BadInputError(
            f"size: got {size!r}; allowed: WIDTHxHEIGHT, for example 1024x1024, or a word such as auto."
        )
    variable = checked_variable(key_variable, url)
    return Endpoint(model.strip(), url, variable, size, seed_field, response_format, _fields(extra))


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
