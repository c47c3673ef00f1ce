"""A plain PUT that breaks off and is continued: receivers wait, and get the sender's bytes once each, in order."""

import contextlib
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.peers import LAST_CHUNK, Background, Curl, Peer, check_refusal, chunk
from contract.server import Relay, Server
from harness import until
from resume.support import (
    BODY,
    END_SENDER,
    begin,
    check_end,
    check_received,
    check_sent,
    content_range,
    go_on,
    is_cut,
    is_dismissed,
    offset,
    outcomes,
    receive,
    wait_for_offset,
)

Serve = Callable[..., Server]
each_end = pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
NOT_YET, COMPLETE = "?0", "?1"


# Breaking off, and coming back.


@each_end
def test_a_sender_that_breaks_off_comes_back(relay: Relay, key: str, end: Callable[[Peer], object]) -> None:
    """Its receivers see nothing of it but a pause, and HEAD says where to go on."""
    receivers = receive(relay, key)
    end(begin(relay, f"{key}?resume", BODY, 1_000_000))
    assert [receiver.take(1_000_000) for receiver in receivers] == [BODY[:1_000_000]] * len(receivers)
    assert receivers[0].hears_nothing()
    head = relay.ask("HEAD", key)
    assert (head["upload-offset"], head["upload-length"], head["upload-complete"]) == ("1000000", "3000000", NOT_YET)
    check_end(relay, go_on(relay, key, BODY, 1_000_000), receivers, BODY[1_000_000:])


def test_ten_breaks_at_any_byte(relay: Relay, key: str) -> None:
    """However often and wherever it breaks: the head that HEAD tells is where the receivers' bytes go on."""
    points = sorted(random.Random(key).sample(range(1, len(BODY)), 10))
    receivers = [Background(receiver.answer) for receiver in receive(relay, key)]
    sender = begin(relay, f"{key}?resume=20", BODY, points[0])
    for n, (here, there) in enumerate(zip(points, [*points[1:], len(BODY)], strict=True)):
        list(END_SENDER.values())[n % 3](sender)
        assert offset(relay, key) == here
        sender = go_on(relay, key, BODY, here, sent=there)
        if there < len(BODY):
            wait_for_offset(relay, key, there)
    for receiver in receivers:
        assert receiver.result().body == BODY
    check_sent(relay, sender, len(BODY))


def size_of(path: Path) -> int:
    """Bytes of a file that may not be there."""
    return path.stat().st_size if path.exists() else 0


def send_rest(relay: Relay, key: str, file: Path, *arguments: str) -> Curl:
    """What our users are told to do: ask for the offset, and continue there."""
    return relay.curl("-C", str(offset(relay, key)), *arguments, "--fail-with-body", "-T", file, relay.url(key))


def test_a_killed_curl_comes_back(relay: Relay, key: str, tmp_path: Path) -> None:
    """``kill -9`` of three sending curls, one after the other: the real receivers have the whole file."""
    file = tmp_path / "file"
    file.write_bytes(BODY * 3)
    size, outs = len(BODY) * 3, [tmp_path / str(i) for i in range(3 if relay.keeps else 1)]
    receivers = [relay.curl("-fo", out, relay.url(key)) for out in outs]
    relay.wait_for_waiters(len(outs))
    slowly = ("--limit-rate", "8M", "--fail-with-body")
    sender = relay.curl(*slowly, "-T", file, relay.url(f"{key}?resume=20"))
    relay.wait_for_offer(key)
    for point in (1_000_000, 2_500_000, 4_000_000):
        until(lambda point=point: size_of(outs[-1]) > point, "bytes flow")  # type: ignore[misc]
        assert sender.process.poll() is None, sender.done()
        sender.kill()
        relay.server.wait_for("active_downloads", len(outs))

        def goes_on() -> bool:
            nonlocal sender
            before = offset(relay, key)
            sender = send_rest(relay, key, file, *slowly)
            until(lambda: sender.process.poll() is not None or offset(relay, key) > before, "it goes on, or is refused")
            if sender.process.poll() is None:
                return True
            assert "Upload-Offset" in sender.done().out or sender.process.returncode == 22  # bytes were on their way
            return False

        until(goes_on, "the sender is back")
    done = sender.done()
    assert done.code == 0, done
    assert f" {size} bytes" in done.out
    for receiver, out in zip(receivers, outs, strict=True):
        assert receiver.done().code == 0
        assert out.read_bytes() == BODY * 3


