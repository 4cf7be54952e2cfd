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
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from types import MappingProxyType, TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from evenhand.errors import (
    BadInputError,
    ChangedRunError,
    CorruptLedgerError,
    LedgerBusyError,
    LedgerError,
    PictureError,
)
from evenhand.pictures import preview
from evenhand.records import Claim, Edit, Prompt, Sample

__all__ = ["Ledger", "seed_of"]

_FORMAT = 1
_MANIFEST = "manifest.json"
_PROMPTS = "prompts.parquet"
_SHARD = re.compile(r"samples-(\d{5,9})\.parquet")
_LOCK = ".lock"
_TEMPORARY = ".tmp-"
_SHOWN_DIFFERENCES = 10
_SHOWN_CHARACTERS = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_URL_USER = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)[^/\s?#]*@")
_ABSENT = object()
_Row = dict[str, str | None]

_STRINGS = ("id", "probe", "text", "image_name", "image_sha256", "facts")
# The key that `datasets` reads to decode a column; without it the picture would be a struct of bytes.
_FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in _STRINGS} | {"image": {"_type": "Image"}}
_PROMPT_SCHEMA = pa.schema(
    [
        *[pa.field(name, pa.string()) for name in _STRINGS],
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
_EDIT = pa.struct(
    [
        *[(name, pa.int64()) for name in ("position", "start", "end")],
        *[(name, pa.string()) for name in ("drafted", "emitted")],
        *[(name, pa.float64()) for name in ("alpha", "s", "shift_drafted", "shift_emitted")],
    ]
)
_SAMPLE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("k", pa.int64()),
        ("seed", pa.int64()),
        ("text", pa.string()),
        ("error", pa.string()),
        ("claim", pa.struct([("s", pa.float64()), ("reason", pa.string()), ("faces", pa.int64())])),
        ("edits", pa.list_(_EDIT)),
    ]
)


def seed_of(run: str, prompt_id: str, k: int) -> int:
    """The seed of sample ``k`` of a prompt: the same on every machine, in every order and batch.

    The first 63 bits of the SHA-256 of the JSON array ``["run","prompt_id",k]``, ASCII, without spaces.
    Range 0 to 2**63 - 1.

    Raises:
        BadInputError: ``k`` is negative.
    """
    if k < 0:
        raise BadInputError(
            f"sample of prompt {prompt_id!r}: got k={k}; allowed: 0 or more; do: count from 0"
        )
    address = json.dumps([_utf8(run), _utf8(prompt_id), int(k)], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(address.encode("ascii")).digest()[:8], "big") >> 1


