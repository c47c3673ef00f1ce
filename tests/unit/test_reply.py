"""What a sender hears, and when; and what the pages of status tell."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, cast

import h11
import pytest
from attrs import evolve, frozen
from unit.actors import Sender, Stage
from unit.test_connection import Connection

from beam.errors import (
    BadRequest,
    BeamError,
    Claimed,
    Draining,
    Established,
    Forwarded,
    ForwardFailed,
    Gone,
    KeyInUse,
    KeyTooLong,
    MalformedForm,
    MethodNotAllowed,
    MissingKey,
    NoFile,
    NoReceiver,
    NotFound,
    Outcome,
    PartRefused,
    ReceiversDiffer,
    Reserved,
    ServiceWorkerRefused,
    StoreFull,
    TooLarge,
    TooManyReceivers,
    Unavailable,
    Underway,
)
from beam.interfaces import IForwardTarget, ISpool
from beam.options import SendOptions
from beam.policy import Policy, Reply
from beam.profiles import policy_of
from beam.transfer import Forward, Span, State, Transfer
from beam.web.reply import MOMENT, success, verdict
from beam.web.resource import Root
from beam.web.scope import Scope
from beam.web.site import BeamSite
from beam.web.status import EVERY, download_of, status_of, upload_of
from beam.web.words import WORDS

BEAT = 25.0
WAITING = "[INFO] Waiting for 1 receiver(s)..."
CAME = "[INFO] A receiver was connected."
BEGUN = "[INFO] Start sending to 1 receiver(s)!"
WHOLE = "[INFO] Sent successfully!"
LEFT = "[INFO] A receiver aborted."
RECEIVED = "[INFO] All receiver(s) was/were received successfully."
ABORTED = "[INFO] All receiver(s) was/were aborted halfway."


@frozen
class Heard:
    """What of an answer has come.

    :ivar whole: whether its framing says that this was all.
    """

    status: int
    headers: Mapping[str, str]
    text: str
    whole: bool

    @property
    def lines(self) -> list[str]:
        """The lines of its body."""
        return self.text.splitlines()


class Client(Connection):
    """A client of one scope, which asks one thing."""

    def __init__(self, site: BeamSite, method: str, path: str, version: str = "1.1", **headers: str) -> None:
        super().__init__(site)
        self.method = method
        self.ask(
            f"{method} {path} HTTP/{version}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        )

    def send(self, data: bytes) -> None:
        """More of its body."""
        self.protocol.dataReceived(data)

    @property
    def heard(self) -> Heard:
        """What has come back, as another implementation of HTTP reads it."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=self.method, target="/", headers=[("Host", "beam.test")]))
        parser.receive_data(self.answer)
        if self.is_closing:
            parser.receive_data(b"")
        head: h11.Response | None = None
        body, whole = b"", False
        while not whole:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                break
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                whole = isinstance(event, h11.EndOfMessage)
                if not whole:
                    break
        assert head is not None, "no final answer has begun"
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Heard(head.status_code, headers, body.decode(), whole)


class House:
    """A site of one scope, whose clock stands still until it is told."""

    def __init__(self, policy: Policy, prefix: str = "", keeps: bool = False) -> None:
        self.stage = Stage(policy)
        self.prefix = prefix
        if keeps:
            self.stage.broker.stores = {"disk": self.stage.keeping}
        self.scope = Scope(prefix, self.stage.broker)
        self.site = BeamSite(Root(self.scope, ()), self.stage.clock, header_timeout=10, max_connections=50, channels={})
        self.clients: list[Client] = []

    def ask(self, method: str, path: str, version: str = "1.1", **headers: str) -> Client:
        """A request."""
        client = Client(self.site, method, self.prefix + path, version, **headers)
        self.clients.append(client)
        return client

    def put(self, n: int = 5, path: str = "/k", version: str = "1.1", **headers: str) -> Client:
        """A sender of ``n`` bytes, none of which have come yet."""
        return self.ask("PUT", path, version, Content_Length=str(n), **headers)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.stage.wait(seconds)

    @property
    def outcomes(self) -> list[Outcome | None]:
        """How the transfers ended."""
        return self.stage.outcomes()

    def close(self) -> None:
        """Everybody leaves; nothing is left of it."""
        for client in self.clients:
            client.lose()
        assert len(self.stage.broker.deadlines) == 0
        assert self.stage.clock.getDelayedCalls() == []
        assert self.stage.memory.used == 0


