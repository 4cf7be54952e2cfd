"""What a server's answer means. In: status, headers and body. Out: a ``Reply``: a picture, or why there is none.

Pure functions.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping

from PIL import Image

from evenhand.errors import PictureError
from evenhand.models.servers.replies import Reply, one_line, parsed_json, read_problem, refuses, shape_of

__all__ = ["as_png", "read_reply"]

MAX_PIXELS = 50_000_000
_FIELDS = ("response_format", "seed")


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
    echoed = str(sent.get("prompt") or "")
    return read_problem(status, headers, body, sent=sent, echoed=echoed, fields=_FIELDS, now=now)


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
    found = parsed_json(body)
    data = found.get("data") if isinstance(found, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict):
        return Reply("broken", message=f"got {shape_of(found)}; expected JSON with a picture in data[0].b64_json.")
    text = first.get("b64_json")
    if isinstance(text, str) and text:
        try:
            return Reply("picture", as_png(_bytes(text)))
        except PictureError as error:
            return Reply("broken", message=str(error))
    said = json.dumps({name: value for name, value in first.items() if name not in ("b64_json", "url")})[:1000]
    if refuses(said) and re.search(r"filter|block|reject|refus|violat", said, re.IGNORECASE):
        return Reply("refused", message=one_line(said))
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