def test_nothing_breaks(either: Relay, key: str) -> None:
    """A sender that might have come back, and does not need to, is an ordinary one."""
    receivers = receive(either, key)
    check_end(either, either.connect().put(f"{key}?resume", BODY), receivers, BODY)


def test_an_empty_file(either: Relay, key: str) -> None:
    """Has no byte to break at."""
    receivers = receive(either, key, 1)
    check_end(either, either.connect().put(f"{key}?resume", b""), receivers, b"", 0)


@each_end
def test_a_break_before_the_first_byte(either: Relay, key: str, end: Callable[[Peer], object]) -> None:
    """The offset is 0, and ``bytes 0-`` goes on with what is there."""
    receivers = receive(either, key)
    end(begin(either, f"{key}?resume", BODY, 0))
    check_end(either, go_on(either, key, BODY, 0), receivers, BODY)


def test_the_address_of_the_first_request_continues_too(either: Relay, key: str) -> None:
    """A user repeats his line with ``-C N``: options and all."""
    receivers = receive(either, key)
    begin(either, f"{key}?resume=10&store={either.store}", BODY, 1000).reset()
    check_end(either, go_on(either, f"{key}?resume=10&store={either.store}", BODY, 1000), receivers, BODY)


def test_nobody_was_there_yet(holding: Relay, key: str) -> None:
    """From memory, what fits of a file without receivers is kept while its sender is away."""
    body = BODY * 8
    sender = holding.connect().ask("PUT", f"{key}?resume", f"Content-Length: {len(body)}")
    sender.fill(body)
    sender.reset()
    head = offset(holding, key)
    assert 1 << 20 <= head < len(body)
    receiver = holding.connect().get(key)
    assert receiver.take(head) == body[:head]
    reader = Background(receiver.answer)
    sender = go_on(holding, key, body, offset(holding, key))
    assert reader.result().body == body[head:]
    check_sent(holding, sender, len(body))


def test_the_answer_is_lost(either: Relay, key: str) -> None:
    """A sender that breaks off with its body whole has sent it."""
    body, receivers = BODY[:100_000], receive(either, key)
    before = outcomes(either.server)
    either.connect().put(f"{key}?resume", body).close()
    check_received(receivers, body)
    either.server.wait_for("pipes", 0)
    assert outcomes(either.server) - before == {"stored" if either.keeps else "delivered": 1}


def test_the_answer_is_lost_before_a_receiver_is_there(holding: Relay, key: str) -> None:
    """The whole is held for one who comes, and HEAD says that nothing is missing."""
    begin(holding, f"{key}?resume", BODY[:1000], 1000).reset()
    head = holding.ask("HEAD", key)
    assert (head["upload-offset"], head["upload-length"], head["upload-complete"]) == ("1000", "1000", COMPLETE)
    assert holding.ask("GET", key).body == BODY[:1000]


def test_a_kept_file_says_that_it_is_complete(keeping: Relay, key: str) -> None:
    """HEAD after the end is the way to learn whether the last part has arrived."""
    assert keeping.connect().put(f"{key}?resume", b"abc").answer().status == 201
    head = keeping.ask("HEAD", key)
    assert (head["upload-offset"], head["upload-length"], head["upload-complete"]) == ("3", "3", COMPLETE)
    assert keeping.ask("GET", key).body == b"abc"


def test_a_digest_over_all_parts(holding: Relay, key: str) -> None:
    """``?digest`` covers the whole, wherever it broke."""
    whole = holding.connect().put(f"{key}-whole?digest=sha-256", BODY)
    assert holding.ask("GET", f"{key}-whole").body == BODY
    expected = whole.answer()["repr-digest"]
    receivers = receive(holding, key)
    begin(holding, f"{key}?resume&digest=sha-256", BODY, 1_234_567).close()
    sender = go_on(holding, key, BODY, 1_234_567)
    check_received(receivers, BODY)
    assert sender.answer()["repr-digest"] == expected