def piping(**knobs: Any) -> House:
    """A house with the profile that answers early."""
    return House(evolve(policy_of("piping", {}), **knobs))


# An answer that begins at once.


def test_a_line_for_each_thing_that_happens() -> None:
    """The head and the first line come at once, the others as it goes; the end is clean."""
    house = piping()
    sender = house.put()
    heard = [WAITING]
    assert (sender.heard.status, sender.heard.lines, sender.heard.whole) == (200, heard, False)
    assert sender.heard.headers["content-type"] == "text/plain"
    assert sender.heard.headers["x-content-type-options"] == "nosniff"
    receiver = house.ask("GET", "/k")
    heard += [CAME, BEGUN]
    assert sender.heard.lines == heard
    sender.send(b"hel")
    assert sender.heard.lines == heard and not sender.heard.whole
    sender.send(b"lo")
    heard += [WHOLE, RECEIVED]
    assert (sender.heard.lines, sender.heard.whole) == (heard, True)
    assert receiver.heard.text == "hello" and house.outcomes == [Outcome.DELIVERED]
    house.close()


def test_receivers_that_are_there_first() -> None:
    """They are counted once, not told of one by one; it starts as soon as the sender is there."""
    house = piping()
    house.ask("GET", "/k")
    sender = house.put()
    sender.send(b"hello")
    there = "[INFO] 1 receiver(s) has/have been connected."
    assert sender.heard.lines == [WAITING, there, BEGUN, WHOLE, RECEIVED]
    house.close()


def test_a_company_of_receivers() -> None:
    """The number that was asked for is in the lines."""
    house = piping()
    house.ask("GET", "/k?n=3")
    sender = house.put(path="/k?n=3")
    for _ in range(2):
        assert not any("Start" in line for line in sender.heard.lines)
        house.ask("GET", "/k?n=3")
    sender.send(b"hello")
    waiting, there = "[INFO] Waiting for 3 receiver(s)...", "[INFO] 1 receiver(s) has/have been connected."
    begun = "[INFO] Start sending to 3 receiver(s)!"
    assert sender.heard.lines == [waiting, there, CAME, CAME, begun, WHOLE, RECEIVED]
    assert [client.heard.text for client in house.clients if client is not sender] == ["hello"] * 3
    house.close()


def test_a_body_that_is_whole_before_the_receiver() -> None:
    """That it was sent is said when it is: behind the start."""
    house = piping()
    sender = house.put()
    sender.send(b"hello")
    assert sender.heard.lines == [WAITING]
    house.ask("GET", "/k")
    assert sender.heard.lines == [WAITING, CAME, BEGUN, WHOLE, RECEIVED]
    house.close()


@pytest.mark.parametrize("sent", [b"", b"hello"], ids=["coming", "whole"])
def test_it_says_now_and_then_that_it_waits(sent: bytes) -> None:
    """So that no proxy takes the connection for a dead one; never once it has begun, nor behind the end."""
    house = piping()
    sender = house.put()
    sender.send(sent)
    for beats in range(1, 4):
        house.wait(BEAT - 1)
        assert sender.heard.lines == [WAITING] * beats
        house.wait(1)
        assert sender.heard.lines == [WAITING] * (beats + 1)
    house.ask("GET", "/k")
    told = [WAITING] * 4 + [CAME, BEGUN]
    if not sent:
        house.wait(4 * BEAT)
        assert sender.heard.lines == told
        sender.send(b"hello")
    house.wait(4 * BEAT)
    assert sender.heard.lines == [*told, WHOLE, RECEIVED]
    house.close()


def test_how_often_it_says_so() -> None:
    """As the operator wants it."""
    house = piping(heartbeat=2)
    sender = house.put()
    house.wait(7)
    assert sender.heard.lines == [WAITING] * 4
    house.ask("GET", "/k")
    sender.send(b"hello")
    house.close()


def test_a_failure_breaks_the_answer_off() -> None:
    """The last line has the reason, and the framing shows that something is missing."""
    house = piping(put_wait=30)
    sender = house.put()
    house.wait(30)
    heard = sender.heard
    assert heard.lines[:2] == [WAITING] * 2 and len(heard.lines) == 3
    assert heard.lines[2].startswith("[ERROR] No receiver came within 30 seconds")
    assert sender.is_closing and not heard.whole
    house.wait(2 * BEAT)
    assert sender.heard == heard
    house.close()


