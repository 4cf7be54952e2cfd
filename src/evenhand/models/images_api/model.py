"""A server that draws, as an ``ImageModel``. In: prompts and their seeds. Out: samples with PNG bytes.

Any server that answers ``POST {url}/images/generations`` as OpenAI does, and sends its pictures in the answer.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from typing import TYPE_CHECKING

from evenhand.errors import (
    BadInputError,
    EvenhandError,
    MissingExtraError,
    PictureError,
    RefusedError,
    ServiceError,
)
from evenhand.models.images_api.cost import Cost, cost_in_words, cost_of
from evenhand.models.images_api.endpoint import Endpoint, open_endpoint
from evenhand.models.images_api.seeds import PICTURES, SeedCheck, check_seeds
from evenhand.models.servers.replies import Reply
from evenhand.models.servers.seeds import sent_seed
from evenhand.records import Prompt, Sample

if TYPE_CHECKING:
    from evenhand.models.servers.asking import Asker

__all__ = ["ImagesApiModel", "load_images_api"]

_ERRORS: Mapping[str, type[EvenhandError]] = {"refused": RefusedError, "broken": PictureError}


class ImagesApiModel:
    """Draws through a server; see ``protocol.ImageModel``.

    What stands behind the server's name of a model may change without notice: the revision says only how was asked.

    Args:
        endpoint: Where and how.
        price: Of one picture, in any currency; None is not known.
        requests_per_minute: Over all threads; None is no limit.
        concurrency: Requests at a time.
        timeout: Seconds of one request, its answer included.
        retries: More tries of a request that may do better.
        check_seed: Find out, before the first picture, whether the server honours seeds; three more pictures.
        batch_size: Prompts of one call; what is stored at a time.
        sleep: Waits that many seconds; for tests.
        clock: Seconds, never going back.

    Raises:
        BadInputError: A number is out of range.
        MissingExtraError: ``httpx2`` or ``tenacity`` is not installed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        price: float | None = None,
        requests_per_minute: float | None = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        retries: int = 6,
        check_seed: bool = True,
        batch_size: int = 8,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(price, requests_per_minute, concurrency, timeout, retries, batch_size)
        self.endpoint, self.price, self.requests_per_minute = endpoint, price, requests_per_minute
        self.concurrency, self.batch_size = concurrency, batch_size
        self.name = endpoint.model
        self.settings: Mapping[str, object] = {
            "endpoint": endpoint.url,
            "size": endpoint.size,
            "seed_field": endpoint.seed_field,
            "response_format": endpoint.response_format,
            "extra": dict(endpoint.extra),
        }
        asked = json.dumps([endpoint.model, self.settings], sort_keys=True)
        self.revision = f"served-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        self.seed_check: SeedCheck | None = None
        self._checks = check_seed and endpoint.seed_field is not False
        self._ended: str | None = None
        self._asker = _asker(
            endpoint,
            timeout=timeout,
            retries=retries,
            requests_per_minute=requests_per_minute,
            sleep=sleep,
            clock=clock,
        )

    @property
    def replayable(self) -> bool:
        """Whether the same prompt and seed are known to give the same picture: ``check_seed`` was made and passed."""
        return self.seed_check is not None and self.seed_check.honoured

    def check_seed(self) -> SeedCheck:
        """Whether the server honours seeds, found out once, at the latest before the first picture.

        Three paid pictures, one where the server takes no seed, none where the check is switched off.

        Raises:
            BadInputError: No key.
            ServiceError: No picture came.
        """
        if not self._checks:
            return SeedCheck(False, "not checked", 0)
        if self.seed_check is None:
            with self._asker.open() as client:

                def drawn(prompt: str, seed: int) -> bytes:
                    reply = self._asker.ask(client, prompt, seed)
                    if reply.image is None:
                        raise self._stopped(f"no picture for the check of seeds: {reply.message}")
                    return reply.image

                self.seed_check = check_seeds(drawn, self._takes_seed)
        return self.seed_check

    def draw(self, prompts: Sequence[Prompt], *, seeds: Sequence[int]) -> tuple[Sample, ...]:
        """One sample per prompt, same order, with a PNG or an ``error``.

        A prompt that the server refuses is a sample with ``RefusedError``. Where the run must end (no key, no such
        model, no credit, too many failures in a row) and this batch holds pictures that are paid for, they are
        returned with errors beside them and the next call raises.

        Raises:
            BadInputError: Numbers of prompts and seeds differ.
            ServiceError: The run must end.
        """
        if len(seeds) != len(prompts):
            raise BadInputError(f"seeds: got {len(seeds)} for {len(prompts)} prompts; give one per prompt.")
        if self._ended is not None:
            message, self._ended = self._ended, None
            raise self._stopped(message)
        self.check_seed()
        replies = self._ask_all([prompt.text for prompt in prompts], [sent_seed(seed) for seed in seeds])
        ending = next((reply.message for reply in replies if reply.kind == "stop"), None)
        if ending is not None:
            if not any(reply.kind == "picture" for reply in replies):
                raise self._stopped(ending)
            self._ended = ending
        return tuple(_sample(*one) for one in zip(prompts, seeds, replies, strict=True))

    def cost(self, pictures: int) -> Cost | None:
        """What that many pictures will cost, the seed check included; None where no price was given."""
        return cost_of(pictures, checks=self._still_to_check, price=self.price)

    def estimate_cost(self, pictures: int) -> str:
        """The same as a sentence, also where no price was given."""
        return cost_in_words(
            pictures,
            checks=self._still_to_check,
            price=self.price,
            requests_per_minute=self.requests_per_minute,
        )

    @property
    def _still_to_check(self) -> int:
        return PICTURES if self._checks and self.seed_check is None else 0

    def _takes_seed(self) -> bool:
        return self.endpoint.seed_field is not False and "seed" not in self._asker.rejected

    def _ask_all(self, texts: Sequence[str], seeds: Sequence[int]) -> list[Reply]:
        with self._asker.open() as client, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                return list(pool.map(lambda text, seed: self._asker.ask(client, text, seed), texts, seeds))
            except BaseException:  # the user's Ctrl-C too: threads that wait must not hold it up
                self._asker.stopping.set()
                raise

    def _stopped(self, message: str) -> ServiceError:
        return ServiceError(f"{self.name} at {self.endpoint.url}: {message}. What was drawn is kept.")


