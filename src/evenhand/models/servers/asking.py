"""One answer of a server. In: an endpoint, a prompt and a seed. Out: a ``Reply``, after every retry it was worth.

Retried, with exponential waits that are drawn at random or as long as the server asks: 408, 409, 425, 429, 5xx,
timeouts, broken connections. Never retried: any other 4xx. A request that timed out may have been paid for.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import httpx2
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random,
    wait_random_exponential,
)

from evenhand.models.servers.pace import Pace
from evenhand.models.servers.replies import Reply

if TYPE_CHECKING:
    from evenhand.models.servers.replies import Kind

__all__ = ["GIVE_UP_AFTER", "Asker", "Endpoint"]

GIVE_UP_AFTER = 20
"""Failed requests in a row, over all threads, after which a run ends; answers of 429 are not counted."""

MAX_ANSWER_BYTES = 64 * 2**20
_GOOD: "tuple[Kind, ...]" = ("picture", "text")
_FAILURES: "tuple[Kind, ...]" = ("again", "broken", "failed")


@runtime_checkable
class Endpoint(Protocol):
    """Where and how is asked, and what an answer means."""

    @property
    def address(self) -> str:
        """What is posted to."""
        ...

    def body(self, prompt: str, seed: int, *, without: frozenset[str]) -> dict[str, object]:
        """The fields of one request; ``without`` names those that the server rejected."""
        ...

    def may_leave_out(self, name: str) -> bool:
        """Whether a field that the server rejects is left out from then on."""
        ...

    def key(self) -> str | None:
        """The key as the environment holds it now."""
        ...

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes, *, sent: Mapping[str, object], now: float
    ) -> Reply:
        """What one HTTP answer means."""
        ...


class Asker:
    """Asks from any number of threads, and remembers what the server rejects and how often it failed.

    Args:
        endpoint: Where and how.
        timeout: Seconds that one request may take, its answer included.
        retries: More tries of a request that may do better.
        requests_per_minute: Over all threads; None is no limit.
        sleep: Waits that many seconds; by default a wait that ends when the run does.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        retries: int,
        requests_per_minute: float | None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self.rejected: frozenset[str] = frozenset()
        self.stopping = threading.Event()
        self._timeout, self._retries, self._clock = timeout, retries, clock
        self._sleep = sleep_using_event(self.stopping) if sleep is None else sleep
        self._pace = Pace(requests_per_minute, clock=clock, sleep=self._sleep)
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._settled = False

    def open(self) -> httpx2.Client:
        """Connections for one batch; redirects are never followed, so that a key stays with its server."""
        self.stopping.clear()
        with self._lock:
            self._in_a_row = 0 if self._in_a_row >= GIVE_UP_AFTER else self._in_a_row
        return httpx2.Client(timeout=self._timeout, follow_redirects=False)

    def ask(self, client: httpx2.Client, prompt: str, seed: int) -> Reply:
        """What was asked for, or why it did not come; never raises for what a server or a network does.

        Raises:
            BadInputError: The environment holds no key.
        """

        def once() -> Reply:
            return self._negotiated(client, prompt, seed)

        if self.stopping.is_set():
            return Reply("failed", message="not asked: the run ended before")
        retrying = Retrying(
            stop=stop_after_attempt(self._retries + 1) | stop_when_event_set(self.stopping),
            wait=_pause,
            retry=retry_if_result(lambda reply: reply.kind == "again"),
            retry_error_callback=_last,
            sleep=self._sleep,
        )
        reply: Reply = retrying(once)
        if reply.kind == "stop":
            self.stopping.set()
        return reply

    def _negotiated(self, client: httpx2.Client, prompt: str, seed: int) -> Reply:
        """One try; a field that the server rejects before it has answered anything is left out from then on."""
        while True:
            left_out = self.rejected
            reply = self._post(client, self.endpoint.body(prompt, seed, without=left_out))
            if reply.kind != "field":
                return self._counted(reply)
            with self._lock:
                known = reply.field in self.rejected - left_out  # another thread found out meanwhile
                leave_out = not self._settled and self.endpoint.may_leave_out(reply.field)
                if leave_out:
                    self.rejected |= {reply.field}
            if not (known or leave_out):
                said = f"{reply.message}; do: change the option for {reply.field}"
                return self._counted(Reply("failed" if self._settled else "stop", message=said))

    def _post(self, client: httpx2.Client, sent: Mapping[str, object]) -> Reply:
        key = self.endpoint.key()
        headers = {"Accept": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        self._pace.wait()
        until = self._clock() + self._timeout
        try:
            with client.stream("POST", self.endpoint.address, json=dict(sent), headers=headers) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        return Reply("broken", message=f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes.")
                    if self._clock() > until:
                        return Reply("again", message=f"no whole answer within {self._timeout:g} s")
                found = {name.lower(): value for name, value in response.headers.items()}
                status = response.status_code
        except httpx2.TimeoutException:
            return Reply("again", message=f"no answer within {self._timeout:g} s")
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return Reply("again", message=_hidden(f"{type(error).__name__}: {error}", key))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return Reply("failed", message=_hidden(f"{type(error).__name__}: {error}", key))
        content = bytes(body) if key is None else bytes(body).replace(key.encode(), b"***")
        reply = self.endpoint.read(status, found, content, sent=sent, now=time.time())
        text = None if reply.text is None else _hidden(reply.text, key)
        return replace(reply, text=text, message=_hidden(reply.message, key))

    def _counted(self, reply: Reply) -> Reply:
        """The reply, or ``stop`` where too many failed in a row."""
        with self._lock:
            if reply.kind in _GOOD:
                self._settled = True
            if reply.kind in (*_GOOD, "refused"):
                self._in_a_row = 0
            elif reply.kind in _FAILURES and not reply.busy:
                self._in_a_row += 1
            if reply.kind in _FAILURES and self._in_a_row >= GIVE_UP_AFTER:
                return Reply(
                    "stop", message=f"{GIVE_UP_AFTER} requests in a row failed, the last with: {reply.message}"
                )
        return reply


_BACK_OFF = wait_random_exponential(multiplier=1, max=60)
_SPREAD = wait_random(0, 1)  # threads that were told the same time do not come back together


def _pause(state: RetryCallState) -> float:
    reply = _last(state)
    return _BACK_OFF(state) if reply.wait is None else reply.wait + _SPREAD(state)


def _last(state: RetryCallState) -> Reply:
    outcome = state.outcome
    if outcome is None:  # never: it is called after a try
        return Reply("failed", message="not asked")
    reply: Reply = outcome.result()
    return reply


def _hidden(message: str, key: str | None) -> str:
    return message if key is None else message.replace(key, "***").replace(json.dumps(key)[1:-1], "***")