def test_a_failure_while_it_is_served() -> None:
    """The same, and the receiver is cut."""
    house = piping(max_pipe_size=6)
    receiver, sender = house.ask("GET", "/k"), house.ask("PUT", "/k", Transfer_Encoding="chunked")
    sender.send(b"5\r\nhello\r\n2\r\n!!\r\n")
    assert sender.heard.lines[-1] == "[ERROR] The file is larger than the 6 bytes that this server takes."
    assert sender.is_closing and not sender.heard.whole
    assert receiver.is_closing and not receiver.heard.whole
    house.close()


def test_every_receiver_leaves() -> None:
    """That is said, and is no failure of the sender's: the answer ends cleanly."""
    house = piping()
    receiver, sender = house.ask("GET", "/k"), house.put()
    sender.send(b"hel")
    receiver.lose()
    house.clients.remove(receiver)
    house.wait(1)
    assert house.outcomes == [Outcome.RECEIVER_LOST]
    assert (sender.heard.lines[2:], sender.heard.whole) == ([BEGUN, LEFT, ABORTED], False)
    house.wait(1)
    assert (sender.heard.lines[2:], sender.heard.whole) == ([BEGUN, LEFT, ABORTED], True)
    house.close()


@pytest.mark.parametrize("sent", [b"", b"hello"], ids=["coming", "whole"])
@pytest.mark.parametrize("continued", [False, True])
def test_a_sender_that_leaves_while_it_waits(sent: bytes, continued: bool) -> None:
    """Nothing of its answer is left: no line is written to it later."""
    house = piping()
    sender = house.put(Expect="100-continue") if continued else house.put()
    sender.send(sent)
    house.wait(3)
    sender.lose()
    assert house.outcomes == [Outcome.SENDER_LOST]
    house.clients.remove(sender)
    house.close()


# Behind a 100 Continue.


def test_an_answer_behind_a_continue() -> None:
    """It begins a moment later, with all that has happened meanwhile."""
    house = piping()
    house.ask("GET", "/k")
    sender = house.put(Expect="100-continue")
    assert sender.answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    house.wait(MOMENT / 2)
    sender.send(b"hel")
    assert sender.answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    house.wait(MOMENT / 2)
    heard = [WAITING, "[INFO] 1 receiver(s) has/have been connected.", BEGUN]
    assert (sender.heard.status, sender.heard.lines, sender.heard.whole) == (200, heard, False)
    house.wait(4 * BEAT)
    sender.send(b"lo")
    assert (sender.heard.lines, sender.heard.whole) == ([*heard, WHOLE, RECEIVED], True)
    house.close()


def test_it_waits_on_behind_a_continue() -> None:
    """The lines that say so come as they do without."""
    house = piping()
    sender = house.put(Expect="100-continue")
    house.wait(MOMENT + 2 * BEAT)
    assert sender.heard.lines == [WAITING] * 3
    house.ask("GET", "/k")
    sender.send(b"hello")
    assert sender.heard.lines == [WAITING] * 3 + [CAME, BEGUN, WHOLE, RECEIVED]
    house.close()


def test_what_is_over_in_a_moment() -> None:
    """It has one answer, with everything."""
    house = piping()
    house.ask("GET", "/k")
    sender = house.put(Expect="100-continue")
    sender.send(b"hello")
    heard = sender.heard
    assert (heard.status, heard.whole) == (200, True)
    assert heard.lines == [WAITING, "[INFO] 1 receiver(s) has/have been connected.", BEGUN, WHOLE, RECEIVED]
    house.wait(2 * BEAT)
    assert sender.heard == heard
    house.close()