class Ledger:
    """The samples of one run, on disk. Use ``create_or_resume`` to write and ``open`` to read.

    One process writes at a time; any number read meanwhile, without a lock. Close it, or use it in ``with``,
    to let another process write; the lock also goes when the process ends, however it ends.
    """

    def __init__(
        self, folder: "_Folder", manifest: dict[str, Any], prompts: tuple[Prompt, ...], *, writes: bool
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._prompts = prompts
        self._writes = writes
        self._seen = set(self._read_samples()) if writes else set()
        self._next = 1 + max((_number(name) for name in folder.shards()), default=-1)

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
        asked = _cleaned_prompts(prompts)
        name = f"run-{_sha256(cleaned)[:12]}" if run is None else _utf8(run)
        place = _Folder(folder)
        place.refuse_foreign()
        place.take_lock()
        try:
            place.refuse_foreign()
            place.sweep()
            rows = [_prompt_row(prompt) for prompt in asked]
            manifest = _new_manifest(name, cleaned, rows)
            if _MANIFEST in place.names():
                now, manifest = manifest, _read_manifest(place)
                _refuse_changes(place, manifest, now, rows, named=run is not None)
            else:
                place.write(_MANIFEST, json.dumps(manifest, indent=2).encode("ascii"))
            if _PROMPTS not in place.names():
                place.write(_PROMPTS, _prompt_file(asked, rows))
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
        place = _Folder(folder)
        manifest = _read_manifest(place)
        return cls(place, manifest, _read_prompts(place, manifest), writes=False)

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
        table = _read_table(self._folder, _PROMPTS, _PROMPT_SCHEMA, ["id", "image"])
        return {row["id"]: row["image"]["bytes"] for row in table.to_pylist() if row["image"]}

    def missing(self, samples_per_prompt: int) -> list[tuple[Prompt, int]]:
        """What is still to be drawn: prompts in their order, and for each its sample numbers in order.

        A sample that holds an error counts as drawn.
        """
        seen = self._seen if self._writes else set(self._read_samples())
        return [
            (prompt, k)
            for prompt in self._prompts
            for k in range(samples_per_prompt)
            if (prompt.id, k) not in seen
        ]

    def append(self, samples: Sequence[Sample]) -> None:
        """Write samples as one shard. On return they are on disk; after an error none of them is counted.

        Raises:
            BadInputError: A prompt is not of this run, a sample is there already, or a seed is not its own.
            LedgerError: The ledger is read only or closed, or the disk refused; earlier shards are whole.
        """
        if not self._writes:
            raise LedgerError(
                f"{self._folder.root!r} is read only or closed; do: use Ledger.create_or_resume"
            )
        known = {prompt.id for prompt in self._prompts}
        keys: set[tuple[str, int]] = set()
        for sample in samples:
            key = (_utf8(sample.prompt_id), sample.k)
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
            self._folder.write(f"samples-{self._next:05d}.parquet", _sample_file(samples))
            self._next += 1
            self._seen |= keys

    def samples(self) -> tuple[Sample, ...]:
        """All samples on disk now: in the order of the prompts, then of ``k``, whatever the order of writing.

        Raises:
            CorruptLedgerError: As ``verify``.
        """
        order = {prompt.id: index for index, prompt in enumerate(self._prompts)}
        found = self._read_samples()
        return tuple(found[key] for key in sorted(found, key=lambda key: (order[key[0]], key[1])))

    def verify(self) -> None:
        """Read every file again, and check it.

        Raises:
            CorruptLedgerError: A file is missing, unreadable or not what was written; a sample is there
                twice, has another seed than ``seed_of``, or belongs to no prompt.
        """
        if _read_manifest(self._folder) != self._manifest:
            raise _corrupt(self._folder, _MANIFEST, "it has changed since the ledger was opened")
        _prompt_rows(self._folder, self._manifest)
        self.previews()
        self._read_samples()

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

    def _read_samples(self) -> dict[tuple[str, int], Sample]:
        known = {prompt.id for prompt in self._prompts}
        found: dict[tuple[str, int], Sample] = {}
        for name in self._folder.shards():
            for sample in _read_shard(self._folder, name):
                key = (sample.prompt_id, sample.k)
                problem = _problem(key, sample.seed, run=self.run, known=known)
                if key in found:
                    problem = "it is in two places"
                if problem is not None:
                    raise _corrupt(self._folder, name, f"sample {key[1]} of prompt {key[0]!r}: {problem}")
                found[key] = sample
        return found


class _Folder:
    """Files in one folder, written whole or not at all; their names are constants of this module."""

    _lock: int | None = None

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        given = os.fspath(folder)
        try:
            self._files, self.root = url_to_fs(given)
        except (ValueError, ImportError) as error:
            raise LedgerError(f"run folder {given!r}: got {error}; allowed: a path or fsspec URL") from error
        self._local = isinstance(self._files, LocalFileSystem)

    def __del__(self) -> None:
        self.release_lock()

    def names(self) -> list[str]:
        with self._explained("list"):
            if not self._files.exists(self.root):
                return []
            if not self._files.isdir(self.root):
                raise LedgerError(f"{self.root!r} is not a folder; do: give another --out")
            self._files.invalidate_cache(self.root)
            return sorted(PurePath(path).name for path in self._files.ls(self.root, detail=False))

    def shards(self) -> list[str]:
        return sorted((name for name in self.names() if _SHARD.fullmatch(name)), key=_number)

    def refuse_foreign(self) -> None:
        names = self.names()
        foreign = [name for name in names if name != _LOCK and not name.startswith(_TEMPORARY)]
        if foreign and _MANIFEST not in names:
            raise LedgerError(
                f"{self.root!r} is not a run folder: it holds {foreign[0]!r} and no {_MANIFEST}; "
                "allowed: a run folder, an empty folder or a new one; do: give another --out"
            )

    def take_lock(self) -> None:
        if not self._local:
            return
        with self._explained("write to"):
            os.makedirs(self.root, exist_ok=True)
            self._lock = _locked(Path(self.root, _LOCK))
        if self._lock is None:
            raise LedgerBusyError(
                f"{self.root!r} is being written to by another process; allowed: one writer; "
                "do: wait for it, stop it, or give another --out"
            )

    def release_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def sweep(self) -> None:
        """Remove what a killed writer left half written; only the holder of the lock may."""
        with self._explained("clean"):
            for name in self.names():
                if name.startswith(_TEMPORARY):
                    self._files.rm_file(f"{self.root}/{name}")

    def read(self, name: str) -> bytes:
        try:
            with self._explained("read"):
                content: bytes = self._files.cat_file(f"{self.root}/{name}")
                return content
        except LedgerError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _corrupt(self, name, "it is missing") from error
            raise

    def write(self, name: str, content: bytes) -> None:
        with self._explained("write to"):
            if self._local:
                _write_durably(Path(self.root), name, content)
            else:
                self._files.pipe_file(f"{self.root}/{name}", content)

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"cannot {verb} {self.root!r}: got {error.strerror or error}; what was written earlier is "
                "whole; do: free space or fix the permissions, then run the same again to go on"
            ) from error


