"""Other wordings of sentences, by a chat server. In: sentences, a server, a folder. Out: wordings of each.

Every answer is kept in ``wordings.json`` before the next question, so nothing is paid for twice and what was stopped
goes on. Which wordings there are follows from the answers alone; they are judged anew each time.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from evenhand.errors import BadInputError, ChangedRunError, CorruptLedgerError, ServiceError
from evenhand.ledger import seed_of
from evenhand.models.servers.replies import Reply
from evenhand.models.servers.seeds import sent_seed
from evenhand.records import Attribute
from evenhand.run_folder import RunFolder
from evenhand.shards import utf8
from evenhand.train.wording_rules import INSTRUCTION, judge, question_for

__all__ = ["TRIES", "WORDINGS", "AskingServer", "Reworded", "Rewording", "reword"]

WORDINGS = "wordings.json"
"""The file's name in a folder."""

TRIES = 4
"""Questions of each sentence at most."""

_FORMAT = 1


@runtime_checkable
class AskingServer(Protocol):
    """What answers a question, as ``models.chat_api.ChatServer``.

    Attributes:
        name: For messages.
        settings: JSON values that say who answers, without a key.
    """

    name: str
    settings: Mapping[str, object]

    def ask(self, question: str, seed: int) -> Reply:
        """The answer, of kind ``text``, or of kind ``refused`` or ``broken``."""
        ...


@dataclass(frozen=True, slots=True)
class Rewording:
    """What is asked for.

    Attributes:
        number: Wordings of each sentence, 1 to 50.
        server: Who is asked.
    """

    number: int
    server: AskingServer


@dataclass(frozen=True, slots=True)
class Reworded:
    """What came of it.

    Attributes:
        wordings: Sentence -> its other wordings.
        answers: How many are kept in the folder.
        refused: Why a text is no wording -> texts.
        lacking: Sentence -> how many wordings fewer than were asked for, where there are fewer.
    """

    wordings: Mapping[str, tuple[str, ...]]
    answers: int
    refused: Mapping[str, int] = field(default_factory=dict)
    lacking: Mapping[str, int] = field(default_factory=dict)


def reword(
    templates: Sequence[str], rewording: Rewording, attributes: Sequence[Attribute], out: str | Path, *, seed: int
) -> Reworded:
    """Ask for other wordings of each sentence, and keep what they are answered with.

    Args:
        templates: Sentences that name nobody, with the place ``{occupation}``.
        rewording: How many, and who is asked.
        attributes: Whose groups no wording may name.
        out: Folder of ``wordings.json``.
        seed: What the questions' seeds are made from.

    Raises:
        BadInputError: A number out of range.
        ChangedRunError: The folder's wordings were asked for in another way; nothing was asked.
        CorruptLedgerError: ``wordings.json`` is not what was written.
        LedgerBusyError: Another process asks for this folder.
        ServiceError: The server gave no answer, or not one wording that can be used.
    """
    if not 1 <= rewording.number <= 50:
        raise BadInputError(f"--wordings: got {rewording.number}; allowed: 1 to 50 of each sentence.")
    sentences = tuple(dict.fromkeys(templates))
    request = {
        **rewording.server.settings,
        "wordings": rewording.number,
        "seed": seed,
        "sentences": list(sentences),
        "groups": {one.name: list(one.groups) for one in attributes},
        "instruction": INSTRUCTION,
    }
    folder = RunFolder(out)
    folder.take_lock()
    try:
        answers = _Answers(folder, json.loads(json.dumps(request)))
        found = _gathered(sentences, rewording, attributes, answers, seed)
    finally:
        folder.release_lock()
    if not any(found.wordings.values()):
        why = ", ".join(f"{reason} {number}" for reason, number in found.refused.items())
        raise ServiceError(
            f"{rewording.server.name}: got {found.answers} answers and not one wording that can be used ({why}); "
            "allowed: a JSON array of texts that keep {occupation} and name no group. Ask another model (--chat-model) "
            "with another --out."
        )
    return found