def test_no_digest_of_what_may_outlive_the_server(keeping: Relay, key: str) -> None:
    """It would be lost: 400, as of an option that does not fit."""
    check_refusal(keeping.connect().put(f"{key}?resume&digest=sha-256", b"abc").answer(), 400, "digest")


# Parts.


def test_parts_that_are_not_the_last(relay: Relay, key: str) -> None:
    """Each is answered with 202 and where it is now; over one connection or several."""
    receivers = receive(relay, key)
    sender = relay.connect().put(f"{key}?resume", BODY[:1000], content_range(0, 1000, len(BODY)))
    for here, there in ((1000, 50_000), (50_000, 50_001), (50_001, 2_000_000)):
        answer = sender.answer()
        assert (answer.status, answer["upload-offset"], answer["upload-complete"]) == (202, str(here), NOT_YET)
        assert offset(relay, key) == here
        sender.put(key, BODY[here:there], content_range(here, there, len(BODY)))
    assert sender.answer().status == 202
    check_end(relay, go_on(relay, key, BODY, 2_000_000), receivers, BODY)


def test_a_part_that_breaks(either: Relay, key: str) -> None:
    """Its bytes count as far as they came; who is too early to know how far they did is told by a 409."""
    body, receivers = BODY[:20_000], receive(either, key)
    assert go_on(either, f"{key}?resume", body, 0, 1000).answer().status == 202
    go_on(either, key, body, 1000, 9000, sent=1500).reset()
    here = offset(either, key)
    while (sender := go_on(either, key, body, here)).head().status == 409:
        here = int(sender.answer()["upload-offset"])
    assert 1000 <= here <= 1500
    check_end(either, sender, receivers, body, len(body))


def test_chunked_parts(either: Relay, key: str) -> None:
    """The range says what the part is; how its body is framed does not matter."""
    receivers = receive(either, key)
    sender = either.connect().put_chunked(
        f"{key}?resume", [BODY[:10], BODY[10:1000]], content_range(0, 1000, len(BODY))
    )
    assert sender.answer().status == 202
    last = either.connect().put_chunked(key, [BODY[1000:2000], BODY[2000:]], content_range(1000, len(BODY), len(BODY)))
    check_end(either, last, receivers, BODY)


def test_a_last_chunk_that_comes_late(relay: Relay, key: str) -> None:
    """All bytes of the part are there before the word that they are."""
    body, receivers = BODY[:3000], receive(relay, key)
    begin(relay, f"{key}?resume", body, 1000).close()
    for here, there in ((1000, 2000), (2000, 3000)):
        part = relay.connect().put_chunked(key, [body[here : here + 10]], content_range(here, there, 3000), ends=False)
        wait_for_offset(relay, key, here + 10)
        part.send(chunk(body[here + 10 : there]))
        wait_for_offset(relay, key, there)
        part.send(LAST_CHUNK)
        if there < 3000:
            assert part.answer().status == 202
    check_end(relay, part, receivers, body, 3000)


def test_a_stream_that_breaks(either: Relay, key: str) -> None:
    """A chunked body of unknown length is continued like another; the range of the rest tells its length."""
    receivers = receive(either, key)
    sender = either.connect().put_chunked(f"{key}?resume", [BODY[:1000]], ends=False)
    wait_for_offset(either, key, 1000)
    sender.close()
    assert either.ask("HEAD", key).get("upload-length") is None
    check_end(either, go_on(either, key, BODY, 1000), receivers, BODY)


def test_a_stream_that_ends_without_a_break(either: Relay, key: str) -> None:
    """Its end is its end."""
    receivers = receive(either, key)
    check_end(either, either.connect().put_chunked(f"{key}?resume", [BODY]), receivers, BODY)


