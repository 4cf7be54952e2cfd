"""What a chat server's answer means. In: status, headers and body. Out: a ``Reply``: a text, or why there is none."""

from collections.abc import Mapping

from evenhand.models.servers.replies import Reply, one_line, parsed_json, read_problem, shape_of

__all__ = ["read_chat"]

_FIELDS = ("temperature", "seed")


def read_chat(status: int, headers: Mapping[str, str], body: bytes, *, sent: Mapping[str, object], now: float) -> Reply:
    """What one HTTP answer means; never raises, whatever the server sent.

    Args:
        status: HTTP status.
        headers: With lower-case names.
        body: Decoded.
        sent: Fields of the request.
        now: Seconds since 1970.
    """
    if status == 200:
        return _said(body)
    return read_problem(status, headers, body, sent=sent, echoed=_question(sent), fields=_FIELDS, now=now)


def _said(body: bytes) -> Reply:
    """The text of a good answer's first choice."""
    found = parsed_json(body)
    choices = found.get("choices") if isinstance(found, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return Reply(
            "broken", message=f"got {shape_of(found)}; expected JSON with a text in choices[0].message.content"
        )
    text, refusal, ended = message.get("content"), message.get("refusal"), first.get("finish_reason")
    if ended == "content_filter" or (isinstance(refusal, str) and refusal):
        return Reply("refused", message=one_line(str(refusal or "content_filter")))
    if not isinstance(text, str) or not text.strip():
        return Reply("broken", message="choices[0].message.content holds no text")
    if ended == "length":
        return Reply("broken", message="the answer was cut off at the server's limit of length")
    return Reply("text", text=text)


def _question(sent: Mapping[str, object]) -> str:
    match sent.get("messages"):
        case [{"content": str(text)}, *_]:
            return text
    return ""
