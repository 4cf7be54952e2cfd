"""A server that answers in text. In: its address and a model's name. Out: a ``ChatServer``: text and seed to text.

Any server that answers ``POST {url}/chat/completions`` as OpenAI does. The key is no part of it: only the name of the
environment variable that holds it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from evenhand.errors import BadInputError, MissingExtraError, ServiceError
from evenhand.models.chat_api.replies import read_chat
from evenhand.models.servers.addresses import checked_address, checked_variable, read_key
from evenhand.models.servers.replies import Reply

__all__ = ["ChatEndpoint", "ChatServer", "open_chat"]

_MAY_BE_LEFT_OUT = ("temperature", "seed")


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """A server, one of its models and how it is asked.

    Attributes:
        model: The server's name of the model.
        url: Without ``/chat/completions`` and without a key.
        key_variable: Environment variable that holds the key; None sends none.
        temperature: Of the answers, 0 to 2; left out from then on where the server rejects it, and so is ``seed``.
    """

    model: str
    url: str
    key_variable: str | None = None
    temperature: float = 1.0

    @property
    def address(self) -> str:
        """What is posted to."""
        return f"{self.url}/chat/completions"

    def body(self, prompt: str, seed: int, *, without: frozenset[str]) -> dict[str, object]:
        """The fields of one request; ``without`` names those that the server rejected."""
        fields: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "seed": seed,
        }
        return {name: value for name, value in fields.items() if name not in without}

    def may_leave_out(self, name: str) -> bool:
        """Whether a field that the server rejects is left out from then on."""
        return name in _MAY_BE_LEFT_OUT

    def key(self) -> str | None:
        """The key as the environment holds it now; never kept.

        Raises:
            BadInputError: The variable is empty, or holds what no header can carry.
        """
        return read_key(self.key_variable, self.url)

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes, *, sent: Mapping[str, object], now: float
    ) -> Reply:
        """What one HTTP answer means, as ``read_chat``."""
        return read_chat(status, headers, body, sent=sent, now=now)


class ChatServer:
    """Asks a server that answers in text; what may pass is tried again, with growing waits.

    Args:
        endpoint: Where and how.
        timeout: Seconds of one request, its answer included.
        retries: More tries of a request that may do better.
        sleep: Waits that many seconds; for tests.

    Raises:
        MissingExtraError: ``httpx2`` or ``tenacity`` is not installed.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        *,
        timeout: float = 120.0,
        retries: int = 6,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        try:
            from evenhand.models.servers.asking import Asker
        except ImportError as error:
            raise MissingExtraError(str(error.name or "httpx2"), "api") from error
        self.endpoint, self.name = endpoint, endpoint.model
        self.settings: Mapping[str, object] = {
            "url": endpoint.url,
            "model": endpoint.model,
            "temperature": endpoint.temperature,
        }
        self._asker = Asker(endpoint, timeout=timeout, retries=retries, requests_per_minute=None, sleep=sleep)

    def ask(self, question: str, seed: int) -> Reply:
        """The answer as a ``Reply`` of kind ``text``, or of kind ``refused`` or ``broken`` where there is none to use.

        Args:
            question: The one message that is sent.
            seed: 1 to 2**31 - 1; sent where the server takes one.

        Raises:
            BadInputError: The environment holds no key.
            ServiceError: The server gave no answer after all tries, or cannot be used.
        """
        with self._asker.open() as client:
            reply = self._asker.ask(client, question, seed)
        if reply.kind not in ("text", "refused", "broken"):
            raise ServiceError(f"{self.name} at {self.endpoint.url}: {reply.message}. What was answered is kept.")
        return reply


def open_chat(
    model: str,
    url: str,
    *,
    key_variable: str | None = None,
    temperature: float = 1.0,
    sleep: Callable[[float], None] | None = None,
) -> ChatServer:
    """A chat server from what the user gave.

    Args:
        model: The server's name of the model.
        url: For example ``http://localhost:8000/v1``; without a path ``/v1`` is added.
        key_variable: Environment variable of the key. By default ``OPENAI_API_KEY`` for OpenAI's own server and none
            for any other: a key is sent only to whom it was meant for.
        temperature: Of the answers, 0 to 2.
        sleep: Waits that many seconds; for tests.

    Raises:
        BadInputError: No model, no bare http(s) address, no name of a variable, or a temperature out of range.
        MissingExtraError: The extra ``api`` is not installed.
    """
    if not model.strip():
        raise BadInputError("--chat-model: got nothing; give the server's name of the model.")
    if not (isfinite(temperature) and 0 <= temperature <= 2):
        raise BadInputError(f"temperature: got {temperature}; allowed: 0 to 2.")
    bare = checked_address(url, ending="/chat/completions", option="--chat-url", key_option="--chat-key-env")
    variable = checked_variable(key_variable, bare, option="--chat-key-env")
    return ChatServer(ChatEndpoint(model.strip(), bare, variable, temperature), sleep=sleep)