@pytest.mark.parametrize("expects", [True, False])
def test_an_answer_that_lets_the_body_come_first(expects: bool) -> None:
    """It begins when the body is whole, or after the time that the operator gave it."""
    house = piping(early_after=5)
    quick = house.put(Expect="100-continue") if expects else house.put()
    slow = house.put(path="/slow")
    house.wait(4.5)
    assert b"HTTP/1.1 200" not in quick.answer + slow.answer
    quick.send(b"hello")
    assert (quick.heard.status, quick.heard.lines) == (200, [WAITING])
    house.wait(0.5)
    assert (slow.heard.status, slow.heard.lines) == (200, [WAITING])
    for path, sender in (("/k", quick), ("/slow", slow)):
        house.ask("GET", path)
        if sender is slow:
            sender.send(b"hello")
        assert sender.heard.lines == [WAITING, CAME, BEGUN, WHOLE, RECEIVED] and sender.heard.whole
    house.close()


def test_an_answer_that_waits_for_the_body() -> None:
    """However long it takes; what fails before has the status of its error."""
    house = piping(early_after=inf, put_wait=100)
    sender, failing = house.put(), house.put(path="/fails")
    house.wait(90)
    assert sender.answer == failing.answer == b""
    house.ask("GET", "/k")
    sender.send(b"hello")
    assert sender.heard.lines == [WAITING, CAME, BEGUN, WHOLE, RECEIVED] and sender.heard.whole
    house.wait(10)
    assert failing.heard.status == 504
    house.close()


def test_what_fails_in_a_moment() -> None:
    """Its status says so, because none has been sent."""
    house = piping(max_pipe_size=4)
    sender = house.ask("PUT", "/k", Transfer_Encoding="chunked", Expect="100-continue")
    sender.send(b"5\r\nhello\r\n")
    assert (sender.heard.status, sender.heard.whole) == (413, True)
    assert sender.heard.text == "[ERROR] The file is larger than the 4 bytes that this server takes.\n"
    house.close()


# To HTTP/1.0.


def test_an_answer_to_http_1_0() -> None:
    """It knows no chunks: one answer with everything, at the end."""
    house = piping()
    sender = house.put(version="1.0")
    house.wait(3 * BEAT)
    house.ask("GET", "/k")
    sender.send(b"hel")
    assert sender.answer == b""
    sender.send(b"lo")
    heard = sender.heard
    assert (heard.status, heard.whole, heard.lines) == (200, True, [WAITING, CAME, BEGUN, WHOLE, RECEIVED])
    assert heard.headers["content-length"] == str(len(heard.text))
    house.close()


def test_a_failure_told_to_http_1_0() -> None:
    """It has the status of its error."""
    house = piping(put_wait=3)
    sender = house.put(version="1.0")
    house.wait(3)
    assert sender.heard.status == 504
    assert sender.heard.text.startswith("[ERROR] No receiver came within 3 seconds")
    house.close()


def test_receivers_that_leave_told_to_http_1_0() -> None:
    """The lines say what became of it."""
    house = piping()
    receiver, sender = house.ask("GET", "/k"), house.put(version="1.0")
    sender.send(b"hel")
    receiver.lose()
    house.clients.remove(receiver)
    house.wait(1)
    assert sender.heard.lines[2:] == [BEGUN, LEFT, ABORTED]
    house.close()


def test_one_of_two_receivers_that_leaves() -> None:
    """The sender does not hear that all have it."""
    house = piping()
    stays, leaves = house.ask("GET", "/k?n=2"), house.ask("GET", "/k?n=2")
    sender = house.put(path="/k?n=2")
    sender.send(b"hel")
    leaves.lose()
    house.clients.remove(leaves)
    sender.send(b"lo")
    assert stays.heard.text == "hello"
    assert sender.heard.lines[-1] == "[INFO] delivered 5 bytes to 1 receiver, 1 left early"
    house.close()


# One answer, at the end.


@pytest.mark.parametrize(
    ("profile", "status", "text"),
    [
        ("beam", 200, "delivered 5 bytes to 1 receiver\n"),
        ("hold", 200, "Upload completed successfully\n"),
        ("claim", 200, "stored 5 bytes, to be claimed once\n"),
    ],
)
def test_the_answer_to_a_sender_whose_file_is_held(profile: str, status: int, text: str) -> None:
    """In the words of its profile, when it is delivered or buffered."""
    house = House(policy_of(profile, {}))
    sender = house.put()
    assert sender.answer == b""
    sender.send(b"hello")
    assert (sender.answer == b"") is (house.scope.policy.reply is Reply.END)
    receiver = house.ask("GET", "/k")
    if receiver.heard.status == 307:
        receiver = house.ask("GET", receiver.heard.headers["location"])
    assert receiver.heard.text == "hello"
    assert (sender.heard.status, sender.heard.text, sender.heard.whole) == (status, text, True)
    house.close()


