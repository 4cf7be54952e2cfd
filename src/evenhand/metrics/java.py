"""The two Java programs of ``pycocoevalcap``. In: captions and references. Out: METEOR scores; words.

Both come inside the package (extra ``quality``); nothing is downloaded. Java itself is the machine's.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import IO

from evenhand.errors import BadInputError, MissingExtraError

__all__ = ["Meteor", "caption_package", "penn_words"]

_METEOR = ("meteor", "meteor-1.5.jar")
_TOKENIZER = ("tokenizer", "stanford-corenlp-3.4.1.jar")
# What the COCO caption evaluation (Chen et al. 2015, arXiv 1504.00325) takes out after cutting. Brackets come out
# of the tokenizer in lower case and so stay in, there as here: figures stay comparable.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


class Meteor:
    """METEOR 1.5 for English (Denkowski and Lavie 2014), text normalised by METEOR itself (``-norm``).

    A context manager: the Java process, of up to 2 GiB, starts on entry (about 5 s of CPU time, most of it reading
    paraphrases) and has ended on exit, also after an error.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> "Meteor":
        """Start Java.

        Raises:
            MissingExtraError: ``pycocoevalcap`` is not installed.
            BadInputError: There is no Java on this machine.
        """
        jar = caption_package().joinpath(*_METEOR)
        command = [_java(), "-Xmx2G", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-jar", jar.name]
        command += ["-", "-", "-stdio", "-l", "en", "-norm"]
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603  (no shell, our own arguments)
            command,
            cwd=jar.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )
        return self

    def __exit__(self, *exception: object) -> None:
        """End Java."""
        process, errors = self._process, self._errors
        self._process = self._errors = None
        if process is not None:
            process.kill()
            process.communicate()
        if errors is not None:
            errors.close()

    def score(self, caption: str, references: Sequence[str]) -> float:
        """METEOR of one caption against its references, in [0, 1]; the best reference counts. No words: 0.

        Raises:
            BadInputError: No references, or Java ended early or wrote something else; the message has its last words.
        """
        said, wanted = _field(caption), [field for field in map(_field, references) if field]
        if not wanted:
            raise BadInputError("references: got none with words, allowed: one or more per picture; add them")
        if not said:
            return 0.0
        statistics = self._ask(" ||| ".join(("SCORE", *wanted, said)))
        self._send(f"EVAL ||| {statistics}")
        score = self._read()
        self._read()  # the score of all pictures of this EVAL: the same one
        try:
            return float(score)
        except ValueError as error:
            raise BadInputError(self._failure(score)) from error

    def _ask(self, line: str) -> str:
        self._send(line)
        return self._read()

    def _send(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            raise BadInputError("METEOR is not running; use it as a context manager: with Meteor() as meteor")
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise BadInputError(self._failure("")) from error

    def _read(self) -> str:
        line = self._process.stdout.readline() if self._process is not None and self._process.stdout else ""
        if not line.strip():
            raise BadInputError(self._failure(line))
        return line.strip()

    def _failure(self, line: str) -> str:
        tail = ""
        if self._errors is not None:
            self._errors.seek(0)
            tail = self._errors.read().decode("utf-8", "replace").strip()[-300:]
        return (
            f"METEOR's Java program answered {line!r} instead of a score, and said: {tail or 'nothing'}. It needs "
            "Java 8 or later and 2 GiB of memory; make room, or leave METEOR and MaxMETEOR out."
        )


def penn_words(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Each text's words as the COCO caption evaluation cuts them: Penn Treebank, lower-case, no punctuation.

    Raises:
        MissingExtraError: ``pycocoevalcap`` is not installed.
        BadInputError: There is no Java on this machine, or it failed.
    """
    jar = caption_package().joinpath(*_TOKENIZER)
    command = [_java(), "-cp", jar.name, "-Dfile.encoding=UTF-8", "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    lines = "".join(" ".join(text.split()) + "\n" for text in texts)
    done = subprocess.run(  # noqa: S603  (no shell, our own arguments)
        command, cwd=jar.parent, input=lines.encode("utf-8", "replace"), capture_output=True, check=False
    )
    # Not splitlines(): only "\n" separates texts.
    cut = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(cut) != len(texts):
        tail = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise BadInputError(
            f"the Java tokenizer gave {len(cut)} lines for {len(texts)} texts (exit status {done.returncode}): {tail}. "
            "It needs Java 8 or later; install one, or leave BLEU_4, ROUGE_L and CIDEr out."
        )
    return tuple(tuple(word for word in line.split() if word not in _PUNCTUATION) for line in cut)


def caption_package() -> Path:
    """The folder of ``pycocoevalcap``.

    Raises:
        MissingExtraError: It is not installed.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("pycocoevalcap", "quality")
    return Path(next(iter(spec.submodule_search_locations)))


def _java() -> str:
    java = which("java")
    if java is None:
        raise BadInputError(
            "METEOR and the COCO tokenizer are Java programs: got no `java` on the PATH, allowed: Java 8 or later; "
            "install one (Debian and Ubuntu: apt install default-jre-headless), or leave caption utility out."
        )
    return java


def _field(text: str) -> str:
    """One field of METEOR's line protocol: one line, no separator."""
    return " ".join(text.replace("|||", " ").encode("utf-8", "replace").decode().split())
