"""A folder on disk. In: names and bytes. Out: the same bytes, whole or not at all, from one writer at a time.

Knows the names of a run folder's files and nothing of what they hold.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from evenhand.errors import CorruptLedgerError, LedgerBusyError, LedgerError

__all__ = ["MANIFEST", "PROMPTS", "RunFolder", "shard_name", "shard_number"]

MANIFEST = "manifest.json"
PROMPTS = "prompts.parquet"
_SHARD = re.compile(r"samples-(\d{5,9})\.parquet")
_LOCK = ".lock"
_TEMPORARY = ".tmp-"
_HALF_WRITTEN = re.compile(r"\.tmp-(manifest\.json|prompts\.parquet|samples-\d+\.parquet)-[0-9a-f]{8}")
_Content = TypeVar("_Content")


def shard_name(number: int) -> str:
    """The file name of a shard, from its number."""
    return f"samples-{number:05d}.parquet"


def shard_number(name: str) -> int:
    """The number in a shard's file name; -1 for any other name."""
    match = _SHARD.fullmatch(name)
    return int(match[1]) if match else -1


class RunFolder:
    """Files in one folder, written whole or not at all; their names are those this module knows.

    Only a local folder has a lock and durable writes; elsewhere a file is one ``put`` of fsspec.

    Args:
        folder: A path, or a URL that fsspec knows.

    Raises:
        LedgerError: No such kind of URL. The methods raise it too, where the file system refuses.
    """

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
        """The names of its files, sorted; none where the folder is not there yet.

        Raises:
            LedgerError: It is not a folder.
        """
        with self._explained("list"):
            if not self._files.exists(self.root):
                return []
            if not self._files.isdir(self.root):
                raise LedgerError(f"{self.root!r} is not a folder; do: give another --out")
            self._files.invalidate_cache(self.root)
            return sorted(PurePath(path).name for path in self._files.ls(self.root, detail=False))

    def shards(self) -> list[str]:
        """The names of its shards, by their number."""
        return sorted((name for name in self.names() if _SHARD.fullmatch(name)), key=shard_number)

    def refuse_foreign(self) -> None:
        """Refuse a folder that somebody else filled.

        Raises:
            LedgerError: It holds files and no manifest.
        """
        names = self.names()
        foreign = [name for name in names if name != _LOCK and not _HALF_WRITTEN.fullmatch(name)]
        if foreign and MANIFEST not in names:
            raise LedgerError(
                f"{self.root!r} is not a run folder: it holds {foreign[0]!r} and no {MANIFEST}; "
                "allowed: a run folder, an empty folder or a new one; do: give another --out"
            )

    def take_lock(self) -> None:
        """Make the folder and become its one writer, until ``release_lock`` or the end of the process.

        Raises:
            LedgerBusyError: Another process is its writer.
        """
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
        """Let another process write; without the lock it does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def sweep(self) -> None:
        """Remove what a killed writer left half written; only the holder of the lock may."""
        with self._explained("clean"):
            for name in self.names():
                if _HALF_WRITTEN.fullmatch(name):
                    self._files.rm_file(f"{self.root}/{name}")

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            CorruptLedgerError: It is missing.
        """
        try:
            with self._explained("read"):
                content: bytes = self._files.cat_file(f"{self.root}/{name}")
                return content
        except LedgerError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self.corrupt(name, "it is missing") from error
            raise

    def load(self, name: str, decode: Callable[[bytes], _Content]) -> _Content:
        """What a file holds.

        Args:
            name: The file.
            decode: Raises ``CorruptLedgerError`` with what is wrong with the bytes, and no more.

        Raises:
            CorruptLedgerError: It is missing, or ``decode`` found it wrong; the message says which file.
        """
        content = self.read(name)
        try:
            return decode(content)
        except CorruptLedgerError as error:
            raise self.corrupt(name, str(error)) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file. On return it is on disk; after an error it may be written again."""
        with self._explained("write to"):
            if self._local:
                _write_durably(Path(self.root), name, content)
            else:
                self._files.pipe_file(f"{self.root}/{name}", content)

    def corrupt(self, name: str, problem: str) -> CorruptLedgerError:
        """The error to raise for a file that is not what was written, with what to do."""
        remedy = "restore it, or delete the folder"
        if name != MANIFEST:
            remedy = "delete it and resume with the same settings; its samples are drawn again, seed for seed"
        return CorruptLedgerError(f"{self.root}/{name} is not what was written: {problem}; do: {remedy}")

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