def test_expect_is_answered_when_it_may_go_on(either: Relay, key: str) -> None:
    """100 for the right offset; the refusal of a wrong one comes before the body is sent."""
    receivers = receive(either, key)
    begin(either, f"{key}?resume", BODY, 1000).close()
    wrong = either.connect().put(key, b"", "Expect: 100-continue", content_range(7, 9, len(BODY)), length=2)
    assert wrong.first_status() == 409
    right = either.connect().put(
        key, b"", "Expect: 100-continue", content_range(1000, len(BODY), len(BODY)), length=len(BODY) - 1000
    )
    assert right.first_status() == 100
    check_end(either, right.send(BODY[1000:]), receivers, BODY)


# What is refused, without harm to anybody.


@pytest.mark.parametrize("away", [True, False], ids=["away", "there"])
@pytest.mark.parametrize("start", [0, 999, 1001, 2_999_999])
def test_another_offset(either: Relay, key: str, start: int, away: bool) -> None:
    """409 with the right offset; a sender that is there goes on, and so do the receivers."""
    receivers = receive(either, key)
    sender = begin(either, f"{key}?resume", BODY, 1000)
    if away:
        sender.close()
    answer = go_on(either, key, BODY, start).answer()
    check_refusal(answer, 409)
    assert answer["upload-offset"] == "1000"
    assert offset(either, key) == 1000
    sender = go_on(either, key, BODY, 1000) if away else sender.send(BODY[1000:])
    check_end(either, sender, receivers, BODY)


BAD_PARTS = {  # header, length of the body: of a file of 3000000 bytes, of which 1000 have come
    "another length": ("bytes 1000-1999/3000001", 1000),
    "a shorter length": ("bytes 1000-1999/2000", 1000),
    "beyond the end": ("bytes 1000-3000000/3000000", 2_999_001),
    "ends before it begins": ("bytes 1000-999/3000000", 0),
    "not a number": ("bytes 1000-x/3000000", 1000),
    "no length": ("bytes 1000-1999", 1000),
    "a length that is not known yet": ("bytes 1000-1999/*", 1000),
    "no range": ("bytes */3000000", 1000),
    "no start": ("bytes -1999/3000000", 1000),
    "another unit": ("items 1000-1999/3000000", 1000),
    "a body that is longer": ("bytes 1000-1999/3000000", 1001),
    "a body that is shorter": ("bytes 1000-1999/3000000", 999),
    "no body": ("bytes 1000-1999/3000000", 0),
}


