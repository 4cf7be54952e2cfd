"""When a request may start. In: requests a minute. Out: waits, so that threads together keep to it."""

import threading
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Starts requests at least ``60 / requests_per_minute`` seconds apart, whichever thread they come from.

    Args:
        requests_per_minute: Above 0; None never waits.
        clock: Seconds, never going back.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._gap = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next: float | None = None

    def wait(self) -> None:
        """Return when it is this thread's turn."""
        if self._gap == 0.0:
            return
        with self._lock:  # a turn is taken under the lock, the wait is outside it
            now = self._clock()
            turn = now if self._next is None else max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)
