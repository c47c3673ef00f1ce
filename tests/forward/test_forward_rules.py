"""Which forwards beam refuses, before it asks for a byte of the body, and what it keeps to itself."""

import sys
import time
from pathlib import Path

import pytest
from contract.peers import Answer, check_refusal
from contract.server import Certificate
from forward.conftest import Serve
from forward.support import (
    FORWARDS,
    SHORT,
    SIZE,
    TIMES,
    Sender,
    begin,
    forwards,
    metrics,
    read,
    send,
    sha256,
)
from forward.targets import (
    XML,
    End,
    ScriptedTarget,
    early,
    late,
    never_reads,
    reads_then_stops,
    redirects,
    refusing_port,
    s3_error,
)
from harness import Server

AMAZON = "https://*.s3.*.amazonaws.com/in/*"
EXPECTS = "Expect: 100-continue"


def refused(server: Server, to: str | None, *fields: str, path: str = "/k", length: int | None = 5) -> Answer:
    """The answer to the head of a send; beam never asks for its body."""
    answer = begin(server, path, EXPECTS, *fields, length=length, to=to).answer()
    assert answer.interim == ()
    return answer


def test_forwards_are_off_by_default(serve: Serve) -> None:
    """403, and the sentence names the flag."""
    with ScriptedTarget() as target:
        check_refusal(refused(serve(), target.url()), 403, "--allow-forward")
        assert not target.connections


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://evil.test/x.s3.y.amazonaws.com/in/z", 403),
        ("https://evil.test/in/https://x.s3.y.amazonaws.com/in/z", 403),
        ("https://evil.test/?https://x.s3.y.amazonaws.com/in/z", 403),
        ("https://169.254.169.254#.s3.a.amazonaws.com/", 400),
        ("https://169.254.169.254#.s3.a.amazonaws.com/in/z", 400),
        ("https://169.254.169.254?.s3.a.amazonaws.com/in/z", 403),
        ("https://169.254.169.254\\.s3.a.amazonaws.com/in/z", 400),
        ("https://x.s3.y.amazonaws.com.evil.test/in/z", 403),
        ("https://x.s3.y.z.amazonaws.com/in/z", 403),
        ("https://a.x.s3.y.amazonaws.com/in/z", 403),
        ("https://s3.y.amazonaws.com/in/z", 403),
        ("https://x.s3.y.amazonaws.com./in/z", 400),
        ("http://x.s3.y.amazonaws.com/in/z", 403),
        ("https://x.s3.y.amazonaws.com:8443/in/z", 403),
        ("https://x.s3.y.amazonaws.com/out/z", 403),
        ("https://x.s3.y.amazonaws.com/in/../out/z", 403),
        ("https://x.s3.y.amazonaws.com/in/%2e%2E/out/z", 403),
        ("https://x.s3.y.amazonaws.com/?/in/z", 403),
        ("https://x.s3.y.amazonaws.com@evil.test/in/z", 400),
        ("https://user@x.s3.y.amazonaws.com/in/z", 400),
        ("https://user:s3cr3t@x.s3.y.amazonaws.com/in/z", 400),
        ("https://*.s3.y.amazonaws.com/in/z", 400),
        ("https://x.s3.y.amazonaws.com:0/in/z", 400),
        ("https://x.s3.y.amazonaws.com:99999/in/z", 400),
        ("ftp://x.s3.y.amazonaws.com/in/z", 400),
        ("file:///etc/passwd", 400),
        ("//x.s3.y.amazonaws.com/in/z", 400),
        ("x.s3.y.amazonaws.com/in/z", 400),
        ("https:///in/z", 400),
        ("any", 400),
        ("https://x.s3.y.amazonaws.com/in/z https://evil.test/", 400),
        ("https://x.s3.y.amazonaws.com/in/\u00fc", 400),
        ("https://x.s3.y.amazonaws.com/in/" + "z" * 5000, 400),
    ],
)
def test_an_address_that_does_not_match_is_refused(url: str, status: int, serve: Serve) -> None:
    """Scheme, host label by label, port and path are matched apart; userinfo is never taken."""
    answer = refused(serve("--allow-forward", AMAZON, *TIMES), url)
    check_refusal(answer, status)
    assert "s3cr3t" not in answer.text


