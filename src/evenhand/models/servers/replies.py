"""What an answer of any server means. In: status, headers and body. Out: a ``Reply``: what came, or why nothing did.

Pure functions. Codes and messages of refusals are those of OpenAI, Azure and the servers that copy them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal

__all__ = ["Kind", "Reply", "one_line", "parsed_json", "read_problem", "refuses", "retry_after", "shape_of"]

Kind = Literal["picture", "text", "refused", "broken", "failed", "again", "field", "stop"]
"""``picture``, ``text``: what was asked for. ``refused``: by the server's policy. ``broken``: an answer that cannot be
used. ``failed``: an error that stays. ``again``: one that may pass. ``field``: a field was rejected. ``stop``: no other
request will do better.
"""

LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more ends the run."""

_AGAIN = (408, 409, 425, 429)
_STOP = {
    301: "the address has moved; give the new one",
    302: "the address has moved; give the new one",
    307: "the address has moved; give the new one",
    308: "the address has moved; give the new one",
    401: "the key is missing or wrong; check the environment variable that holds it",
    402: "the account has no credit left",
    403: "the key may not use this model or server",
    404: "no such model or address; check both",
    405: "nothing answers at this address; check it",
}
_STOP_CODES = {
    "insufficient_quota": "the account's quota is used up",
    "billing_hard_limit_reached": "the account's limit is reached",
    "invalid_api_key": "the key is wrong; check the environment variable that holds it",
    "model_not_found": "no such model; check its name",
}
_REFUSALS = re.compile(
    r"content[_ -]?policy|content[_ -]?filter|moderation|safety|responsible ?ai|nsfw|usage polic", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request.

    Attributes:
        kind: As ``Kind``.
        image: PNG bytes where ``kind`` is ``picture``.
        text: Where ``kind`` is ``text``.
        message: Why there is neither; else empty.
        wait: Seconds the server asks to wait, or None.
        field: Which field was rejected.
        busy: The server is up and says that too much is asked (429).
    """

    kind: Kind
    image: bytes | None = None
    text: str | None = None
    message: str = ""
    wait: float | None = None
    field: str = ""
    busy: bool = False


def read_problem(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    sent: Mapping[str, object],
    echoed: str,
    fields: Sequence[str],
    now: float,
) -> Reply:
    """What an HTTP answer other than 200 means; never raises, whatever the server sent.

    Args:
        status: HTTP status.
        headers: With lower-case names.
        body: Decoded.
        sent: Fields of the request.
        echoed: What was asked; servers repeat it, and it is no reason.
        fields: Those that a request can do without.
        now: Seconds since 1970.
    """
    code, message = _error(body)
    own = f"{code} {message}".replace(echoed or " ", " ")
    said = f"HTTP {status}: {message or 'without a message'}"
    rejected = [name for name in fields if name in sent and re.search(rf"\b{name}\b", own)]
    kind: Kind = "failed"
    if code in _STOP_CODES:
        kind, said = "stop", f"{said}: {_STOP_CODES[code]}"
    elif status in _AGAIN or status >= 500:
        return _later(status, said, retry_after(headers.get("retry-after"), now=now))
    elif 400 <= status < 500 and status not in (401, 402, 404) and refuses(own):
        kind = "refused"
    elif status in (400, 422) and rejected:
        return Reply("field", message=said, field=rejected[0])
    elif status in _STOP:
        kind, said = "stop", f"{said}: {_STOP[status]}"
    return Reply(kind, message=said)


def refuses(text: str) -> bool:
    """Whether a text speaks of a server's rules for contents."""
    return _REFUSALS.search(text) is not None


def parsed_json(body: bytes | str) -> Any:
    """What JSON says; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def shape_of(found: Any) -> str:
    """In a few words, for a message."""
    if found is None:
        return "no JSON"
    return (
        f"JSON with {', '.join(sorted(map(str, found))[:5]) or 'nothing'}" if isinstance(found, dict) else "a JSON list"
    )


def one_line(text: str) -> str:
    """One line, at most 300 characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= 300 else f"{line[:297]}..."


def _later(status: int, said: str, wait: float | None) -> Reply:
    """An error that may pass, unless the server wants to be left alone for long."""
    if wait is not None and wait > LONGEST_WAIT:
        return Reply("stop", message=f"{said}: the server asks to wait {wait:,.0f} s; run again then")
    return Reply("again", message=said, wait=wait, busy=status == 429)


def retry_after(header: str | None, *, now: float) -> float | None:
    """Seconds a server asks to wait: a number of seconds or an HTTP date (RFC 9110, 10.2.3); None where unreadable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return max(0.0, seconds) if isfinite(seconds) else None


def _error(body: bytes) -> tuple[str, str]:
    """Code and message of an error answer, in the forms that servers use."""
    found = parsed_json(body)
    if not isinstance(found, dict):
        return "", one_line(body[:2000].decode("utf-8", "replace"))
    inner: Any = found.get("error", found)
    if not isinstance(inner, dict):
        return "", one_line(str(inner))
    code = inner.get("code") or inner.get("type") or ""
    message = inner.get("message") or inner.get("detail") or found.get("detail") or ""
    words = message if isinstance(message, str) else json.dumps(message)
    about = [f"{name} {inner[name]}" for name in ("code", "param") if inner.get(name)]
    return str(code), one_line(f"{words} ({', '.join(about)})" if about else words)
