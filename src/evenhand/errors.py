"""Every error evenhand raises on purpose. In: nothing. Out: one tree, each also a builtin.

::

    EvenhandError
    ├── BadInputError (ValueError)            an argument, a file or a folder is not what was asked for
    │   ├── DivergedError                     training came apart: weights are no longer finite
    │   ├── LabelsError                       labels.csv is absent, or holds what the attribute does not declare
    │   └── PictureError                      a picture cannot be read, or is larger than allowed
    ├── UnknownNameError (LookupError)        no model, probe, attribute ... has this name
    ├── MissingExtraError (ImportError)       an optional dependency is absent
    ├── TooFewSamplesError (ValueError)       a statistic is undefined for the data given
    ├── ArtefactError (ValueError)            weights that are not ours, of a wrong shape, or not finite
    │   └── TokenizerMismatchError            token weights made for another tokenizer
    ├── LedgerError (RuntimeError)            a run folder cannot be used
    │   ├── ChangedRunError                   it was made with other settings or prompts
    │   ├── CorruptLedgerError                a file in it is not what its manifest says
    │   └── LedgerBusyError                   another process writes to it
    ├── ReportMismatchError (ValueError)      a number in a report is not the ledger's
    └── ServiceError (RuntimeError)           a server cannot be used, or gave no answer
        └── RefusedError                      it refuses to answer this prompt

Every message says what was wrong, what was got, what is allowed and what to do.
"""

__all__ = [
    "ArtefactError",
    "BadInputError",
    "ChangedRunError",
    "CorruptLedgerError",
    "DivergedError",
    "EvenhandError",
    "LabelsError",
    "LedgerBusyError",
    "LedgerError",
    "MissingExtraError",
    "PictureError",
    "RefusedError",
    "ReportMismatchError",
    "ServiceError",
    "TokenizerMismatchError",
    "TooFewSamplesError",
    "UnknownNameError",
]


class EvenhandError(Exception):
    """The base of every error raised on purpose; the command line prints it as one line and exits with 2."""


class BadInputError(EvenhandError, ValueError):
    """An argument, a file or a folder is not what was asked for."""


class LabelsError(BadInputError):
    """``labels.csv`` is absent, lacks a column, or holds a group the attribute does not declare."""


class PictureError(BadInputError):
    """A picture cannot be read, has a format that is not on the list, or is larger than allowed."""


class DivergedError(BadInputError):
    """Training came apart: weights are no longer finite, and nothing of them is stored."""


class UnknownNameError(EvenhandError, LookupError):
    """No model, probe, attribute or mitigation has this name; the message names near misses."""


class MissingExtraError(EvenhandError, ImportError):
    """An optional dependency is absent; the message is the command that installs it."""

    def __init__(self, needs: str, extra: str) -> None:
        super().__init__(f"{needs} is not installed. Run: pip install 'evenhand[{extra}]'")
        self.needs, self.extra = needs, extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.needs, self.extra)


class TooFewSamplesError(EvenhandError, ValueError):
    """A statistic is undefined for the data given; never replaced by a silent 0."""


class ArtefactError(EvenhandError, ValueError):
    """Weights that are not ours, have a wrong shape, are not finite, or come as a pickle."""


class TokenizerMismatchError(ArtefactError):
    """Token weights were made for another tokenizer than the model's."""


class LedgerError(EvenhandError, RuntimeError):
    """A run folder cannot be used."""


class ChangedRunError(LedgerError):
    """A run folder was made with other settings or prompts; the message lists what differs."""


class CorruptLedgerError(LedgerError):
    """A file of a run folder is missing, truncated or not what was written."""


class LedgerBusyError(LedgerError):
    """Another process writes to this run folder."""


class ReportMismatchError(EvenhandError, ValueError):
    """A number shown in a report differs from what the ledger gives; the message lists them."""


class ServiceError(EvenhandError, RuntimeError):
    """A server cannot be used, or gave no answer after all retries; what it answered before is kept."""


class RefusedError(ServiceError):
    """A server refuses to answer a prompt, by its rules for contents."""