def test_patterns_are_repeatable_and_let_pass_what_matches(serve: Serve, short: Path) -> None:
    """Any port and a part of the path."""
    patterns = (
        "--allow-forward",
        f"{AMAZON} https://files.example/*",
        "--allow-forward",
        "http://127.*.0.1:*/in/*.bin",
    )
    flags = (*patterns, "--allow-forward-private")
    server = serve(*flags)
    with ScriptedTarget() as target:
        send(server, "/k", short, to=target.url("/in/a/b.bin?q=/out"))
        assert target.request().target == b"/in/a/b.bin?q=/out"
        send(server, "/k", short, to=target.url("/in/a/b.txt"), status=403)
        send(server, "/k", short, to=target.url("/in/a/b.txt?.bin"), status=403)
        send(server, "/k", short, to=target.url("/in/a/b.bin").replace("http:", "https:"), status=403)
        assert len(target.connections) == 1


def test_the_address_is_given_once(beam: Server) -> None:
    """Twice is 400, and so is an option without an address."""
    with ScriptedTarget() as target:
        check_refusal(refused(beam, target.url(), f"X-Forward-Url: {target.url()}"), 400)
        check_refusal(refused(beam, None, path="/k?forward=best-effort"), 400, "X-Forward-Url")
        check_refusal(refused(beam, target.url(), path="/k?forward=sometimes"), 400)
        assert not target.connections


def test_an_unknown_length_needs_the_spool(beam: Server, serve: Serve, short: Path) -> None:
    """411 without it, chunked or form, before the body; 400 on a server without a disk store."""
    with ScriptedTarget() as target:
        check_refusal(refused(beam, target.url(), length=None), 411, "forward=spool")
        form = "Content-Type: multipart/form-data; boundary=x"
        check_refusal(refused(beam, target.url(), form), 411, "forward=spool")
        check_refusal(refused(beam, target.url(), length=None, path="/k?forward=best-effort"), 411)
        assert "forward=spool" in send(beam, "/k", short, to=target.url(), how="form", status=411)
        diskless = serve("--store", "memory", *FORWARDS)
        check_refusal(refused(diskless, target.url(), path="/k?forward=spool", length=None), 400, "disk")
        assert not target.connections


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Expect", "TE", ""])
def test_a_header_of_the_connection_is_not_forwarded(name: str, beam: Server) -> None:
    """400 before the body."""
    with ScriptedTarget() as target:
        check_refusal(refused(beam, target.url(), f"X-Forward-Header-{name}: 1"), 400)
        assert not target.connections


# Addresses.

NAMES = """
import os, socket, sys, time
real = socket.getaddrinfo
def getaddrinfo(host, port, *rest, **more):
    if not str(host).endswith(".test"):
        return real(host, port, *rest, **more)
    os.write(2, f"asked for {host}\\n".encode())
    time.sleep(4 if host == "slow.test" else 0)
    found = {"mixed.test": ["8.8.8.8", "127.0.0.1"], "second.test": ["127.0.0.9", "127.0.0.1"]}
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found.get(host, ["127.0.0.1"])]
socket.getaddrinfo = getaddrinfo
from twisted.application.twist._twist import Twist
sys.argv[0] = "twist"
Twist.main()
"""
RESOLVES = (sys.executable, "-c", NAMES)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "localhost"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255"),
        *("169.254.169.254", "168.63.129.16", "[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]", "[fc00::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:a00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[ff02::1]"),
    ],
)
def test_an_address_that_is_not_public_is_refused(host: str, serve: Serve) -> None:
    """However it is written, and before the body; an operator that lets any pattern pass has not allowed it."""
    server = serve("--allow-forward", "any", *TIMES)
    with ScriptedTarget() as target:
        check_refusal(refused(server, f"http://{host}:{target.port}/latest/meta-data"), 403, "public")
        assert not target.connections


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test", "."])
def test_what_can_be_no_name_is_no_address(host: str, beam: Server) -> None:
    """400 before the body; no resolver is asked."""
    check_refusal(refused(beam, f"http://{host}/"), 400, "URL")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "-", "xn--a.test"])
