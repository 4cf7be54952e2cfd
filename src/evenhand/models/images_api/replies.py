"""What a server's answer means. In: status, headers and body. Out: a ``Reply``: a picture, or why there is none.

Pure functions. Codes and messages of refusals are those of OpenAI, Azure and the servers that copy them.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal

from PIL import Image

from evenhand.errors import PictureError

__all__ = ["Reply", "as_png", "read_reply", "retry_after"]

Kind = Literal["picture", "refused", "broken", "failed", "again", "field", "stop"]
"""``refused``: by the server's policy. ``broken``: no readable picture. ``failed``: an error that stays. ``again``: one
that may pass. ``field``: a field was rejected. ``stop``: no other request will do better.
"""

MAX_PIXELS = 50_000_000
LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more ends the run."""

_AGAIN = (408, 409, 425, 429)
_STOP = {
    301: "the address has moved; give the new one",
    302: "the address has moved; give the new one",
    307: "the address has moved; give the new one",
    308: "the address has moved; give the new one",
    401: "the key is missing or wrong; check the variable that key_variable names",
    402: "the account has no credit left",
    403: "the key may not use this model or server",
    404: "no such model or address; check both",
    405: "nothing draws at this address; check it",
}
_STOP_CODES = {
    "insufficient_quota": "the account's quota is used up",
    "billing_hard_limit_reached": "the account's limit is reached",
    "invalid_api_key": "the key is wrong; check the variable that key_variable names",
    "model_not_found": "no such model; check its name",
}
_REFUSALS = re.compile(
    r"content[_ -]?policy|content[_ -]?filter|moderation|safety|responsible ?ai|nsfw|usage polic", re.IGNORECASE
)
_FIELDS = ("response_format", "seed")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request.

    Attributes:
        kind: As ``Kind``.
        image: PNG bytes where ``kind`` is ``picture``.
        message: Why there is no picture, or, of a picture, empty.
        wait: Seconds the server asks to wait, or None.
        field: Which field was rejected.
        busy: The server is up and says that too much is asked (429).
    """

    kind: Kind
    image: bytes | None = None
    message: str = ""
    wait: float | None = None
    field: str = ""
    busy: bool = False


def read_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, sent: Mapping[str, object], now: float
) -> Reply:
    """What one HTTP answer means; never raises, whatever the server sent.

    Args:
        status: HTTP status.
        headers: With lower-case names.
        body: Decoded.
        sent: Fields of the request.
        now: Seconds since 1970.
    """
    if status == 200:
        return _drawn(body)
    code, message = _error(body)
    own = f"{code} {message}".replace(str(sent.get("prompt") or " "), " ")  # servers echo the prompt
    said = f"HTTP {status}: {message or 'without a message'}"
    rejected = [name for name in _FIELDS if name in sent and re.search(rf"\b{name}\b", own)]
    kind: Kind = "failed"
    if code in _STOP_CODES:
        kind, said = "stop", f"{said}: {_STOP_CODES[code]}"
    elif status in _AGAIN or status >= 500:
        return _later(status, said, retry_after(headers.get("retry-after"), now=now))
    elif 400 <= status < 500 and status not in (401, 402, 404) and _REFUSALS.search(own):
        kind = "refused"
    elif status in (400, 422) and rejected:
        return Reply("field", message=said, field=rejected[0])
    elif status in _STOP:
        kind, said = "stop", f"{said}: {_STOP[status]}"
    return Reply(kind, message=said)


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


def as_png(data: bytes) -> bytes:
    """A picture file as a PNG file, RGB, 8 bits; transparency is laid on white.

    Raises:
        PictureError: Not PNG, JPEG or WebP, larger than 50 million pixels, or broken.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(
                    f"the answer is a picture of {picture.width} x {picture.height}; allowed: {MAX_PIXELS:,} pixels; "
                    "ask for a smaller size."
                )
            if picture.has_transparency_data:
                own = picture.convert("RGBA")
                flat = Image.alpha_composite(Image.new("RGBA", own.size, "white"), own).convert("RGB")
            else:
                flat = picture.convert("RGB")
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, MemoryError) as error:
        raise PictureError(f"the answer is no whole PNG, JPEG or WebP ({type(error).__name__}).") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"the answer is too large a picture: {error}") from error
    written = io.BytesIO()
    flat.save(written, "PNG")
    return written.getvalue()


def _drawn(body: bytes) -> Reply:
    """The first picture of a good answer."""
    found = _json(body)
    data = found.get("data") if isinstance(found, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict):
        return Reply("broken", message=f"got {_shape(found)}; expected JSON with a picture in data[0].b64_json.")
    text = first.get("b64_json")
    if isinstance(text, str) and text:
        try:
            return Reply("picture", as_png(_bytes(text)))
        except PictureError as error:
            return Reply("broken", message=str(error))
    said = json.dumps({name: value for name, value in first.items() if name not in ("b64_json", "url")})[:1000]
    if _REFUSALS.search(said) and re.search(r"filter|block|reject|refus|violat", said, re.IGNORECASE):
        return Reply("refused", message=_clean(said))
    if first.get("url"):
        return Reply(
            "broken",
            message="got an address (url), which is not fetched; make the server answer in the response: "
            "response_format='b64_json', or 'base64' (Together).",
        )
    return Reply("broken", message="data[0] holds no picture (b64_json).")


def _bytes(text: str) -> bytes:
    """Base64, also as a data URL, with or without line breaks and padding."""
    bare = "".join(text.partition(",")[2].split() if text.startswith("data:") else text.split())
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"b64_json is no base64: {error}") from error


def _error(body: bytes) -> tuple[str, str]:
    """Code and message of an error answer, in the forms that servers use."""
    found = _json(body)
    if not isinstance(found, dict):
        return "", _clean(body[:2000].decode("utf-8", "replace"))
    inner: Any = found.get("error", found)
    if not isinstance(inner, dict):
        return "", _clean(str(inner))
    code = inner.get("code") or inner.get("type") or ""
    message = inner.get("message") or inner.get("detail") or found.get("detail") or ""
    words = message if isinstance(message, str) else json.dumps(message)
    about = [f"{name} {inner[name]}" for name in ("code", "param") if inner.get(name)]
    return str(code), _clean(f"{words} ({', '.join(about)})" if about else words)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _shape(found: Any) -> str:
    if found is None:
        return "no JSON"
    return (
        f"JSON with {', '.join(sorted(map(str, found))[:5]) or 'nothing'}" if isinstance(found, dict) else "a JSON list"
    )


def _clean(text: str) -> str:
    """One line, at most 300 characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= 300 else f"{line[:297]}..."
