"""A run folder. In: settings, prompts, samples. Out: the same records, in the same order, after any crash.

::

    <run>/manifest.json           settings, run name, hashes; written first, never changed
    <run>/prompts.parquet         one row per prompt, with a small preview of its picture
    <run>/samples-00000.parquet   one shard per ``append``; there or not there, never half there
    <run>/.lock                   held while a process writes

Text is stored as UTF-8. A lone surrogate, which has no UTF-8, becomes U+FFFD, one for one, so that the
offsets of edits still hold; prompt ids too.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType, TracebackType
from typing import Any

from evenhand.errors import BadInputError, ChangedRunError, LedgerError
from evenhand.records import Prompt, Sample
from evenhand.run_folder import MANIFEST, PROMPTS, RunFolder, shard_name, shard_number
from evenhand.shards import (
    PromptRow,
    prompt_file,
    prompt_row,
    read_previews,
    read_prompt_rows,
    read_prompts,
    read_samples,
    sample_file,
    sha256_of,
    storable_prompts,
    utf8,
)

__all__ = ["Ledger", "seed_of"]

_FORMAT = 3
_SHOWN_DIFFERENCES = 10
_SHOWN_CHARACTERS = 100
_URL_USER = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)[^/\s?#]*@")
_ABSENT = object()


def seed_of(run: str, prompt_id: str, k: int) -> int:
    """The seed of sample ``k`` of a prompt: the same on every machine, in every order and batch.

    The first 63 bits of the SHA-256 of the JSON array ``["run","prompt_id",k]``, ASCII, without spaces.
    Range 0 to 2**63 - 1.

    Raises:
        BadInputError: ``k`` is negative.
    """
    if k < 0:
        raise BadInputError(f"sample of prompt {prompt_id!r}: got k={k}; allowed: 0 or more; do: count from 0")
    address = json.dumps([utf8(run), utf8(prompt_id), int(k)], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(address.encode("ascii")).digest()[:8], "big") >> 1


class Ledger:
    """The samples of one run, on disk. Use ``create_or_resume`` to write and ``open`` to read.

    One process writes at a time; any number read meanwhile, without a lock. Close it, or use it in ``with``,
    to let another process write; the lock also goes when the process ends, however it ends.
    """

    def __init__(
        self, folder: RunFolder, manifest: dict[str, Any], prompts: tuple[Prompt, ...], *, writes: bool
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._prompts = prompts
        self._writes = writes
        self._seen = set(self._read_samples(pictures=False)) if writes else set()
        self._next = 1 + max((shard_number(name) for name in folder.shards()), default=-1)

    @classmethod
    def create_or_resume(
        cls,
        folder: str | os.PathLike[str],
        *,
        settings: Mapping[str, object],
        prompts: Sequence[Prompt],
        run: str | None = None,
    ) -> "Ledger":
        """The ledger of a new run folder, or of one made earlier with the same settings and prompts.

        A picture that cannot be read is no error here: its prompt has no preview.

        Args:
            folder: A path, or a URL that fsspec knows. Only a local folder has a lock and durable writes.
            settings: What the run is made with; JSON values only. User names, passwords and tokens in front
                of the host of a URL are removed.
            prompts: In the order they are asked; ids are unique.
            run: Name that seeds are made from. Default: a name derived from ``settings``, so that the same
                settings give the same seeds. Give two runs one name to draw them with the same seeds.

        Raises:
            BadInputError: Settings are not JSON, or two prompts have one id.
            ChangedRunError: The folder was made with other settings, prompts or run name.
            CorruptLedgerError: A file in the folder is not what was written.
            LedgerBusyError: Another process writes to the folder.
            LedgerError: The folder holds something else, or cannot be written to.
        """
        cleaned = _plain(settings, "settings")
        asked = storable_prompts(prompts)
        name = f"run-{sha256_of(cleaned)[:12]}" if run is None else utf8(run)
        place = RunFolder(folder)
        place.refuse_foreign()
        if MANIFEST in place.names():
            _read_manifest(place)  # a manifest that is not ours is refused before anything is touched
        place.take_lock()
        try:
            place.refuse_foreign()
            place.sweep()
            rows = [prompt_row(prompt) for prompt in asked]
            manifest = _new_manifest(name, cleaned, rows)
            if MANIFEST in place.names():
                now, manifest = manifest, _read_manifest(place)
                _refuse_changes(place, manifest, now, rows, named=run is not None)
            else:
                place.write(MANIFEST, json.dumps(manifest, indent=2).encode("ascii"))
            if PROMPTS not in place.names():
                place.write(PROMPTS, prompt_file(asked, rows))
            return cls(place, manifest, asked, writes=True)
        except BaseException:
            place.release_lock()
            raise

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Ledger":
        """The ledger of a run folder, to read; nothing is written and no lock is taken.

        Raises:
            CorruptLedgerError: The manifest or the prompts are missing or not what was written.
            LedgerError: The folder is not a run folder, or cannot be read.
        """
        place = RunFolder(folder)
        manifest = _read_manifest(place)
        decode = partial(read_prompts, sha256=manifest["prompts_sha256"])
        return cls(place, manifest, place.load(PROMPTS, decode), writes=False)

    @property
    def manifest(self) -> Mapping[str, object]:
        """The contents of ``manifest.json``."""
        return MappingProxyType(self._manifest)

    @property
    def settings(self) -> Mapping[str, object]:
        """What the run was made with."""
        return MappingProxyType(self._manifest["settings"])

    @property
    def run(self) -> str:
        """The name that seeds are made from."""
        return str(self._manifest["run"])

    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts, in the order they are asked.

        After ``open``, ``image`` is the name of the picture without its folder; paths are not stored.
        """
        return self._prompts

    def previews(self) -> dict[str, bytes]:
        """Prompt id -> JPEG bytes; prompts whose picture could not be read are absent."""
        return self._folder.load(PROMPTS, read_previews)

    def missing(self, samples_per_prompt: int) -> list[tuple[Prompt, int]]:
        """What is still to be drawn: prompts in their order, and for each its sample numbers in order.

        A sample that holds an error counts as drawn.
        """
        seen = self._seen if self._writes else set(self._read_samples(pictures=False))
        return [
            (prompt, k) for prompt in self._prompts for k in range(samples_per_prompt) if (prompt.id, k) not in seen
        ]

    def append(self, samples: Sequence[Sample]) -> None:
        """Write samples as one shard. On return they are on disk; after an error none of them is counted.

        Raises:
            BadInputError: A prompt is not of this run, a sample is there already, or a seed is not its own.
            LedgerError: The ledger is read only or closed, or the disk refused; earlier shards are whole.
        """
        if not self._writes:
            raise LedgerError(f"{self._folder.root!r} is read only or closed; do: use Ledger.create_or_resume")
        known = {prompt.id for prompt in self._prompts}
        keys: set[tuple[str, int]] = set()
        for sample in samples:
            key = (utf8(sample.prompt_id), sample.k)
            problem = _problem(key, sample.seed, run=self.run, known=known)
            if key in self._seen or key in keys:
                problem = "it is there already, or twice among those given"
            if problem is not None:
                raise BadInputError(
                    f"cannot append sample {key[1]} of prompt {key[0]!r}: {problem}; "
                    "allowed: what missing() lists, once, with the seed seed_of(run, prompt_id, k)"
                )
            keys.add(key)
        if keys:
            self._folder.write(shard_name(self._next), sample_file(samples))
            self._next += 1
            self._seen |= keys

    def samples(self, *, pictures: bool = False) -> tuple[Sample, ...]:
        """All samples on disk now: in the order of the prompts, then of ``k``, whatever the order of writing.

        Args:
            pictures: Whether to read the pictures that were drawn, all of them; see ``drawn`` for one after another.

        Raises:
            CorruptLedgerError: As ``verify``.
        """
        order = {prompt.id: index for index, prompt in enumerate(self._prompts)}
        found = self._read_samples(pictures=pictures)
        return tuple(found[key] for key in sorted(found, key=lambda key: (order[key[0]], key[1])))

    def drawn(self) -> Iterator[Sample]:
        """The samples that hold a picture, with it, in the order they were written; one shard in memory at a time.

        Raises:
            CorruptLedgerError: As ``verify``.
        """
        known = {prompt.id for prompt in self._prompts}
        for name in self._folder.shards():
            for sample in self._folder.load(name, read_samples):
                problem = _problem((sample.prompt_id, sample.k), sample.seed, run=self.run, known=known)
                if problem is not None:
                    raise self._folder.corrupt(name, f"sample {sample.k} of prompt {sample.prompt_id!r}: {problem}")
                if sample.image is not None:
                    yield sample

    def verify(self) -> None:
        """Read every file again, and check it.

        Raises:
            CorruptLedgerError: A file is missing, unreadable or not what was written; a sample is there
                twice, has another seed than ``seed_of``, or belongs to no prompt.
        """
        if _read_manifest(self._folder) != self._manifest:
            raise self._folder.corrupt(MANIFEST, "it has changed since the ledger was opened")
        self._folder.load(PROMPTS, partial(read_prompt_rows, sha256=self._manifest["prompts_sha256"]))
        self.previews()
        self._read_samples(pictures=False)
        for _ in self.drawn():  # reads and checks every picture
            pass

    def close(self) -> None:
        """Let another process write; reading still works. Closing twice is no error."""
        self._writes = False
        self._folder.release_lock()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_samples(self, *, pictures: bool) -> dict[tuple[str, int], Sample]:
        known = {prompt.id for prompt in self._prompts}
        found: dict[tuple[str, int], Sample] = {}
        for name in self._folder.shards():
            for sample in self._folder.load(name, partial(read_samples, pictures=pictures)):
                key = (sample.prompt_id, sample.k)
                problem = _problem(key, sample.seed, run=self.run, known=known)
                if key in found:
                    problem = "it is in two places"
                if problem is not None:
                    raise self._folder.corrupt(name, f"sample {key[1]} of prompt {key[0]!r}: {problem}")
                found[key] = sample
        return found