def test_a_name_that_nobody_knows_is_a_failure(host: str, short: Path, tmp_path: Path) -> None:
    """502; nothing is left, and the log has no error."""
    with Server(*FORWARDS, *TIMES, log=tmp_path / "log") as server:
        before = server.descriptors()
        reply = Sender(server, "/k", short, "--max-time", "4", to=f"http://{host}/").reply()
        assert reply.status == 502, reply
        assert "has no known address" in reply.text
        server.until_clean(before)
        assert '"log_failure"' not in server.log.read_text()


def test_a_name_is_resolved_once(short: Path, tmp_path: Path) -> None:
    """What is connected to is what was checked: each of its addresses, until one answers."""
    with Server(*FORWARDS, *TIMES, log=tmp_path / "log", command=RESOLVES) as server, ScriptedTarget() as target:
        before = server.descriptors()
        send(server, "/k", short, to=f"http://second.test:{target.port}/x")
        assert target.request().get("Host") == f"second.test:{target.port}"
        server.until_clean(before)
        assert server.log.read_text().count("asked for") == 1


def test_one_address_that_is_not_public_is_enough(tmp_path: Path) -> None:
    """403 before the body, although the first address is public."""
    flags = ("--allow-forward", "any", *TIMES)
    with Server(*flags, log=tmp_path / "log", command=RESOLVES) as server, ScriptedTarget() as target:
        check_refusal(refused(server, f"http://mixed.test:{target.port}/"), 403, "public")
        assert not target.connections


def test_resolving_is_bounded(short: Path, tmp_path: Path) -> None:
    """A name server that does not answer is a target that cannot be reached, once ``--forward-timeout`` is over."""
    with Server(*FORWARDS, *TIMES, log=tmp_path / "log", command=RESOLVES) as server:
        before = server.descriptors()
        began = time.monotonic()
        reply = Sender(server, "/k", short, "--max-time", "6", to="http://slow.test/").reply()
        assert reply.status == 502, reply
        assert 0.9 < time.monotonic() - began < 3
        server.until_clean(before)
        assert '"log_failure"' not in server.log.read_text()


# Certificates.


def test_a_certificate_that_nobody_trusts_is_refused(beam: Server, short: Path, certificate: Certificate) -> None:
    """502, and the target never sees the request."""
    with ScriptedTarget(certificate=certificate.certificate, key=certificate.key) as target:
        text = send(beam, "/k", short, to=target.url(), status=502)
        assert "certificate" in text
        assert target.connection().wait_until_ended() is End.HANDSHAKE
        assert not target.requests


def test_a_trusted_certificate_has_to_be_that_of_the_host(
    serve: Serve, file: Path, short: Path, certificate: Certificate
) -> None:
    """``SSL_CERT_FILE`` names an authority; the name is checked all the same."""
    server = serve(*FORWARDS, *TIMES, SSL_CERT_FILE=str(certificate.certificate))
    with ScriptedTarget(certificate=certificate.certificate, key=certificate.key) as target:
        send(server, "/k", file, to=target.url())
        assert target.request().size == SIZE
        other = target.url().replace("127.0.0.1", "localhost")
        assert "certificate" in send(server, "/k", short, to=other, status=502)
        assert len(target.requests) == 1


@pytest.mark.parametrize("name", ["early", "stalls"])
def test_targets_behind_tls_fail_as_others_do(name: str, serve: Serve, file: Path, certificate: Certificate) -> None:
    """An early refusal and a stall are told."""
    server = serve(*FORWARDS, *TIMES, SSL_CERT_FILE=str(certificate.certificate))
    behaviour, says = {
        "early": (early(403, s3_error("AccessDenied", "No"), [XML]), "answered 403: AccessDenied: No"),
        "stalls": (reads_then_stops(), "stood still"),
    }[name]
    with ScriptedTarget(behaviour, certificate=certificate.certificate, key=certificate.key) as target:
        assert says in send(server, "/k", file, to=target.url(), status=502)


