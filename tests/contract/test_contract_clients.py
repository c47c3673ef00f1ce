"""Who asks: addresses and how often they may, what a proxy says of them, and pages of other origins."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.peers import PATIENCE, Answer, Background, check_refusal
from contract.server import Relay, Server

FIELDS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


def left(answer: Answer) -> tuple[int, int, int]:
    """What is said of limit, remaining and reset."""
    limit, remaining, reset = (int(answer[name]) for name in FIELDS)
    return limit, remaining, reset


def check_limited(answer: Answer, limit: int, per: str) -> int:
    """It is a refusal because of the rate; after how many seconds one may come back."""
    check_refusal(answer, 429, f"takes {limit} request", f" per {per} from an address", "come back in ")
    said_limit, remaining, reset = left(answer)
    assert (said_limit, remaining) == (limit, 0)
    assert answer["retry-after"] == str(reset)
    assert re.search(rf"come back in {reset} seconds?\.\n", answer.text)
    return reset


def sent_by(client: str) -> str:
    """What a proxy writes."""
    return f"X-Forwarded-For: {client}"


# Rates.  Each client of these servers has an address of its own, so that no test meets another's count.


@pytest.fixture(scope="module")
def few(serve: Callable[..., Server]) -> Server:
    """A server that takes three requests a day from an address, and believes those that connect to it."""
    return serve("--rate-limit", "3/day", "--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "unix")


@pytest.fixture
def limited(few: Server) -> Relay:
    """As clients of plain TCP reach it."""
    return Relay(few, "memory", "tcp")


def test_an_address_asks_too_often(limited: Relay, key: str) -> None:
    """Every answer tells what is left, whatever it is, and the fourth is 429."""
    client = sent_by("192.0.2.1")
    answers = [
        limited.ask("GET", "/-/version", client),
        limited.ask("GET", f"{key}?wait=0", client),
        limited.ask("PUT", f"{key}?wait=5m", client, "Content-Length: 0"),
    ]
    assert [answer.status for answer in answers] == [200, 404, 400]
    assert [left(answer)[:2] for answer in answers] == [(3, 2), (3, 1), (3, 0)]
    assert all(0 < left(answer)[2] <= 86400 and answer.get("retry-after") is None for answer in answers)
    for method in ("GET", "PUT", "POST", "OPTIONS", "DELETE", "BREW"):
        check_limited(limited.ask(method, key, client), 3, "day")
    refused = limited.ask("HEAD", key, client)
    assert (refused.status, refused.body) == (429, b"") and left(refused)[:2] == (3, 0)
    assert limited.ask("GET", "/-/version", sent_by("192.0.2.2")).status == 200


def test_a_refusal_for_programs(limited: Relay) -> None:
    """The same as JSON, for those who prefer it."""
    for _ in range(3):
        limited.ask("GET", "/-/version", sent_by("192.0.2.3"))
    answer = limited.ask("GET", "/-/version", sent_by("192.0.2.3"), "Accept: application/json")
    told = json.loads(answer.text)
    assert (answer.status, told["status"]) == (429, 429)
    assert "come back in " in told["error"]


def test_who_is_refused_sends_no_body(limited: Relay, key: str) -> None:
    """It comes before 100 Continue; and a body that comes all the same is neither read to its end nor taken."""
    client = sent_by("192.0.2.4")
    for _ in range(3):
        limited.ask("GET", "/-/version", client)
    asking = limited.connect().put(key, b"", client, "Expect: 100-continue", length=1 << 40)
    answer = asking.answer()
    check_limited(answer, 3, "day")
    assert answer.interim == () and answer["connection"] == "close"
    assert asking.is_closed()
    sending = limited.connect().put(key, b"x" * 1000, client, length=1 << 40)
    check_limited(sending.answer(), 3, "day")
    assert limited.server.gauge("pipes") == 0


def test_a_transfer_under_way_is_not_cut(limited: Relay, key: str) -> None:
    """A request counts when it comes, however long it takes."""
    sender = limited.connect().put(key, b"abc", sent_by("192.0.2.6"), length=6)
    receiver = limited.connect().get(key, sent_by("192.0.2.6"))
    assert receiver.take(3) == b"abc"
    limited.ask("GET", "/-/version", sent_by("192.0.2.6"))
    check_limited(limited.ask("GET", "/-/version", sent_by("192.0.2.6")), 3, "day")
    sender.send(b"def")
    assert receiver.answer().body == b"def"
    assert sender.answer().status == 200


def test_health_is_for_everybody(limited: Relay) -> None:
    """A load balancer asks as often as it likes; nothing is said of a limit then."""
    for path in ("/-/health", "/%2D/health"):
        for _ in range(5):
            answer = limited.ask("GET", path, sent_by("192.0.2.8"))
            assert (answer.status, answer.text) == (200, "ok\n")
            assert [name for name, _ in answer.fields if name in (*FIELDS, "retry-after")] == []
    assert left(limited.ask("GET", "/-/version", sent_by("192.0.2.8")))[:2] == (3, 2)


def test_addresses_side_by_side(limited: Relay) -> None:
    """Each has its own count, and it is exact, whoever asks meanwhile."""
    clients = [f"198.51.100.{i}" for i in range(20)]

    def ask(client: str) -> list[int]:
        peer = limited.connect()
        return [peer.get("/-/version", sent_by(client)).answer().status for _ in range(5)]

    runs = [Background(lambda client=client: ask(client)) for client in clients]  # type: ignore[misc]
    assert [run.result() for run in runs] == [[200, 200, 200, 429, 429]] * len(clients)


def test_an_ipv6_network_is_one_client(limited: Relay) -> None:
    """Who has one address of a /64 has all of them."""
    for i in range(3):
        assert limited.ask("GET", "/-/version", sent_by(f"2001:db8:0:7::{i}")).status == 200
    check_limited(limited.ask("GET", "/-/version", sent_by("2001:db8:0:7:ffff::1")), 3, "day")
    assert limited.ask("GET", "/-/version", sent_by("2001:db8:0:8::1")).status == 200


def test_curl_says_when_to_come_back(limited: Relay, key: str, tmp_path: Path) -> None:
    """A sender of some size reads the sentence, and ends with 22; ``--retry`` would wait for as long as it is told."""
    file = tmp_path / "file"
    file.write_bytes(bytes(8 << 20))
    client = ("-H", sent_by("192.0.2.9"))
    for _ in range(3):
        assert limited.curl(*client, "-f", limited.url("/-/version")).done().code == 0
    done = limited.curl(*client, "--fail-with-body", "-T", file, limited.url(key)).done()
    assert done.code == 22
    assert re.fullmatch(r"This server takes 3 requests per day from an address; come back in \d+ seconds\.\n", done.out)


def test_the_window_goes_on(serve: Callable[..., Server]) -> None:
    """Who waits for as long as it was told is taken again; real curl does with ``--retry``."""
    relay = Relay(serve("--rate-limit", "2/second;100/day"), "memory", "tcp")
    for _ in range(3):
        end = time.monotonic() + PATIENCE
        while (answer := relay.ask("GET", "/-/version")).status != 429:
            assert time.monotonic() < end
        time.sleep(check_limited(answer, 2, "second"))  # as it was told
        assert relay.ask("GET", "/-/version").status == 200
    while relay.ask("GET", "/-/version").status != 429:
        pass
    done = relay.curl("-f", "--retry", "3", relay.url("/-/version")).done()
    assert done.code == 0 and done.out.startswith("beam ")


def test_all_listeners_and_mounts_count_together(serve: Callable[..., Server]) -> None:
    """An address has one count, wherever it comes in; each profile has its words, and its paths."""
    server = serve(
        "--rate-limit",
        "5/day",
        "--mount",
        "/d=drop",
        "--mount",
        "/p=piping",
        "--data-dir",
        "{folder}/d",
        "--store",
        "memory",
        "--store",
        "disk",
    )
    asked = [
        Relay(server, "memory", ends).ask("GET", path)
        for ends, path in (
            ("tcp", "/-/version"),
            ("tls", "/-/version"),
            ("haproxy", "/d/none?wait=0"),
            ("tcp", "/p/version"),
            ("tcp", "/p/version"),
        )
    ]
    assert [left(answer)[1] for answer in asked] == [4, 3, 2, 1, 0]
    tcp = Relay(server, "memory", "tcp")
    check_limited(tcp.ask("GET", "/d/-/health"), 5, "day")  # a key there
    assert tcp.ask("GET", "/-/health").status == 200
    answer = tcp.ask("PUT", "/p/k")
    assert answer.status == 429 and answer.text.startswith("[ERROR] This server takes 5 requests per day")
    assert Relay(server, "memory", "unix").ask("GET", "/-/version").status == 200  # has no address


def test_without_a_limit_nothing_is_said(plain: Relay) -> None:
    """Unless the operator sets one, there is none."""
    for _ in range(300):
        answer = plain.ask("GET", "/-/version")
        assert answer.status == 200
        assert not [name for name, _ in answer.fields if name in FIELDS]


# Addresses.


def test_what_anybody_writes_is_not_believed(serve: Callable[..., Server], plain: Relay) -> None:
    """A client that is no trusted proxy has the address of its connection, in the log and for limits."""
    server = serve("--rate-limit", "3/day", "--trusted-proxy", "192.0.2.0/24")
    relay = Relay(server, "memory", "tcp")
    asked = [relay.ask("GET", "/-/version", sent_by(f"203.0.113.{i}")) for i in range(4)]
    assert [answer.status for answer in asked] == [200, 200, 200, 429]
    forwarded = plain.ask("GET", "/-/help", sent_by("203.0.113.1"), "X-Forwarded-Proto: https").text
    assert "http://beam.test/KEY" in forwarded and "https://" not in forwarded


@pytest.mark.parametrize("ends", ["tcp", "tls", "unix", "haproxy"])
def test_the_log_has_the_addresses_of_clients(few: Server, key: str, ends: str) -> None:
    """Of senders and receivers, as a trusted proxy tells them, by whatever it is connected."""
    relay = Relay(few, "memory", ends)
    n = 1 + ("tcp", "tls", "unix", "haproxy").index(ends)
    receiver = relay.connect().get(key, sent_by(f"10.1.1.1, 2001:db8:{n}::7"))
    sender = relay.connect().put(key, b"abc", sent_by(f"203.0.113.{n}"))
    assert receiver.answer().body == b"abc"
    assert sender.answer().status == 200
    (line,) = [each for each in few.log.read_text().splitlines() if f"sender=203.0.113.{n} " in each]
    assert f"peers=2001:db8:{n}::7 " in line


def test_a_proxy_that_speaks_both(few: Server) -> None:
    """The address of the PROXY line is trusted or not, as that of a connection is."""
    peers = [few.connect("haproxy"), few.connect("tcp")]
    trusted = peers[0].get("/-/version", sent_by("203.0.113.50")).answer()
    again = peers[1].get("/-/version", sent_by("203.0.113.50")).answer()
    assert [left(each)[1] for each in (trusted, again)] == [2, 1]


@pytest.mark.parametrize(("said", "scheme"), [("https", "https"), ("http", "http"), ("gopher", "http")])
def test_pages_name_the_scheme_of_the_client(few: Server, said: str, scheme: str) -> None:
    """As the proxy in front tells it."""
    field = f"X-Forwarded-Proto: {said}"
    page = Relay(few, "memory", "unix").ask("GET", "/-/help", sent_by(f"203.0.113.6{len(said)}"), field)
    assert f" {scheme}://beam.test/KEY" in page.text


# Pages of other origins.

PAGE, OTHER = "https://page.test", "https://other.test"
ASKS = ("Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: tus-resumable, upload-offset")


@pytest.fixture(scope="module")
def sharing(serve: Callable[..., Server]) -> Server:
    """A server that pages of two origins may use; below /p as the Piping Server is used."""
    return serve("--cors-origin", PAGE, "--cors-origin", "http://localhost:8080", "--mount", "/p=piping", "--auth", "s")


@pytest.fixture(scope="module")
def open_to_all(serve: Callable[..., Server]) -> Relay:
    """A server that every page may use."""
    return Relay(serve("--cors-origin", "*", "--mount", "/p=piping", "--mount", "/h=hold:cors="), "memory", "tcp")


def shared(answer: Answer) -> dict[str, str]:
    """What ``answer`` says to a browser about other origins."""
    return {name: value for name, value in answer.fields if name.startswith("access-control-") or name == "vary"}


def preflight(relay: Relay, path: str, origin: str, *fields: str) -> Answer:
    """What a browser asks before it lets a page of ``origin`` send."""
    return relay.ask("OPTIONS", path, f"Origin: {origin}", *ASKS, *fields)


@pytest.mark.parametrize("path", ["/key", "/-/tus", "/-/tus/x", "/api/files/upload", "/", "/-/version", "/a/../b"])
def test_a_preflight(open_to_all: Relay, path: str) -> None:
    """On every path, with all methods and headers that the server knows anywhere."""
    answer = preflight(open_to_all, path, PAGE)
    assert (answer.status, answer.body) == (204, b"")
    assert answer["access-control-allow-origin"] == "*"
    assert set(answer["access-control-allow-methods"].split(", ")) >= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    allowed = set(answer["access-control-allow-headers"].lower().split(", "))
    assert allowed >= {"authorization", "content-type", "range", "if-range", "content-range", "x-forward-url"}
    assert allowed >= {"tus-resumable", "upload-length", "upload-offset", "upload-metadata", "upload-checksum"}
    assert answer["access-control-max-age"] == "86400"
    assert "vary" not in shared(answer) and "access-control-allow-private-network" not in shared(answer)


def test_a_preflight_from_the_internet_to_a_private_network(open_to_all: Relay) -> None:
    """The operator has said so; nobody else is asked."""
    answer = preflight(open_to_all, "/key", PAGE, "Access-Control-Request-Private-Network: true")
    assert answer["access-control-allow-private-network"] == "true"


def test_options_that_are_no_preflight(open_to_all: Relay) -> None:
    """They are answered as ever."""
    for fields in ((), (f"Origin: {PAGE}",), (ASKS[0],)):
        answer = open_to_all.ask("OPTIONS", "/key", *fields)
        assert (answer.status, answer["allow"]) == (204, "GET, HEAD, POST, PUT, OPTIONS")
        assert "access-control-allow-methods" not in shared(answer)


def test_a_page_sends_and_another_receives(open_to_all: Relay, key: str) -> None:
    """Both read their answers, with the headers that matter; what is refused too."""
    sender = open_to_all.connect().put(key, b"abc", f"Origin: {PAGE}")
    receiver = open_to_all.connect().get(key, f"Origin: {OTHER}").answer()
    refused = open_to_all.ask("GET", f"{key}?wait=x", f"Origin: {OTHER}")
    assert receiver.body == b"abc" and refused.status == 400
    for answer in receiver, sender.answer(), refused:
        assert answer["access-control-allow-origin"] == "*"
        exposed = set(answer["access-control-expose-headers"].lower().split(", "))
        assert exposed >= {"etag", "content-range", "content-disposition", "location", "repr-digest", "retry-after"}
        assert exposed >= {"upload-offset", "tus-resumable", "ratelimit-remaining", "x-total-count", "link"}
        assert "access-control-allow-credentials" not in shared(answer)
    assert shared(open_to_all.ask("GET", "/-/version")) == {"access-control-allow-origin": "*"}


def test_a_scope_may_have_its_own_origins(open_to_all: Relay) -> None:
    """The knob wins over the flag."""
    assert shared(preflight(open_to_all, "/h/key", PAGE)) == {}


def test_pages_of_named_origins(sharing: Server, key: str) -> None:
    """They are named in the answer, others are not; a cache hears that it depends."""
    relay = Relay(sharing, "memory", "tcp")
    for origin in (PAGE, "http://localhost:8080"):
        for answer in preflight(relay, key, origin), relay.ask("GET", "/-/version", f"Origin: {origin}"):
            assert answer["access-control-allow-origin"] == origin
            assert answer["vary"] == "Origin"
    for origin in (OTHER, "null", f"{PAGE}.evil.test", "http://page.test", f"{PAGE}:8443"):
        assert shared(preflight(relay, key, origin)) == {"vary": "Origin"}
    assert shared(relay.ask("GET", "/-/version", f"Origin: {OTHER}")) == {"vary": "Origin"}
    assert shared(relay.ask("GET", "/-/version")) == {"vary": "Origin"}
    page = relay.ask("GET", key, f"Origin: {PAGE}", "Accept: text/html", "User-Agent: Mozilla/5.0")
    assert [value for name, value in page.fields if name == "vary"] == ["Origin", "accept, user-agent, sec-fetch-mode"]


def test_a_page_hears_what_is_refused(sharing: Server, serve: Callable[..., Server], key: str) -> None:
    """The secret that is missing, and the rate that is exceeded; preflights count too."""
    refused = sharing.connect().put(key, b"abc", f"Origin: {PAGE}").answer()
    assert (refused.status, refused["access-control-allow-origin"]) == (401, PAGE)
    relay = Relay(serve("--cors-origin", "*", "--rate-limit", "1/day"), "memory", "tcp")
    assert preflight(relay, key, PAGE).status == 204
    limited = relay.ask("GET", key, f"Origin: {PAGE}")
    check_limited(limited, 1, "day")
    assert limited["access-control-allow-origin"] == "*"
    assert {"Retry-After", "RateLimit-Reset"} <= set(limited["access-control-expose-headers"].split(", "))


def test_piping_answers_as_it_does(open_to_all: Relay, sharing: Server) -> None:
    """Its preflights are the Piping Server's; the flag says whose pages may."""
    expected = {
        "access-control-allow-methods": "GET, HEAD, POST, PUT, OPTIONS",
        "access-control-allow-headers": "Content-Type, Content-Disposition, X-Piping",
        "access-control-expose-headers": "Access-Control-Allow-Headers",
        "access-control-max-age": "86400",
    }
    for relay, origin, more in (
        (open_to_all, PAGE, {"access-control-allow-origin": "*"}),
        (Relay(sharing, "memory", "tcp"), PAGE, {"access-control-allow-origin": PAGE, "vary": "Origin"}),
        (Relay(sharing, "memory", "tcp"), OTHER, {"vary": "Origin"}),
    ):
        answer = preflight(relay, "/p/key", origin)
        assert answer.status == 200
        assert shared(answer) == {**expected, **more}