@pytest.mark.parametrize(
    ("profile", "status", "text", "location"),
    [("beam", 201, "stored 5 bytes, kept for 7 s\n", "/p/a%20b"), ("drop", 200, "", None)],
)
def test_the_answer_to_a_sender_whose_file_is_kept(profile: str, status: int, text: str, location: str | None) -> None:
    """Where it is has the prefix of its scope, unless the profile tells nothing."""
    house = House(policy_of(profile, {"put_ttl": 7}), "/p", keeps=True)
    sender = house.put(path="/a%20b")
    sender.send(b"hello")
    heard = sender.heard
    assert (heard.status, heard.text, heard.headers.get("location")) == (status, text, location)
    house.wait(7)
    assert house.outcomes == [Outcome.STORED] and sender.heard == heard
    house.close()


def test_the_answer_has_the_digest_that_was_asked_for() -> None:
    """RFC 9530."""
    house = House(Policy())
    house.ask("GET", "/k")
    sender = house.put(path="/k?digest=sha-256")
    sender.send(b"hello")
    digest = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    assert sender.heard.headers["repr-digest"] == digest
    house.close()


def test_the_answer_to_a_sender_that_failed() -> None:
    """The status and the sentence of its error."""
    house = House(Policy(put_wait=3))
    sender = house.put()
    house.wait(3)
    assert sender.heard.status == 504 and sender.heard.text.startswith("No receiver came within 3 seconds")
    house.close()


class Bucket:
    """A target; only its name matters here."""

    name = "bucket.example"


def a_transfer(keeps: bool = False, outcome: Outcome | None = Outcome.DELIVERED, **fields: object) -> Transfer:
    """A transfer of 5 bytes that has ended so."""
    transfer = Transfer(
        key="k",
        options=cast(SendOptions, fields.pop("options", SendOptions())),
        etag='"e"',
        started=0,
        state=State.KEPT if keeps else State.HELD,
        spool=cast(ISpool, None),
        keeps=keeps,
        length=5,
        outcome=outcome,
    )
    for name, value in fields.items():
        setattr(transfer, name, value)
    return transfer


def a_forward(error: ForwardFailed | None = None, best_effort: bool = False) -> Forward:
    """A forward that has ended."""
    forward = Forward(cast(IForwardTarget, Bucket()), best_effort=best_effort)
    forward.outcome, forward.error = Forwarded.FORWARDED if error is None else error.how, error
    return forward


NO = ForwardFailed("The forward target said no.", Forwarded.REFUSED)
KEPT_FOR_7 = SendOptions(ttl=7)


@pytest.mark.parametrize(
    ("transfer", "text"),
    [
        (a_transfer(deliveries=1), "delivered 5 bytes to 1 receiver"),
        (a_transfer(deliveries=2), "delivered 5 bytes to 2 receivers"),
        (a_transfer(deliveries=2, left=1), "delivered 5 bytes to 2 receivers, 1 left early"),
        (
            a_transfer(deliveries=1, left=1, forward=a_forward()),
            "delivered 5 bytes to 1 receiver, 1 left early, forwarded to bucket.example",
        ),
        (a_transfer(forward=a_forward()), "forwarded 5 bytes to bucket.example"),
        (a_transfer(outcome=None), "stored 5 bytes, to be claimed once"),
        (a_transfer(outcome=None, claimed_at="k", left=1), "stored 5 bytes, claimed"),
        (
            a_transfer(outcome=None, forward=a_forward()),
            "stored 5 bytes, to be claimed once, forwarded to bucket.example",
        ),
        (a_transfer(keeps=True, outcome=None), "stored 5 bytes, kept for 30 s"),
        (a_transfer(keeps=True, outcome=None, left=1), "stored 5 bytes, kept for 30 s"),
        (a_transfer(keeps=True, outcome=None, options=KEPT_FOR_7), "stored 5 bytes, kept for 7 s"),
        (
            a_transfer(keeps=True, outcome=None, forward=a_forward()),
            "stored 5 bytes, kept for 30 s, forwarded to bucket.example",
        ),
    ],
)
def test_what_was_done(transfer: Transfer, text: str) -> None:
    """In words that a person understands."""
    assert success(transfer, Policy()) == text
    assert verdict(transfer, Policy()) == (None, text)


