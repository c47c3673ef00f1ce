"""What a sender may choose, and how long things last: readers, downloads, ttl, wait, store, and the keeping times."""

import random
import time
from collections.abc import Callable

import pytest
from contract.peers import Background, Peer, check_refusal
from contract.server import Relay, Server
from harness import until

BIG = random.Random(20).randbytes(32 << 20)  # more than the buffers between a sender and a slow receiver hold
SLACK = 3.0  # seconds by which a busy machine may be late


@pytest.fixture(scope="module")
def quick(serve: Callable[..., Server]) -> Relay:
    """Several stores; a file is kept for long, unless somebody has it."""
    server = serve(
        *("--store", "disk:{folder}/first", "--store", "memory", "--store", "second=disk:{folder}/second"),
        *("--put-ttl", "600", "--get-ttl", "0.4", "--resume-timeout", "0.4"),
        *("--get-wait-timeout", "0.5", "--put-wait-timeout", "0.6"),
    )
    return Relay(server, "disk", "tcp")


@pytest.fixture(scope="module")
def brief(serve: Callable[..., Server]) -> Relay:
    """A file is kept for a second, also when somebody has it."""
    server = serve(
        *("--store", "disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "600", "--resume-timeout", "6"),
        *("--max-ttl", "600"),
    )
    return Relay(server, "disk", "tcp")


def is_there(relay: Relay, key: str) -> bool:
    """Whether a receiver would get something."""
    return relay.ask("HEAD", key).status == 200


def keep(relay: Relay, target: str, data: bytes = b"abc") -> float:
    """Send to a store that keeps; a moment before the file was whole."""
    since = time.monotonic()
    assert relay.connect().put(target, data).answer().status == 201
    return since


def check_lasts(relay: Relay, key: str, since: float, seconds: float) -> None:
    """It is there until ``seconds`` after ``since``, a moment before its time began, and gone soon after."""
    while time.monotonic() < since + seconds - 0.1:
        there = is_there(relay, key)
        assert there or time.monotonic() > since + seconds, f"gone after {time.monotonic() - since:.2f} s"
        time.sleep(0.02)
    until(lambda: not is_there(relay, key), "it is gone", SLACK)


# readers=


def test_readers_start_together(holding: Relay, key: str) -> None:
    """``readers=3`` sends nothing, not even a head, before three are there; then all get the same bytes."""
    sender = holding.connect().put(f"{key}?readers=3", BIG[:1000])
    receivers: list[Peer] = []
    for i in range(3):
        assert all(receiver.hears_nothing(0.1) for receiver in receivers)
        receivers.append(holding.connect().get(key))
        if i < 2:
            holding.wait_for_waiters(i + 1)
    assert [receiver.answer().body for receiver in receivers] == [BIG[:1000]] * 3
    assert sender.answer().text == "delivered 1000 bytes to 3 receivers\n"


def test_readers_who_wait_already_count(holding: Relay, key: str) -> None:
    """Two who wait already are the two that ``readers=2`` asks for."""
    receivers = [holding.connect().get(key) for _ in range(2)]
    holding.wait_for_waiters(2)
    sender = holding.connect().put(f"{key}?readers=2&wait=0", b"abc")
    assert [receiver.answer().body for receiver in receivers] == [b"abc"] * 2
    assert sender.answer().text == "delivered 3 bytes to 2 receivers\n"


def test_a_reader_that_leaves_before_the_start_counts_no_more(holding: Relay, key: str) -> None:
    """One of two leaves: the start waits for another one."""
    sender = holding.connect().put(f"{key}?readers=2", b"abc")
    leaves = holding.connect().get(key)
    holding.wait_for_waiters(1)
    leaves.close()
    holding.wait_for_waiters(0)
    stays = holding.connect().get(key)
    holding.wait_for_waiters(1)
    assert stays.hears_nothing()
    other = holding.connect().get(key)
    assert (stays.answer().body, other.answer().body) == (b"abc", b"abc")
    assert sender.answer().text == "delivered 3 bytes to 2 receivers\n"


def test_readers_who_do_not_come(holding: Relay, key: str) -> None:
    """504 after the wait; the one who came goes on waiting, for whoever sends next."""
    receiver = holding.connect().get(key)
    holding.wait_for_waiters(1)
    check_refusal(holding.connect().put(f"{key}?readers=2&wait=0.3", b"abc").answer(), 504)
    assert receiver.hears_nothing()
    assert holding.connect().put(key, b"next").answer().status == 200
    assert receiver.answer().body == b"next"


def test_a_look_is_no_reader(holding: Relay, key: str) -> None:
    """A look is served at once, and the start goes on waiting for two."""
    sender = holding.connect().put(f"{key}?readers=2", b"abc")
    first = holding.connect().get(key)
    holding.wait_for_waiters(1)
    assert holding.connect().get(key, "Range: bytes=0-0").answer().body == b"a"
    assert first.hears_nothing()
    second = holding.connect().get(key)
    assert (first.answer().body, second.answer().body) == (b"abc", b"abc")
    assert sender.answer().text == "delivered 3 bytes to 2 receivers\n"


def test_more_readers_than_asked_for(holding: Relay, key: str) -> None:
    """Who comes after the start is served as well."""
    sender = holding.connect().put(f"{key}?readers=2", b"abc", length=6)
    receivers = [holding.connect().get(key) for _ in range(2)]
    assert [receiver.take(3) for receiver in receivers] == [b"abc"] * 2
    receivers.append(holding.connect().get(key))
    assert receivers[2].take(3) == b"abc"
    sender.send(b"def")
    assert [receiver.answer().body for receiver in receivers] == [b"def"] * 3
    assert sender.answer().text == "delivered 6 bytes to 3 receivers\n"


# wait=


def test_a_sender_waits_for_as_long_as_it_says(holding: Relay, key: str) -> None:
    """504 with a sentence after ``wait`` seconds, and the key is free."""
    began = time.monotonic()
    sent = holding.connect().put(f"{key}?wait=0.7", b"abc").answer()
    check_refusal(sent, 504, "0.7 seconds")
    assert 0.65 < time.monotonic() - began < 0.7 + SLACK
    assert holding.server.gauge("pipes") == 0


def test_a_senders_wait_has_a_default(quick: Relay, key: str) -> None:
    """The operator says how long a sender waits that says nothing."""
    began = time.monotonic()
    check_refusal(quick.connect().put(f"{key}?store=memory", b"abc").answer(), 504, "0.6 seconds")
    assert 0.55 < time.monotonic() - began < 0.6 + SLACK


@pytest.mark.parametrize("query", ["wait=0", "wait=0.0", "wait=0&readers=2"])
def test_a_sender_that_does_not_wait(holding: Relay, key: str, query: str) -> None:
    """``wait=0`` with nobody there is 504 before the body is sent."""
    answer = holding.connect().put(f"{key}?{query}", b"", "Expect: 100-continue", length=3).answer()
    check_refusal(answer, 504)
    assert answer.interim == ()


def test_a_sender_that_does_not_wait_and_need_not(holding: Relay, key: str) -> None:
    """``wait=0`` with a receiver there is a transfer like any other."""
    receiver = holding.connect().get(key)
    holding.wait_for_waiters(1)
    sender = holding.connect().put(f"{key}?wait=0", b"", "Expect: 100-continue", length=3)
    assert sender.first_status() == 100
    sender.send(b"abc")
    assert receiver.answer().body == b"abc"
    assert sender.answer().status == 200


def test_a_senders_wait_is_for_the_first_receiver(holding: Relay, key: str) -> None:
    """Once a receiver has come, the wait is over, however long the transfer takes."""
    sender = holding.connect().put(f"{key}?wait=0.5", b"abc", length=6)
    receiver = holding.connect().get(key)
    assert receiver.take(3) == b"abc"
    assert receiver.hears_nothing(0.8)
    sender.send(b"def")
    assert receiver.answer().body == b"def"
    assert sender.answer().status == 200


@pytest.mark.parametrize("query", ["", "?wait=1.2"])
def test_a_receiver_waits(quick: Relay, key: str, query: str) -> None:
    """404 with a sentence after the wait that it or the operator chose, and the connection can be used again."""
    wait = float(query.partition("=")[2] or 0.5)
    began = time.monotonic()
    peer = quick.connect().get(key + query)
    check_refusal(peer.answer(), 404)
    assert wait - 0.05 < time.monotonic() - began < wait + SLACK
    assert peer.get("/-/version").answer().status == 200


def test_a_receiver_waits_as_long_as_its_sender(quick: Relay, key: str) -> None:
    """Once a sender is there, a receiver that waits for others to come does not give up before it does."""
    sender = quick.connect().put(f"{key}?store=memory&readers=2&wait=5", b"abc")
    first = quick.connect().get(f"{key}?wait=0.3")
    quick.wait_for_waiters(1)
    assert first.hears_nothing(0.8)
    second = quick.connect().get(key)
    assert (first.answer().body, second.answer().body) == (b"abc", b"abc")
    assert sender.answer().status == 200


def test_times_that_come_together(plain: Relay, key: str) -> None:
    """Whole seconds end when the server looks at its senders: neither wait disturbs any other."""
    senders = [plain.connect().put(f"{key}/{i}?wait={1 + i % 2}", b"abc") for i in range(8)]
    plain.server.wait_for("pipes", 8)
    receiver = plain.connect().get(f"{key}/other?wait=2.5")
    for sender in senders:
        check_refusal(sender.answer(), 504)
    check_refusal(receiver.answer(), 404)


# store=


def test_a_store_is_chosen_by_its_name(quick: Relay, key: str) -> None:
    """The first store is the default; the others have the names that the operator gave them."""
    for query, status in (("", 201), ("?store=disk", 201), ("?store=second", 201), ("?store=memory", 200)):
        sender = quick.connect().put(key + query, b"abc")
        if status == 200:
            quick.wait_for_offer(key)
        else:
            assert sender.answer().status == 201
        assert quick.ask("GET", key).body == b"abc"
        if status == 200:
            assert sender.answer().status == 200
        quick.server.wait_for("pipes", 0)


def test_a_key_is_one_key_in_all_stores(quick: Relay, key: str) -> None:
    """What one store has cannot be sent to another."""
    keep(quick, key)
    check_refusal(quick.connect().put(f"{key}?store=memory", b"x").answer(), 409)
    check_refusal(quick.connect().put(f"{key}?store=second", b"x").answer(), 409)
    assert quick.ask("GET", key).body == b"abc"


def test_an_unknown_store_is_told_with_those_that_are_there(quick: Relay, key: str) -> None:
    """The refusal names the stores."""
    check_refusal(quick.connect().put(f"{key}?store=tape", b"x").answer(), 400, "disk", "memory", "second")


# How long a kept file is there.


def test_a_file_that_nobody_fetches(brief: Relay, key: str) -> None:
    """It is kept for --put-ttl after the upload has ended; then the key is free."""
    since = keep(brief, key)
    check_refusal(brief.connect().put(key, b"other").answer(), 409)
    check_lasts(brief, key, since, 1)
    check_refusal(brief.ask("GET", f"{key}?wait=0"), 404)
    assert brief.connect().put(f"{key}?ttl=0", b"other").answer().status == 201


def test_a_file_that_somebody_has_fetched(quick: Relay, key: str) -> None:
    """It goes --get-ttl after the last whole download, long before --put-ttl."""
    keep(quick, key)
    for _ in range(2):
        since = time.monotonic()
        assert quick.ask("GET", key).body == b"abc"
    check_refusal(quick.connect().put(key, b"other").answer(), 409)
    check_lasts(quick, key, since, 0.4)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_file_that_somebody_has_fetched_while_it_came(quick: Relay, key: str, chunked: bool) -> None:
    """A download that ends with the upload is a whole download: --get-ttl after it the file is gone."""
    receivers = [quick.connect().get(key) for _ in range(2)]
    quick.wait_for_waiters(2)
    sender, since = quick.connect(), time.monotonic()
    (sender.put_chunked(key, [b"abc"]) if chunked else sender.put(key, b"abc"))
    assert [receiver.answer().body for receiver in receivers] == [b"abc"] * 2
    assert sender.answer().status == 201
    check_lasts(quick, key, since, 0.4)


def test_a_file_stays_while_somebody_receives(brief: Relay, key: str) -> None:
    """A slow download is not interrupted by the end of the time; a second one may even begin meanwhile."""
    since = keep(brief, key, BIG)
    slow = brief.connect(receive_buffer=65536).get(key)
    assert slow.take(100_000) == BIG[:100_000]
    while time.monotonic() < since + 1.6:
        assert is_there(brief, key)
        time.sleep(0.05)  # to be there all the time
    assert brief.connect().get(key, "Range: bytes=-3").answer().body == BIG[-3:]
    assert Background(slow.answer).result().body == BIG[100_000:]
    assert is_there(brief, key)
    brief.server.restart()  # the file would stay for another ten minutes


def test_overlapping_downloads(quick: Relay, key: str) -> None:
    """The time counts from the end of the last one."""
    keep(quick, key, BIG)
    slow = quick.connect(receive_buffer=65536).get(key)
    assert slow.take(100_000) == BIG[:100_000]
    assert Background(lambda: quick.ask("GET", key)).result().body == BIG
    done = time.monotonic()
    while time.monotonic() < done + 1:
        assert is_there(quick, key)
        time.sleep(0.05)  # to be there all the time
    since = time.monotonic()
    assert Background(slow.answer).result().body == BIG[100_000:]
    check_lasts(quick, key, since, 0.4)


def test_a_look_is_no_download(quick: Relay, key: str) -> None:
    """Neither a look nor a download that broke off makes the file go."""
    keep(quick, key, BIG)
    assert quick.ask("GET", key, "Range: bytes=0-0").body == BIG[:1]
    broken = quick.connect(receive_buffer=65536).get(key)
    assert broken.take(1000) == BIG[:1000]
    broken.close()
    quick.server.wait_for("active_downloads", 0)
    since = time.monotonic()
    while time.monotonic() < since + 1.2:
        assert is_there(quick, key)
        time.sleep(0.05)  # to be there all the time
    assert Background(lambda: quick.ask("GET", key)).result().body == BIG


def test_a_resumed_download_that_reaches_the_end_is_whole(quick: Relay, key: str) -> None:
    """Two halves are a download."""
    since = keep(quick, key)
    assert quick.ask("GET", key, "Range: bytes=1-").body == b"bc"
    check_lasts(quick, key, since, 0.4)


def test_a_broken_download_may_come_back(brief: Relay, key: str) -> None:
    """Coming back within --resume-timeout is promised to every receiver, even beyond --put-ttl."""
    since = keep(brief, f"{key}?downloads=1", BIG)
    receiver = brief.connect(receive_buffer=65536).get(key)
    assert receiver.take(1000) == BIG[:1000]
    receiver.close()
    brief.server.wait_for("active_downloads", 0)
    while time.monotonic() < since + 1.8:
        assert is_there(brief, key)
        time.sleep(0.05)  # to be there all the time
    back = brief.connect().get(key, "Range: bytes=1000-")
    assert Background(back.answer).result().body == BIG[1000:]


def test_ttl_replaces_both_times(quick: Relay, key: str) -> None:
    """``ttl=1.2`` keeps the file for 1.2 s, downloads or not."""
    since = keep(quick, f"{key}?ttl=1.2")
    assert quick.ask("GET", key).body == b"abc"
    check_lasts(quick, key, since, 1.2)


def test_ttl_of_zero(quick: Relay, key: str) -> None:
    """``ttl=0`` frees the key at once; who is receiving gets the whole file."""
    receiver = quick.connect(receive_buffer=65536).get(key)
    quick.wait_for_waiters(1)
    sent = quick.connect().put(f"{key}?ttl=0", BIG).answer()
    assert sent.text == f"stored {len(BIG)} bytes, kept for 0 s\n"
    assert Background(receiver.answer).result().body == BIG
    until(lambda: not is_there(quick, key), "it is gone", SLACK)
    assert quick.connect().put(f"{key}?ttl=0", b"abc").answer().status == 201
    until(lambda: not is_there(quick, key), "it is gone", SLACK)


# downloads=


def test_downloads_free_the_key(brief: Relay, key: str) -> None:
    """After two whole downloads the key is free, although the times would keep it; what is not whole counts not."""
    keep(brief, f"{key}?downloads=2&ttl=600", BIG)
    assert brief.ask("GET", key, "Range: bytes=0-0").status == 206
    assert brief.ask("HEAD", key).status == 200
    broken = brief.connect(receive_buffer=65536).get(key)
    assert broken.take(1000) == BIG[:1000]
    broken.close()
    brief.server.wait_for("active_downloads", 0)
    assert Background(lambda: brief.ask("GET", key)).result().body == BIG
    assert is_there(brief, key)
    assert brief.ask("GET", key, "Range: bytes=1000-").status == 206
    until(lambda: not is_there(brief, key), "the key is free", SLACK)
    assert brief.connect().put(f"{key}?ttl=0", b"other").answer().status == 201


def test_downloads_that_end_before_the_upload_is_stored_count(brief: Relay, key: str) -> None:
    """A one-time file that was fetched while it came is not there for a second person."""
    receiver = brief.connect().get(key)
    brief.wait_for_waiters(1)
    sender = brief.connect().put(f"{key}?downloads=1&ttl=600", b"abc")
    assert receiver.answer().body == b"abc"
    assert sender.answer().status == 201
    until(lambda: not is_there(brief, key), "the key is free", SLACK)


def test_a_file_is_charged_until_its_last_reader_has_closed(brief: Relay, key: str) -> None:
    """The key is free after one download; who still reads gets everything, and the space counts until then."""
    keep(brief, f"{key}?downloads=1&ttl=600", BIG)
    slow = brief.connect(receive_buffer=65536).get(key)
    assert slow.take(1000) == BIG[:1000]
    assert Background(lambda: brief.ask("GET", key)).result().body == BIG
    until(lambda: not is_there(brief, key), "the key is free", SLACK)
    assert brief.server.gauge("disk_usage") == len(BIG)
    assert brief.connect().put(f"{key}?ttl=0", b"other").answer().status == 201
    assert Background(slow.answer).result().body == BIG[1000:]
    brief.server.wait_for("disk_usage", 0)


def test_a_failed_upload_frees_its_key_at_once(keeping: Relay, key: str) -> None:
    """Who broke off may send again without a wait."""
    sender = keeping.connect().put(key, b"abc", length=6)
    keeping.wait_for_offer(key)
    sender.close()
    keeping.server.wait_for("pipes", 0)
    assert keeping.connect().put(f"{key}?ttl=0", b"abcdef").answer().status == 201