@pytest.mark.parametrize("away", [True, False], ids=["away", "there"])
@pytest.mark.parametrize(("header", "length"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_part_that_makes_no_sense(holding: Relay, key: str, header: str, length: int, away: bool) -> None:
    """400, and nobody is disturbed."""
    receivers = receive(holding, key)
    sender = begin(holding, f"{key}?resume", BODY, 1000)
    if away:
        sender.close()
    answer = holding.connect().put(key, b"", "Expect: 100-continue", f"Content-Range: {header}", length=length).answer()
    check_refusal(answer, 400)
    sender = go_on(holding, key, BODY, 1000) if away else sender.send(BODY[1000:])
    check_end(holding, sender, receivers, BODY)


@pytest.mark.parametrize(("sent", "ends"), [(999, True), (1001, False)])
def test_a_chunked_part_of_another_length(holding: Relay, key: str, sent: int, ends: bool) -> None:
    """A body that is not as long as its range said is no end of the file, and a byte too many is none of it."""
    receivers = receive(holding, key)
    body = BODY[:3000]
    begin(holding, f"{key}?resume", body, 1000).close()
    header = content_range(1000, 2000, 3000)
    part = holding.connect().put_chunked(key, [BODY[1000:1999], BODY[1999 : 1000 + sent]], header, ends=ends)
    assert part.answer().status == (202 if sent < 1000 else 400)
    here = offset(holding, key)
    assert here <= 2000
    check_end(holding, go_on(holding, key, body, here), receivers, body, 3000)


def test_nothing_is_there(either: Relay, key: str) -> None:
    """404: a user who comes too late has to begin anew."""
    check_refusal(go_on(either, key, BODY[:10], 5).answer(), 404)
    check_refusal(go_on(either, f"{key}?resume", BODY[:10], 5).answer(), 404)
    assert either.ask("HEAD", key).status == 404


def test_a_sender_that_never_said_that_it_may_come_back(either: Relay, key: str) -> None:
    """409, and HEAD has no offset; when it breaks, its receivers are cut at once, as ever."""
    receivers = receive(either, key)
    sender = either.connect().put(key, BODY[:1000], length=len(BODY))
    assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
    check_refusal(go_on(either, key, BODY, 1000).answer(), 409)
    assert either.ask("HEAD", key).get("upload-offset") is None
    sender.close()
    assert all(is_cut(receiver) for receiver in receivers)


def test_the_key_stays_in_use(either: Relay, key: str) -> None:
    """Who does not continue but sends anew is refused while the sender is away."""
    receivers = receive(either, key)
    begin(either, f"{key}?resume", BODY, 1000).close()
    check_refusal(either.connect().put(key, b"other").answer(), 409)
    check_refusal(either.connect().put(f"{key}?resume", b"other").answer(), 409)
    check_end(either, go_on(either, key, BODY, 1000), receivers, BODY)


BAD_TIMES = ("0", "nan", "inf", "-1", "1_0", "x", "61", "1&resume=2")


@pytest.mark.parametrize("value", BAD_TIMES)
def test_a_time_that_is_none(holding: Relay, key: str, value: str) -> None:
    """No number, nothing, or more than the operator gives: 400."""
    check_refusal(holding.connect().put(f"{key}?resume={value}", b"abc").answer(), 400)
    assert holding.ask("HEAD", key).status == 404


@pytest.mark.parametrize(("store", "longest"), [("memory", 60), ("disk", 86400)])
def test_the_longest_time(memory_server: Server, disk_server: Server, key: str, store: str, longest: int) -> None:
    """A minute from memory, a day from disk; a second more is refused, with the cap in the text."""
    relay = Relay(memory_server if store == "memory" else disk_server, store, "tcp")
    answer = relay.connect().put(f"{key}?resume={longest + 1}", b"abc").answer()
    check_refusal(answer, 400, str(longest))
    receivers = receive(relay, key, 1)
    check_end(relay, relay.connect().put(f"{key}?resume={longest}", b"abc"), receivers, b"abc", 3)


def test_a_form_cannot_come_back(either: Relay, key: str, file: Path) -> None:
    """No offset in a form is one in the file."""
    done = either.curl("--fail-with-body", "-F", f"file=@{file}", either.url(f"{key}?resume")).done()
    assert done.code == 22
    assert re.fullmatch(r"[A-Z][^\n]{15,}\.\n", done.out)
    peer = either.connect().ask("POST", f"{key}?resume", "Content-Type: multipart/form-data; boundary=x", body=b"--x")
    assert peer.answer().status == 400


def test_a_forward_cannot_be_continued(serve: Serve, key: str) -> None:
    """The target would have to know."""
    server = serve("--store", "memory", "--allow-forward", "any", "--allow-forward-private")
    relay = Relay(server, "memory", "tcp")
    target = f"X-Forward-Url: http://127.0.0.1:{server.metrics_port}/x"
    check_refusal(relay.connect().put(f"{key}?resume", b"abc", target).answer(), 400)


# Two senders.


@pytest.mark.parametrize("ends", ["tcp", "tls", "haproxy"])
@pytest.mark.parametrize("store", ["memory", "disk"])
def test_who_comes_back_takes_the_place_of_himself(
    request: pytest.FixtureRequest, key: str, store: str, ends: str
) -> None:
    """A connection of which the server does not know yet that it is dead is ended, and what it says is not heard."""
    relay = Relay(request.getfixturevalue(f"{store}_server"), store, ends)
    receivers = receive(relay, key)
    former = begin(relay, f"{key}?resume", BODY, 1_000_000)
    sender = go_on(relay, key, BODY, 1_000_000)
    check_end(relay, sender, receivers, BODY)
    assert is_dismissed(former)


def test_what_the_former_connection_says_is_not_heard(either: Relay, key: str) -> None:
    """Bytes that it sends behind the take-over are nobody's."""
    receivers = receive(either, key)
    former = begin(either, f"{key}?resume", BODY, 1000)
    sender = go_on(either, key, BODY, 1000, sent=2000)
    wait_for_offset(either, key, 2000)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        former.send(b"x" * 1000)
    assert offset(either, key) == 2000
    check_end(either, sender.send(BODY[2000:]), receivers, BODY)


# The time is up.


def test_the_time_is_up(either: Relay, key: str, tmp_path: Path) -> None:
    """The receivers are cut (curl ends with 18), it counts as the sender's loss, and nothing is left to continue."""
    before = outcomes(either.server)
    receiver = either.curl("-fo", tmp_path / "out", either.url(key))
    either.wait_for_waiters(1)
    begin(either, f"{key}?resume=0.4", BODY, 1000).close()
    assert receiver.done().code == 18
    assert (tmp_path / "out").read_bytes() == BODY[:1000]
    check_refusal(go_on(either, key, BODY, 1000).answer(), 404)
    either.server.wait_for("pipes", 0)
    assert outcomes(either.server) - before == {"sender-lost": 1}
    assert "transfer sender-lost" in either.server.log.read_text()


def test_the_time_begins_anew_with_each_break(either: Relay, key: str) -> None:
    """It is a time without a sender, not one for the whole."""
    receivers = receive(either, key)
    sender = begin(either, f"{key}?resume=4", BODY, 1000)
    for here in (1000, 2000, 3000, 4000):
        sender.close()
        time.sleep(1.1)  # four times: more than it has in all
        sender = go_on(either, key, BODY, here, sent=here + 1000)
        wait_for_offset(either, key, here + 1000)
    check_end(either, sender.send(BODY[5000:]), receivers, BODY)


def test_a_sender_that_is_there_has_all_its_time(either: Relay, key: str) -> None:
    """The time runs only while nobody sends."""
    receivers = receive(either, key)
    begin(either, f"{key}?resume=2", BODY, 1000).close()
    sender = go_on(either, key, BODY, 1000, sent=2000)
    assert [receiver.take(2000) for receiver in receivers] == [BODY[:2000]] * len(receivers)
    assert receivers[0].hears_nothing(2.5)
    check_end(either, sender.send(BODY[2000:]), receivers, BODY[2000:])


def test_the_default_time_is_the_operators(serve: Serve, key: str) -> None:
    """``?resume`` without a number is ``--sender-resume-timeout`` from memory, ``--upload-ttl`` from disk."""
    server = serve(
        *("--store", "memory", "--store", "disk:{folder}/store", "--get-wait-timeout", "30"),
        *("--sender-resume-timeout", "0.5", "--upload-ttl", "0.6"),
    )
    for store in ("memory", "disk"):
        relay = Relay(server, store, "tcp")
        check_refusal(relay.connect().put(f"{key}?resume=0.7&store={store}", b"abc").answer(), 400, "0.")
        receiver = receive(relay, f"{key}-{store}", 1)[0]
        begin(relay, f"{key}-{store}?resume&store={store}", BODY, 1000).close()
        assert is_cut(receiver)
    server.wait_for("pipes", 0)
    assert outcomes(server) == {"sender-lost": 2}


# Receivers meanwhile.


def test_receivers_that_join_while_the_sender_is_away(either: Relay, key: str) -> None:
    """They get what is there, wait with the others, and have the whole in the end."""
    first = receive(either, key, 1)
    begin(either, f"{key}?resume", BODY, 1_000_000).close()
    late = [either.connect().get(key) for _ in range(2)]
    for receiver in (*first, *late):
        assert receiver.take(1_000_000) == BODY[:1_000_000]
    sender = go_on(either, key, BODY, 1_000_000)
    check_received([*first, *late], BODY[1_000_000:])
    assert sender.answer().status == (201 if either.keeps else 200)


@pytest.mark.parametrize("sender_first", [True, False], ids=["sender-first", "receiver-first"])
def test_both_sides_break_and_come_back(either: Relay, key: str, sender_first: bool) -> None:
    """Whoever comes back first: the transfer waits for the other."""
    others = receive(either, key, 2) if either.keeps else []
    receiver = either.connect().get(key)
    either.wait_for_waiters(len(others) + 1)
    sender = begin(either, f"{key}?resume", BODY, 1_000_000)
    etag = receiver.head()["etag"]
    assert receiver.take(500_000) == BODY[:500_000]
    sender.close()
    receiver.close()
    either.server.wait_for("active_downloads", len(others))

    def come_back() -> Peer:
        back = either.connect().get(key, "Range: bytes=500000-", f"If-Range: {etag}")
        assert back.head().status == 206
        return back

    if sender_first:
        sender = go_on(either, key, BODY, 1_000_000)
        receiver = come_back()
    else:
        receiver = come_back()
        assert receiver.take(500_000) == BODY[500_000:1_000_000]
        assert receiver.hears_nothing()
        sender = go_on(either, key, BODY, 1_000_000)
    rest = receiver.answer()
    assert rest.body == BODY[500_000 if sender_first else 1_000_000 :]
    check_end(either, sender, others, BODY)


def test_a_receiver_that_comes_back_asks_for_the_part_that_is_missing(holding: Relay, key: str) -> None:
    """A range behind the head waits for the sender to come back."""
    receiver = receive(holding, key)[0]
    begin(holding, f"{key}?resume", BODY, 1000).close()
    assert receiver.take(1000) == BODY[:1000]
    look = holding.connect().get(key, "Range: bytes=1500-1599")
    assert look.head().status == 206
    assert look.hears_nothing()
    sender = go_on(holding, key, BODY, 1000)
    assert look.answer().body == BODY[1500:1600]
    check_end(holding, sender, [receiver], BODY[1000:])


def test_the_absence_is_longer_than_the_idle_time(serve: Serve, key: str) -> None:
    """A receiver that has nothing to take because the sender is away is not idle, nor is the sender."""
    server = serve(
        *("--store", "memory", "--store", "disk:{folder}/store", "--get-wait-timeout", "30"),
        *("--idle-timeout", "0.5", "--put-ttl", "1", "--get-ttl", "0.05"),
    )
    for store in ("memory", "disk"):
        relay, name = Relay(server, store, "tcp"), f"{key}-{store}"
        receivers = receive(relay, name)
        begin(relay, f"{name}?resume=20&store={store}", BODY, 1000).close()
        assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
        assert receivers[0].hears_nothing(1.6)
        check_end(relay, go_on(relay, name, BODY, 1000), receivers, BODY[1000:])


def test_a_sender_that_is_idle_may_come_back(serve: Serve, key: str) -> None:
    """One that is there and says nothing loses its connection, not its receivers."""
    server = serve("--store", "memory", "--get-wait-timeout", "30", "--idle-timeout", "0.5")
    relay = Relay(server, "memory", "tcp")
    receivers = receive(relay, key)
    sender = begin(relay, f"{key}?resume=20", BODY, 1000)
    assert is_dismissed(sender)
    check_end(relay, go_on(relay, key, BODY, 1000), receivers, BODY)


# By hand, with the lines of the documentation.


def test_the_two_lines_that_users_are_told(either: Relay, key: str, file: Path, tmp_path: Path) -> None:
    """HEAD for the offset, ``-C`` with it: in a shell, with nothing but curl."""
    receiver = either.curl("-fo", tmp_path / "out", either.url(key))
    either.wait_for_waiters(1)
    begin(either, f"{key}?resume", BODY, 123_456).reset()
    line = (
        'offset=$(curl -fsSI "$1" | tr -d "\\r" | sed -n "s/^[Uu]pload-[Oo]ffset: //p")\n'
        'curl -sS --fail-with-body -C "$offset" -T "$2" "$1"'
    )
    done = subprocess.run(["sh", "-c", line, "sh", either.url(key), str(file)], capture_output=True, timeout=30)
    assert done.returncode == 0, done
    assert b" 3000000 bytes" in done.stdout
    assert receiver.done().code == 0
    assert (tmp_path / "out").read_bytes() == BODY