def test_the_verdict_on_a_forward_that_failed() -> None:
    """It is an error with what was done all the same, unless it was a best effort."""
    error, _ = verdict(a_transfer(deliveries=1, forward=a_forward(NO)), Policy())
    assert isinstance(error, ForwardFailed)
    assert error.sentence == "The forward target said no. But this server delivered 5 bytes to 1 receiver."
    error, done = verdict(a_transfer(deliveries=1, forward=a_forward(NO, best_effort=True)), Policy())
    assert error is None
    assert done == "delivered 5 bytes to 1 receiver, not forwarded: The forward target said no"


def test_the_verdict_on_what_failed() -> None:
    """The error itself, whatever was done until then."""
    failed = NoReceiver("Nobody came.")
    transfer = a_transfer(outcome=Outcome.EXPIRED, error=failed, forward=a_forward(NO))
    assert verdict(transfer, Policy()) == (failed, "")


# Words.


class Stranger(Underway):
    """An error of which no table has heard."""


@pytest.mark.parametrize(
    ("words", "kind", "status", "text"),
    [
        ("beam", NotFound, 404, "S"),
        ("beam", Established, 409, "S"),
        ("beam", StoreFull, 507, "S"),
        ("beam", BeamError, 500, "S"),
        ("hold", NotFound, 404, "No active upload stream for this file"),
        ("hold", Established, 404, "No active upload stream for this file"),
        ("hold", KeyInUse, 409, "An upload is already in progress for this filename"),
        ("hold", Underway, 409, "An upload is already in progress for this filename"),
        ("hold", Stranger, 409, "An upload is already in progress for this filename"),
        ("hold", TooLarge, 413, "S"),
        ("drop", NotFound, 404, "key not found"),
        ("drop", KeyInUse, 409, "key already exists"),
        ("drop", Underway, 409, "key already exists"),
        ("drop", MissingKey, 400, "missing key in path"),
        ("drop", KeyTooLong, 400, "key exceeds 512 bytes"),
        ("drop", BadRequest, 400, "S"),
        ("drop", MethodNotAllowed, 405, "only PUT and GET are supported"),
        ("drop", NoFile, 400, "multipart body contains no fields"),
        ("drop", MalformedForm, 400, "multipart parse error: S"),
        ("drop", StoreFull, 503, "disk quota exceeded, try again later"),
        ("drop", Draining, 503, "server is draining"),
        ("drop", Unavailable, 503, "S"),
        ("piping", BeamError, 500, "[ERROR] S"),
        ("piping", NotFound, 404, "[ERROR] S"),
        ("piping", KeyInUse, 400, "[ERROR] Another sender has been connected on '/p'."),
        ("piping", Underway, 400, "[ERROR] Connection on '/p' has been established already."),
        ("piping", Stranger, 400, "[ERROR] Connection on '/p' has been established already."),
        ("piping", Established, 400, "[ERROR] Connection on '/p' has been established already."),
        ("piping", ReceiversDiffer, 400, "[ERROR] S"),
        ("piping", TooManyReceivers, 400, "[ERROR] S"),
        ("piping", Reserved, 400, "[ERROR] Cannot send to the reserved path '/p'. (e.g. '/mypath123')"),
        ("piping", MethodNotAllowed, 405, "[ERROR] Unsupported method: PUT."),
        ("piping", PartRefused, 400, "[ERROR] Content-Range is not supported for now in PUT"),
        ("piping", ServiceWorkerRefused, 400, "[ERROR] Service Worker registration is rejected."),
        ("claim", NotFound, 404, "Not found"),
        ("claim", Gone, 410, "S"),
        ("claim", Claimed, 410, "File already downloaded"),
        ("claim", Established, 410, "File already downloaded"),
        ("claim", KeyInUse, 409, "S"),
    ],
)
def test_words(words: str, kind: type[BeamError], status: int, text: str) -> None:
    """The nearest class that the table knows has the word; what it does not know is said as beam says it."""
    assert WORDS[words].of(kind("S"), "/p", "PUT") == (status, text)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("text", ["a {b} c", "{sentence}", "{", "}", "%s"])
