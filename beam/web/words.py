"""What is said: for each table of words, the sentences and statuses in which it differs from beam's own.

An error brings its sentence and its status; a table may have others for it.  The texts of a profile are those of the
system whose place it takes, because people have scripts that look for them.
"""

from collections.abc import Mapping

from attrs import frozen

from beam.errors import (
    BeamError,
    Claimed,
    Draining,
    Established,
    ForwardFailed,
    KeyInUse,
    KeyTooLong,
    MalformedForm,
    MethodNotAllowed,
    MissingKey,
    NoFile,
    NotFound,
    PartRefused,
    ReceiversDiffer,
    Reserved,
    ServiceWorkerRefused,
    StoreFull,
    TooManyReceivers,
    Underway,
    UnknownMethod,
)

PLAIN = "text/plain; charset=utf-8"


@frozen
class Word:
    """A sentence, with ``{sentence}`` for beam's own, ``{path}`` and ``{method}``; and a status, if it is another."""

    text: str = "{sentence}"
    status: int | None = None


@frozen
class Words:
    """A table.

    :param errors: what is said to an error, or to all of its class that have no word of their own.
    :param done: the answer to a sender whose file was stored or delivered, if it is not to be beam's.
    :param kind: media type of the sentences.
    :param problems: whether errors are told as RFC 9457 has it, whatever the client accepts.
    """

    errors: Mapping[type[BeamError], Word]
    done: str | None = None
    kind: str = PLAIN
    problems: bool = False

    def of(self, error: BeamError, path: str = "", method: str = "") -> tuple[int, str]:
        """The status and the sentence for ``error``."""
        word = next(self.errors[each] for each in type(error).__mro__ if each in self.errors)
        text = word.text.format(sentence=error.sentence, path=path, method=method)
        return word.status or error.status, text


OWN = {BeamError: Word()}
WORDS: Mapping[str, Words] = {
    "beam": Words(OWN),
    "files": Words(OWN, problems=True),
    "hold": Words(
        {
            **OWN,
            NotFound: Word("No active upload stream for this file"),
            Established: Word("No active upload stream for this file", 404),
            KeyInUse: Word("An upload is already in progress for this filename"),
        },
        done="Upload completed successfully\n",
    ),
    "drop": Words(
        {
            **OWN,
            NotFound: Word("key not found"),
            KeyInUse: Word("key already exists"),
            MissingKey: Word("missing key in path"),
            KeyTooLong: Word("key exceeds 512 bytes"),
            MethodNotAllowed: Word("only PUT and GET are supported"),
            UnknownMethod: Word("only PUT and GET are supported", 405),
            NoFile: Word("multipart body contains no fields"),
            MalformedForm: Word("multipart parse error: {sentence}"),
            StoreFull: Word("disk quota exceeded, try again later", 503),
            Draining: Word("server is draining"),
            ForwardFailed: Word("forward failed: {sentence}"),
        },
        done="",
    ),
    "piping": Words(
        {
            BeamError: Word("[ERROR] {sentence}"),
            KeyInUse: Word("[ERROR] Another sender has been connected on '{path}'.", 400),
            Underway: Word("[ERROR] Connection on '{path}' has been established already.", 400),
            Established: Word("[ERROR] Connection on '{path}' has been established already.", 400),
            ReceiversDiffer: Word("[ERROR] {sentence}", 400),
            TooManyReceivers: Word("[ERROR] {sentence}", 400),
            Reserved: Word("[ERROR] Cannot send to the reserved path '{path}'. (e.g. '/mypath123')"),
            MethodNotAllowed: Word("[ERROR] Unsupported method: {method}."),
            UnknownMethod: Word("[ERROR] Unsupported method: {method}.", 405),
            StoreFull: Word("[ERROR] {sentence}", 503),
            PartRefused: Word("[ERROR] Content-Range is not supported for now in {method}"),
            ServiceWorkerRefused: Word("[ERROR] Service Worker registration is rejected."),
        },
        kind="text/plain",
    ),
    "claim": Words(
        {
            **OWN,
            NotFound: Word("Not found"),
            Claimed: Word("File already downloaded"),
            Established: Word("File already downloaded", 410),
        },
    ),
}