def _problem(key: tuple[str, int], seed: int, *, run: str, known: set[str]) -> str | None:
    prompt_id, k = key
    if prompt_id not in known:
        return "no such prompt in this run"
    if k < 0 or seed != seed_of(run, prompt_id, k):
        return f"got seed {seed}, which is not its own"
    return None


def _plain(value: object, path: str) -> object:
    """The value as JSON holds it, without users and tokens in URLs."""
    match value:
        case None | bool():
            return value
        case str():
            return _URL_USER.sub(r"\1", utf8(value))
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case list() | tuple():
            return [_plain(item, f"{path}.{index}") for index, item in enumerate(value)]
        case Mapping() if all(isinstance(key, str) for key in value):
            return {str(_plain(key, path)): _plain(item, f"{path}.{key}") for key, item in value.items()}
    raise BadInputError(
        f"{path}: got {value!r} ({type(value).__name__}); allowed: text, finite numbers, true, false, null, "
        "and lists and mappings of them with text keys; do: convert it"
    )


def _new_manifest(run: str, settings: object, rows: Sequence[PromptRow]) -> dict[str, Any]:
    try:
        made_by = version("evenhand")
    except PackageNotFoundError:
        made_by = "not installed"
    return {
        "format": _FORMAT,
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "evenhand": made_by,
        "settings": settings,
        "prompts_sha256": sha256_of(rows),
        "settings_sha256": sha256_of(settings),
    }