def test_words_take_any_sentence_and_path(words: str, text: str) -> None:
    """Whatever stands in a path or a sentence is not taken for a place in a text."""
    table = WORDS[words]
    for kind in (BeamError, KeyInUse, MalformedForm, Reserved):
        _, said = table.of(kind(text), text, text)
        if table.errors.get(kind) in (None, WORDS["beam"].errors[BeamError]) and words != "piping":
            assert said == text
        else:
            assert text in said or kind is KeyInUse


@pytest.mark.parametrize("words", WORDS)
def test_there_is_a_word_for_every_error(words: str) -> None:
    """So that none goes without an answer."""
    assert BeamError in WORDS[words].errors


# What becomes of a transfer.


def waits(stage: Stage, sender: Sender) -> None:
    """Some of it has come."""
    sender.send(30)


def is_whole(stage: Stage, sender: Sender) -> None:
    """All of it has come."""
    sender.send()
    sender.finish()


def flows(stage: Stage, sender: Sender) -> None:
    """A receiver has some of it."""
    stage.receive(eager=False)
    sender.send(30)
    stage.receivers[-1].take(20)


def ends(stage: Stage, sender: Sender) -> None:
    """The receiver has not all yet."""
    flows(stage, sender)
    sender.send()
    sender.finish()


def is_forsaken(stage: Stage, sender: Sender) -> None:
    """The receiver has left."""
    flows(stage, sender)
    stage.receivers[-1].leave()


def is_stranded(stage: Stage, sender: Sender) -> None:
    """The receiver has left when all had come."""
    ends(stage, sender)
    stage.receivers[-1].leave()


def is_resumed(stage: Stage, sender: Sender) -> None:
    """The receiver has come back."""
    is_stranded(stage, sender)
    stage.receive(span=Span(20), eager=False).take(5)


def is_delivered(stage: Stage, sender: Sender) -> None:
    """The receiver has all."""
    ends(stage, sender)
    stage.receivers[-1].take()


def is_lost(stage: Stage, sender: Sender) -> None:
    """The sender has left."""
    flows(stage, sender)
    sender.leave()


def expires(stage: Stage, sender: Sender) -> None:
    """Nobody came for all of it."""
    is_whole(stage, sender)
    stage.wait(20)


def loses_its_receiver(stage: Stage, sender: Sender) -> None:
    """It did not come back."""
    is_stranded(stage, sender)
    stage.wait(6)


@pytest.mark.parametrize(
    ("happens", "state", "upload", "download", "received", "sent"),
    [
        (waits, State.WAITING, "InProgress", "NotStarted", 30, 0),
        (is_whole, State.HELD, "Complete", "NotStarted", 50, 0),
        (flows, State.FLOWING, "InProgress", "InProgress", 30, 20),
        (ends, State.ENDING, "Complete", "InProgress", 50, 20),
        (is_forsaken, State.FORSAKEN, "InProgress", "Paused", 30, 20),
        (is_stranded, State.STRANDED, "Complete", "Paused", 50, 20),
        (is_resumed, State.ENDING, "Complete", "InProgress", 50, 25),
        (is_delivered, Outcome.DELIVERED, "Complete", "Complete", 50, 50),
        (is_lost, Outcome.SENDER_LOST, "Failed", "Failed", 30, 20),
        (expires, Outcome.EXPIRED, "Complete", "Failed", 50, 0),
        (loses_its_receiver, Outcome.RECEIVER_LOST, "Complete", "Failed", 50, 20),
    ],
)
def test_the_status_of_a_transfer(
    happens: Callable[[Stage, Sender], None],
    state: State | Outcome,
    upload: str,
    download: str,
    received: int,
    sent: int,
) -> None:
    """How far its sender and its receiver are."""
    stage = Stage()
    sender = stage.offer(n=50)
    happens(stage, sender)
    transfer = sender.transfer
    assert (transfer.outcome or transfer.state) == state
    assert (upload_of(transfer), download_of(transfer)) == (upload, download)
    line = status_of(Scope("", stage.broker), transfer)
    assert line.endswith("}\n") and line.count("\n") == 1
    status = json.loads(line)
    created = datetime.fromisoformat(status.pop("created"))
    assert abs(datetime.now(UTC).timestamp() - stage.now - created.timestamp()) < 100
    assert status == {
        "file_name": "",
        "path": "k",
        "file_size": 50,
        "received": received,
        "sent": sent,
        "upload": upload,
        "download": download,
    }
    stage.broker.stop()