def _write_durably(folder: Path, name: str, content: bytes) -> None:
    temporary = folder / f"{_TEMPORARY}{name}-{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, folder / name)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name != "nt":  # Windows cannot sync a folder
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, or None where another process holds it."""
    # Never through a link: a planted one would create a file elsewhere.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _number(shard: str) -> int:
    match = _SHARD.fullmatch(shard)
    return int(match[1]) if match else -1


def _problem(key: tuple[str, int], seed: int, *, run: str, known: set[str]) -> str | None:
    prompt_id, k = key
    if prompt_id not in known:
        return "no such prompt in this run"
    if k < 0 or seed != seed_of(run, prompt_id, k):
        return f"got seed {seed}, which is not its own"
    return None


def _corrupt(folder: _Folder, name: str, problem: str) -> CorruptLedgerError:
    remedy = "restore it, or delete the folder"
    if name != _MANIFEST:
        remedy = "delete it and resume with the same settings; its samples are drawn again, seed for seed"
    return CorruptLedgerError(f"{folder.root}/{name} is not what was written: {problem}; do: {remedy}")


def _utf8(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _storable(value: object) -> object:
    match value:
        case str():
            return _utf8(value)
        case dict():
            return {key: _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
    return value


def _sha256(value: object) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
    ).hexdigest()


def _plain(value: object, path: str) -> object:
    """The value as JSON holds it, without users and tokens in URLs."""
    match value:
        case None | bool():
            return value
        case str():
            return _URL_USER.sub(r"\1", _utf8(value))
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


def _new_manifest(run: str, settings: object, rows: Sequence[_Row]) -> dict[str, Any]:
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
        "prompts_sha256": _sha256(rows),
        "settings_sha256": _sha256(settings),
    }


def _read_manifest(folder: _Folder) -> dict[str, Any]:
    if _MANIFEST not in folder.names():
        raise LedgerError(f"{folder.root!r} is not a run folder: it has no {_MANIFEST}; do: check the path")
    try:
        manifest = json.loads(folder.read(_MANIFEST))
    except (ValueError, RecursionError) as error:
        raise _corrupt(folder, _MANIFEST, str(error)) from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise _corrupt(folder, _MANIFEST, "it has no format number")
    if manifest["format"] != _FORMAT:
        raise LedgerError(
            f"{folder.root!r}: got run folder format {manifest['format']!r}; allowed: {_FORMAT}; "
            "do: read it with the version of evenhand that made it"
        )
    kinds = {"run": str, "settings": dict, "prompts_sha256": str, "settings_sha256": str}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise _corrupt(folder, _MANIFEST, f"{key} is absent or of another type")
    if _sha256(manifest["settings"]) != manifest["settings_sha256"]:
        raise _corrupt(folder, _MANIFEST, "settings do not match settings_sha256")
    return manifest


def _refuse_changes(
    folder: _Folder, old: Mapping[str, Any], new: Mapping[str, Any], rows: Sequence[_Row], *, named: bool
) -> None:
    found = list(_differences(old["settings"], new["settings"], "settings"))
    if _PROMPTS in folder.names():
        before = {row["id"]: row for row in _prompt_rows(folder, old)}
        found += _differences(before, {row["id"]: row for row in rows}, "prompts")
    if not found or named:  # a name made from the settings says nothing that the settings do not say
        found += _differences(old["run"], new["run"], "run")
    if not found:
        found += _differences(
            old["prompts_sha256"], new["prompts_sha256"], "order of prompts, prompts_sha256"
        )
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


def _cleaned_prompts(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    cleaned = tuple(
        replace(
            prompt,
            id=_utf8(prompt.id),
            probe=_utf8(prompt.probe),
            text=_utf8(prompt.text),
            facts={_utf8(key): _utf8(value) for key, value in prompt.facts.items()},
        )
        for prompt in prompts
    )
    twice = [name for name, times in Counter(prompt.id for prompt in cleaned).items() if times > 1]
    if twice:
        raise BadInputError(
            f"prompts: got id {twice[0]!r} more than once; allowed: unique ids; do: rename one"
        )
    return cleaned


def _prompt_row(prompt: Prompt) -> _Row:
    digest = None
    if prompt.image is not None:
        with suppress(OSError, ValueError):  # an unreadable picture is a row without a hash
            if Path(prompt.image).is_file():
                with Path(prompt.image).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "id": prompt.id,
        "probe": prompt.probe,
        "text": prompt.text,
        "image_name": None if prompt.image is None else _utf8(PurePath(prompt.image).name),
        "image_sha256": digest,
        "facts": json.dumps(dict(prompt.facts), sort_keys=True, ensure_ascii=False),
    }


def _prompt_file(prompts: Sequence[Prompt], rows: Sequence[_Row]) -> bytes:
    stored = []
    for prompt, row in zip(prompts, rows, strict=True):
        image = None
        if prompt.image is not None:
            with suppress(PictureError):
                image = {"bytes": preview(prompt.image), "path": row["image_name"]}
        stored.append({**row, "image": image})
    return _parquet(pa.Table.from_pylist(stored, schema=_PROMPT_SCHEMA))


def _prompt_rows(folder: _Folder, manifest: Mapping[str, Any]) -> list[_Row]:
    rows: list[_Row] = _read_table(folder, _PROMPTS, _PROMPT_SCHEMA, list(_STRINGS)).to_pylist()
    if _sha256(rows) != manifest["prompts_sha256"]:
        raise _corrupt(folder, _PROMPTS, "prompts do not match prompts_sha256 in the manifest")
    return rows


def _read_prompts(folder: _Folder, manifest: Mapping[str, Any]) -> tuple[Prompt, ...]:
    return tuple(
        Prompt(
            id=str(row["id"]),
            probe=str(row["probe"]),
            text=str(row["text"]),
            image=row["image_name"],
            facts=json.loads(str(row["facts"])),
        )
        for row in _prompt_rows(folder, manifest)
    )


def _sample_file(samples: Sequence[Sample]) -> bytes:
    try:
        rows = [_storable(asdict(sample)) for sample in samples]
        table = pa.Table.from_pylist(rows, schema=_SAMPLE_SCHEMA)
    except (pa.ArrowException, OverflowError) as error:
        raise BadInputError(
            f"cannot store samples: got {error}; allowed: the types of Sample's fields"
        ) from error
    return _parquet(table.replace_schema_metadata({"rows_sha256": _sha256(table.to_pylist())}))


def _read_shard(folder: _Folder, name: str) -> list[Sample]:
    table = _read_table(folder, name, _SAMPLE_SCHEMA, None)
    rows = table.to_pylist()
    if (table.schema.metadata or {}).get(b"rows_sha256") != _sha256(rows).encode("ascii"):
        raise _corrupt(folder, name, "rows do not match rows_sha256")
    samples = []
    for row in rows:
        claim = None if row["claim"] is None else Claim(**row["claim"])
        edits = tuple(Edit(**edit) for edit in row["edits"])
        samples.append(Sample(**{**row, "claim": claim, "edits": edits}))
    return samples


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _read_table(folder: _Folder, name: str, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    content = folder.read(name)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not file.schema_arrow.equals(schema):
            raise _corrupt(folder, name, "it has other columns")
        table = file.read(columns=columns)
        table.validate(full=True)  # finds text that is not UTF-8
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _corrupt(folder, name, str(error)) from error
    return table