def _read_manifest(folder: RunFolder) -> dict[str, Any]:
    if MANIFEST not in folder.names():
        raise LedgerError(f"{folder.root!r} is not a run folder: it has no {MANIFEST}; do: check the path")
    try:
        manifest = json.loads(folder.read(MANIFEST))
    except (ValueError, RecursionError) as error:
        raise folder.corrupt(MANIFEST, str(error)) from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise folder.corrupt(MANIFEST, "it has no format number")
    if manifest["format"] != _FORMAT:
        raise LedgerError(
            f"{folder.root!r}: got run folder format {manifest['format']!r}; allowed: {_FORMAT}; "
            "do: read it with the version of evenhand that made it"
        )
    kinds = {"run": str, "settings": dict, "prompts_sha256": str, "settings_sha256": str}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise folder.corrupt(MANIFEST, f"{key} is absent or of another type")
    if sha256_of(manifest["settings"]) != manifest["settings_sha256"]:
        raise folder.corrupt(MANIFEST, "settings do not match settings_sha256")
    return manifest


def _refuse_changes(
    folder: RunFolder, old: Mapping[str, Any], new: Mapping[str, Any], rows: Sequence[PromptRow], *, named: bool
) -> None:
    found = list(_differences(old["settings"], new["settings"], "settings"))
    if PROMPTS in folder.names():
        decode = partial(read_prompt_rows, sha256=old["prompts_sha256"])
        before = {row["id"]: row for row in folder.load(PROMPTS, decode)}
        found += _differences(before, {row["id"]: row for row in rows}, "prompts")
    if not found or named:  # a name made from the settings says nothing that the settings do not say
        found += _differences(old["run"], new["run"], "run")
    if not found:
        found += _differences(old["prompts_sha256"], new["prompts_sha256"], "order of prompts, prompts_sha256")
    if found:
        more = len(found) - _SHOWN_DIFFERENCES
        shown = "; ".join(found[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise ChangedRunError(
            f"{folder.root!r} was made with other settings or prompts: {shown}. "
            "Allowed: the same, to go on. Do: give another --out, or delete the folder"
        )


def _differences(old: object, new: object, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{json.dumps(key)[1:-1]}"
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), below)
        return
    # As text, because 1 == True == 1.0 in Python and not in JSON.
    was, now = ("absent" if value is _ABSENT else json.dumps(value, sort_keys=True) for value in (old, new))
    if was != now:
        yield f"{path}: {was[:_SHOWN_CHARACTERS]} in the folder, {now[:_SHOWN_CHARACTERS]} now"