def test_the_status_of_a_form_whose_file_has_not_begun() -> None:
    """Neither its name nor its size is known."""
    stage = Stage()
    sender = stage.send(known=False)
    status = json.loads(status_of(Scope("", stage.broker), sender.transfer))
    assert (status["file_name"], status["file_size"], status["upload"]) == ("", None, "InProgress")
    stage.broker.stop()


def claiming() -> House:
    """A house with the profile that tells of status."""
    return House(policy_of("claim", {}))


@pytest.mark.parametrize("at", ["key", "address"])
def test_a_status_is_found_before_and_behind_the_claim(at: str) -> None:
    """At the key and at the address alike, and always with the path that the sender knows."""
    house = claiming()
    house.put(path="/a.txt").send(b"hello")
    assert json.loads(house.ask("GET", "/a.txt?status=true").heard.text)["download"] == "NotStarted"
    address = house.ask("GET", "/a.txt").heard.headers["location"]
    shown = house.ask("GET", ("/a.txt" if at == "key" else address) + "?status=true").heard
    assert shown.headers["content-type"] == "application/json"
    status = json.loads(shown.text)
    assert (status["path"], status["file_name"], status["received"]) == ("a.txt", "a.txt", 5)
    assert house.ask("GET", address).heard.text == "hello"
    behind = house.ask("GET", ("/a.txt" if at == "key" else address) + "?status=true").heard
    if at == "key":
        assert json.loads(behind.text)["download"] == "Complete"
    else:
        assert behind.status == 404
    house.close()


def test_the_status_of_nothing() -> None:
    """It is refused as a receiver would be."""
    house = claiming()
    for option in ("status", "stream"):
        assert (house.ask("GET", f"/k?{option}=true").heard.status) == 404
    house.close()


def test_a_stream_of_status() -> None:
    """A line at once, one every half second, and one that tells the end."""
    house = claiming()
    sender = house.put()
    watcher = house.ask("GET", "/k?stream=true")
    assert watcher.heard.headers["content-type"] == "application/x-ndjson"
    for lines in range(1, 4):
        assert len(watcher.heard.lines) == lines and not watcher.heard.whole
        house.wait(EVERY)
    sender.send(b"hello")
    address = house.ask("GET", "/k").heard.headers["location"]
    assert house.ask("GET", address).heard.text == "hello"
    house.wait(EVERY)
    assert watcher.heard.whole
    told = [json.loads(line) for line in watcher.heard.lines]
    assert [each["download"] for each in told] == ["NotStarted"] * 4 + ["Complete"]
    house.wait(5 * EVERY)
    assert len(watcher.heard.lines) == 5
    house.close()


def test_a_stream_of_what_fails() -> None:
    """The line of the failure is the last."""
    house = claiming()
    sender, watcher = house.put(), house.ask("GET", "/k?stream=true")
    sender.lose()
    house.clients.remove(sender)
    house.wait(EVERY)
    assert watcher.heard.whole
    last = json.loads(watcher.heard.lines[-1])
    assert (last["upload"], last["download"]) == ("Failed", "Failed")
    house.close()


def test_a_watcher_that_leaves() -> None:
    """Nothing is written to it any more, and the transfer goes on."""
    house = claiming()
    sender, watcher = house.put(), house.ask("GET", "/k?stream=true")
    watcher.lose()
    house.clients.remove(watcher)
    before = watcher.answer
    house.wait(3 * EVERY)
    assert watcher.answer == before and house.outcomes == []
    sender.lose()
    house.clients.remove(sender)
    house.close()


@pytest.mark.parametrize("knobs", [{}, {"idle_timeout": 300}])
def test_a_sender_that_is_silent_for_a_day(knobs: dict[str, float]) -> None:
    """A chat may be so, unless the operator says otherwise."""
    house = piping(**knobs)
    receiver, sender = house.ask("GET", "/k"), house.put()
    sender.send(b"hel")
    house.wait(86400 / 60)
    assert house.outcomes == ([Outcome.SENDER_IDLE] if knobs else [])
    if not knobs:
        sender.send(b"lo")
        assert receiver.heard.text == "hello"
    house.close()