def test_a_target_that_speaks_no_tls_is_a_failure(beam: Server, short: Path) -> None:
    """502; it is not asked again in clear."""
    with ScriptedTarget(never_reads) as target:
        send(beam, "/k", short, to=target.url("/").replace("http:", "https:"), status=502)
        assert len(target.connections) == 1


# Secrets.

SECRET = "X-Amz-Credential=AKIAHIDDEN0&X-Amz-Signature=5ec4e7f00d"
HIDDEN = ("AKIAHIDDEN", "5ec4e7f00d", "Amz", "tokenhidden", "passwordhidden", "pathhidden")


def test_secrets_are_nowhere_to_be_seen(beam: Server, serve: Serve, short: Path, file: Path) -> None:
    """Neither in an answer, nor on the page, in the metrics or the log, however a forward ends."""
    seen: list[str] = []
    path = f"/pathhidden?{SECRET}"
    token = "X-Forward-Header-Authorization: Bearer tokenhidden"
    denied = s3_error("SignatureDoesNotMatch", "It does not.", AWSAccessKeyId="AKIAHIDDEN0", StringToSign=SECRET)
    closed = serve("--allow-forward", "any", *TIMES)
    with ScriptedTarget(redirects("http://127.0.0.1/?" + SECRET)) as target, refusing_port() as port:
        for behaviour, source in [
            (target.behaviour, short),
            (late(200), short),
            (late(403, denied, [XML]), short),
            (early(403, denied, [XML]), file),
            (reads_then_stops(), file),
        ]:
            target.behaviour = behaviour
            seen.append(Sender(beam, "/k", source, "-H", token, to=target.url(path)).reply().text)
        for to in (
            f"http://127.0.0.1:{port}{path}",
            f"https://127.0.0.1:{target.port}{path}",
            f"http://u:passwordhidden@127.0.0.1{path}",
            f"http://127.0.0.1:99999{path}",
            f"http://127.0.0.1{path}#",
            f"http://127.0.0.1{path} ",
            f"gopher://127.0.0.1{path}",
        ):
            seen.append(Sender(beam, "/k", short, "-H", token, to=to).reply().text)
        seen.append(Sender(closed, "/k", short, to=target.url(path)).reply().text)
        target.behaviour = late(200)
        sender = begin(beam, "/k", token, length=2, to=target.url(path)).send(b"a")
        target.request(-1).wait_until_read(1)
        seen += [metrics(beam), read(beam, "/"), metrics(closed)]
        answer = sender.send(b"b").answer()
        assert answer.status == 200
        seen += [answer.text, str(answer.fields), metrics(beam), beam.log.read_text(), closed.log.read_text()]
    for text in seen:
        for secret in HIDDEN:
            assert secret not in text, text[-2000:]


# Metrics.


def test_the_counters_of_forwards(serve: Serve, short: Path) -> None:
    """One for each word, there from the start; bytes are counted as they go."""
    server = serve("--store", "memory:cap=512M", *FORWARDS, *TIMES)
    page = metrics(server)
    for word in ("forwarded", "refused", "unreachable", "stalled", "cut"):
        assert f'beam_forwards_total{{outcome="{word}"}} 0.0' in page
    assert server.gauges()["bytes_forwarded_total"] == 0
    assert "# TYPE beam_active_forwards gauge" in page
    with ScriptedTarget() as target, refusing_port() as port:
        send(server, "/k", short, to=target.url())
        send(server, "/k?forward=best-effort&wait=0", short, to=f"http://127.0.0.1:{port}/", status=504)
        assert target.request().sha256 == sha256(SHORT)
    assert forwards(server) == {"forwarded": 1, "unreachable": 1}
    assert server.gauges()["bytes_forwarded_total"] == len(SHORT)