def _gathered(
    sentences: Sequence[str], rewording: Rewording, attributes: Sequence[Attribute], answers: "_Answers", seed: int
) -> Reworded:
    taken = list(sentences)
    found: dict[str, tuple[str, ...]] = {}
    reasons: Counter[str] = Counter()
    for sentence in sentences:
        kept: list[str] = []
        refused: list[tuple[str, str]] = []
        for number in range(1, TRIES + 1):
            wanted = rewording.number - len(kept)
            if not wanted:
                break
            question = question_for(sentence, attributes, wanted, refused)
            sent = sent_seed(seed_of(f"wordings-{seed}", sentence, number))
            answer = answers.of(rewording.server, sentence, number, question, sent)
            if answer["answer"] is None:
                reasons[answer["problem"]] += 1
                continue
            judged = judge(answer["answer"], attributes, taken=taken, wanted=wanted)
            kept += judged.kept
            taken += judged.kept
            refused += judged.refused
        reasons.update(why for _, why in refused)
        found[sentence] = tuple(kept)
    answers.show(found)
    lacking = {one: rewording.number - len(kept) for one, kept in found.items() if len(kept) < rewording.number}
    return Reworded(found, len(answers.rows), dict(reasons.most_common()), lacking)


class _Answers:
    """``wordings.json``: the request, the answers, and the wordings they hold for people to read."""

    def __init__(self, folder: RunFolder, request: dict[str, Any]) -> None:
        self._folder, self._request = folder, request
        self._shown: Mapping[str, Sequence[str]] = {}
        self.rows: list[dict[str, Any]] = []
        if WORDINGS not in folder.names():
            return
        stored = _decoded(folder)
        changed = [key for key in {**stored["request"], **request} if stored["request"].get(key) != request.get(key)]
        if changed:
            told = "; ".join(
                f"{key}: {str(stored['request'].get(key))[:100]} in the folder, {str(request.get(key))[:100]} now"
                for key in changed
            )
            raise ChangedRunError(
                f"{folder.root}/{WORDINGS} was asked for in another way: {told}. Allowed: the same, to go on. Do: give "
                "another --out."
            )
        self.rows, self._shown = stored["answers"], stored["wordings"]

    def of(self, server: AskingServer, sentence: str, number: int, question: str, seed: int) -> dict[str, Any]:
        """The answer to a question, asked if it never was."""
        for row in self.rows:
            if (row["sentence"], row["try"]) == (sentence, number):
                return row
        reply = server.ask(question, seed)
        said = {"refused": "the server refused to answer", "broken": "no answer that can be read"}
        row = {
            "sentence": sentence,
            "try": number,
            "question": question,
            "seed": seed,
            "answer": None if reply.text is None else utf8(reply.text),
            "problem": said.get(reply.kind),
        }
        self.rows.append(row)
        self._write()
        return row

    def show(self, wordings: Mapping[str, Sequence[str]]) -> None:
        """Write the wordings beside the answers they follow from."""
        plain = {sentence: list(found) for sentence, found in wordings.items()}
        if plain != self._shown:
            self._shown = plain
            self._write()

    def _write(self) -> None:
        held = {"format": _FORMAT, "request": self._request, "wordings": self._shown, "answers": self.rows}
        content = json.dumps(held, indent=1, ensure_ascii=False).encode()
        self._folder.write(WORDINGS, content + b"\n")


def _decoded(folder: RunFolder) -> dict[str, Any]:
    """What the file holds.

    Raises:
        CorruptLedgerError: It is not what was written.
    """
    kinds = {"sentence": str, "try": int, "question": str, "seed": int, "answer": str | None, "problem": str | None}
    try:
        stored = json.loads(folder.read(WORDINGS))
        rows = stored["answers"]
        fine = stored["format"] == _FORMAT and isinstance(rows, list)
        fine = fine and isinstance(stored["request"], dict) and isinstance(stored["wordings"], dict)
        fine = fine and all(isinstance(row[key], kind) for row in rows for key, kind in kinds.items())
        fine = fine and all((row["answer"] is None) != (row["problem"] is None) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _corrupt(folder, f"{type(error).__name__}: {error}") from error
    if not fine:
        raise _corrupt(folder, "fields are absent or of another kind")
    found: dict[str, Any] = stored
    return found


def _corrupt(folder: RunFolder, problem: str) -> CorruptLedgerError:
    return CorruptLedgerError(
        f"{folder.root}/{WORDINGS} is not what was written: {problem}; restore it, or delete it: its wordings are then "
        "asked for, and paid for, again."
    )