def load_images_api(
    source: str | None = None,
    *,
    base_url: str | None = None,
    key_variable: str | None = None,
    size: str | None = None,
    seed_field: bool | str = "auto",
    response_format: str = "auto",
    extra: str | Mapping[str, object] | None = None,
    price: float | None = None,
    requests_per_minute: float | None = None,
    concurrency: int = 4,
    timeout: float = 120.0,
    retries: int = 6,
    check_seed: bool = True,
    batch_size: int = 8,
) -> ImagesApiModel:
    """A model behind a server, by name or ``NAME@URL``; nothing is asked yet. What the registry loads.

    Options are those of ``open_endpoint`` and ``ImagesApiModel``.

    Raises:
        BadInputError: No name, or a value out of range.
        MissingExtraError: ``httpx2`` or ``tenacity`` is not installed.
    """
    endpoint = open_endpoint(
        source,
        base_url=base_url,
        key_variable=key_variable,
        size=size,
        seed_field=seed_field,
        response_format=response_format,
        extra=extra,
    )
    return ImagesApiModel(
        endpoint,
        price=price,
        requests_per_minute=requests_per_minute,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        check_seed=check_seed,
        batch_size=batch_size,
    )


def _asker(
    endpoint: Endpoint,
    *,
    timeout: float,
    retries: int,
    requests_per_minute: float | None,
    sleep: Callable[[float], None] | None,
    clock: Callable[[], float],
) -> "Asker":
    try:
        from evenhand.models.servers.asking import Asker
    except ImportError as error:
        raise MissingExtraError(str(error.name or "httpx2"), "api") from error
    return Asker(
        endpoint,
        timeout=timeout,
        retries=retries,
        requests_per_minute=requests_per_minute,
        sleep=sleep,
        clock=clock,
    )


def _check(
    price: float | None, pace: float | None, concurrency: int, timeout: float, retries: int, batch_size: int
) -> None:
    if price is not None and not (isfinite(price) and price >= 0):
        raise BadInputError(f"price: got {price}; allowed: 0 and more, the price of one picture.")
    if pace is not None and not (isfinite(pace) and pace > 0):
        raise BadInputError(f"requests_per_minute: got {pace}; allowed: above 0, or leave it out.")
    if not 1 <= concurrency <= 64:
        raise BadInputError(f"concurrency: got {concurrency}; allowed: 1 to 64.")
    if not (isfinite(timeout) and timeout > 0):
        raise BadInputError(f"timeout: got {timeout}; allowed: seconds above 0.")
    if not 0 <= retries <= 20:
        raise BadInputError(f"retries: got {retries}; allowed: 0 to 20.")
    if batch_size < 1:
        raise BadInputError(f"batch_size: got {batch_size}; allowed: 1 and more.")


def _sample(prompt: Prompt, seed: int, reply: Reply) -> Sample:
    if reply.image is None:
        kind = _ERRORS.get(reply.kind, ServiceError).__name__
        refused = "the server refused the prompt: " if reply.kind == "refused" else ""
        return Sample(prompt.id, 0, seed, None, error=f"{kind}: {refused}{reply.message}")
    return Sample(prompt.id, 0, seed, None, image=reply.image, image_sha256=hashlib.sha256(reply.image).hexdigest())
