"""The targets do what they say, and record what came."""

import contextlib
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forward.targets import (
    Behaviour,
    End,
    Malformed,
    MotoS3,
    ScriptedTarget,
    SignedS3,
    StoredObject,
    accept,
    created,
    cuts,
    early,
    late,
    never_answers,
    never_reads,
    reads_then_stops,
    redirects,
    refusing_port,
    s3_error,
    silent_close,
    slow,
)
from harness import BOUND, curl

from beam.testing import some_bytes

SIZE = 3_000_017
BODY = some_bytes(SIZE)
DIGEST = hashlib.sha256(BODY).hexdigest()
FORBIDDEN = s3_error("AccessDenied", "Access Denied")
CHUNKED = ("-H", "Transfer-Encoding: chunked")
AT_ONCE = ("-H", "Expect:")


def descriptors() -> set[str]:
    """What this process has open, without pipes: the reactor of pytest-twisted opens some in the first test."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
    return {each for each in found if " pipe:" not in each}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread and no descriptor outlives its target."""
    threads, before = threading.active_count(), descriptors()
    yield
    assert threading.active_count() == threads
    assert descriptors() <= before


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to send."""
    path = tmp_path_factory.mktemp("sent") / "file"
    path.write_bytes(BODY)
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"),
        ],
        capture_output=True,
        check=True,
    )
    path.write_bytes(made.stdout)
    return path


def put(file: Path, url: str, *arguments: str | Path) -> tuple[int, int, str]:
    """curl's exit code, the status and the answer's body."""
    command = ("-T", str(file), "-m", "20", "-w", "\n%{http_code}", *map(str, arguments), url)
    with curl(*command) as process:
        out, _ = process.communicate(timeout=BOUND)
    body, _, status = out.decode().rpartition("\n")
    return process.returncode, int(status), body


@pytest.mark.parametrize("arguments", [(), CHUNKED, AT_ONCE], ids=["length", "chunked", "no expect"])
def test_a_request_is_recorded_as_it_was_on_the_wire(file: Path, arguments: tuple[str, ...]) -> None:
    """The target's spelling, the headers in their order, the body and the connection's end."""
    with ScriptedTarget(keep=True) as target:
        path = "/a%2fb//c~%7E?x=%20+&&y"
        assert put(file, target.url(path), "-H", "X-One: 1", "-H", "x-TWO:  a  b ", *arguments)[:2] == (0, 200)
        request = target.request()
        assert request.line == b"PUT %b HTTP/1.1" % path.encode()
        assert request.target == path.encode()
        assert [each for each in request.headers if each[0].lower().startswith(b"x-")] == [
            (b"X-One", b"1"),
            (b"x-TWO", b"a  b"),
        ]
        assert request.head.startswith(request.line + b"\r\nHost: 127.0.0.1:%d\r\n" % target.port)
        assert (request.size, request.sha256, request.whole, request.answered) == (SIZE, DIGEST, True, 200)
        assert request.body == BODY
        assert request.connection.wait_until_ended() is End.CLOSED
        assert request.at <= (request.connection.ended or 0) <= time.monotonic()


def test_small_and_split_chunks_are_decoded() -> None:
    """However the bytes come, with extensions and trailers; and the connection goes on."""
    wire = b"".join(b"%x;a=b\r\n%b\r\n" % (n, BODY[:n]) for n in (1, 2, 300, 16)) + b"000\r\nX-T: 1\r\n\r\n"
    with ScriptedTarget(created, keep=True) as target:
        with socket.create_connection(("127.0.0.1", target.port), timeout=BOUND) as peer:
            for n in range(2):
                peer.sendall(b"POST /k HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n")
                for at in range(0, len(wire), 7):
                    peer.sendall(wire[at : at + 7])
                assert target.request(n).wait_for_answer() == 201
                assert target.request(n).body == BODY[:1] + BODY[:2] + BODY[:300] + BODY[:16]
        assert [request.connection for request in target.requests] == target.connections * 2


def test_what_is_no_http_is_told_at_the_end() -> None:
    """More than was announced is taken for a request, and that is wrong."""
    target = ScriptedTarget()
    with socket.create_connection(("127.0.0.1", target.port), timeout=BOUND) as peer:
        peer.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n12\r\n\r\n")
        target.connection().wait_until_ended()
    with pytest.raises(Malformed, match="request line b'2'"):
        target.close()


@pytest.mark.parametrize(
    ("behaviour", "code", "status", "whole"),
    [
        (accept, 0, 200, True),
        (created, 0, 201, True),
        (late(500, FORBIDDEN), 0, 500, True),
        (early(403, FORBIDDEN, then="reads"), 0, 403, None),
        (early(403, FORBIDDEN), 0, 403, False),
        (redirects("http://127.0.0.1:1/there?x=%20"), 0, 307, True),
        (redirects("/there", at_once=True), 0, 307, None),
        (silent_close, 52, 0, True),
        (cuts(), 56, 0, False),
        (cuts(1_234_567), 56, 0, False),
        (reads_then_stops(), 28, 0, False),
        (never_answers, 28, 0, True),
        (never_reads, 28, 0, False),
    ],
    ids=str,
)
def test_behaviours_as_curl_sees_them(
    file: Path, behaviour: Behaviour, code: int, status: int, whole: bool | None
) -> None:
    """Its exit code and the status; and what the target has of the body."""
    with ScriptedTarget(behaviour) as target:
        found = put(file, target.url(), *AT_ONCE, "-m", "1" if code == 28 else "20")
        # curl may notice a reset while it sends or while it waits, and an early answer does not keep it from sending
        assert found[0] in {56: (55, 56), 0: (0, 55)}.get(code, (code,))
        assert found[1] == status
        assert target.connection().wait_until_ended() in (
            (End.OURS,) if behaviour is silent_close or code == 56 else (End.CLOSED, End.RESET)
        )
        if behaviour is never_reads:
            assert not target.requests
            return
        request = target.request()
        assert whole is None or request.whole is whole
        assert not request.whole or (request.size, request.sha256) == (SIZE, DIGEST)
        if behaviour.name.startswith("cuts"):
            assert request.size in (0, 1_234_567)
        if behaviour.name.startswith("reads_then"):
            assert request.size == 1 << 20


@pytest.mark.parametrize("behaviour", [never_reads, reads_then_stops(100), early(403, FORBIDDEN)], ids=str)
def test_who_stops_reading_stalls_the_peer_and_sees_it_reset(behaviour: Behaviour) -> None:
    """A sender gets rid of no more than the buffers take."""
    with ScriptedTarget(behaviour, receive_buffer=4 << 10) as target:
        with socket.create_connection(("127.0.0.1", target.port), timeout=0.5) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
            peer.sendall(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
            with pytest.raises(TimeoutError):
                peer.sendall(bytes(64 << 20))
            assert target.connection().ended is None
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert target.connection().wait_until_ended() is End.RESET


def test_slow_reads_at_its_rate(file: Path) -> None:
    """The time that the body takes."""
    with ScriptedTarget(slow(4_000_000)) as target:
        began = time.monotonic()
        assert put(file, target.url())[:2] == (0, 200)
        assert 0.7 < time.monotonic() - began < 5
        assert target.request().sha256 == DIGEST


def test_a_body_that_breaks_off_is_not_whole() -> None:
    """Its end is recorded, and what had come."""
    with ScriptedTarget() as target:
        for n, head in enumerate((b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3E8\r\n")):
            with socket.create_connection(("127.0.0.1", target.port), timeout=BOUND) as peer:
                peer.sendall(b"PUT / HTTP/1.1\r\n" + head + b"123")
                request = target.request(n)
                request.wait_until_read(3)
            assert request.connection.wait_until_ended() is End.CLOSED
        assert [(request.size, request.whole) for request in target.requests] == [(3, False)] * 2


@pytest.mark.parametrize("behaviour", [accept, never_reads, reads_then_stops(1), slow(1)], ids=str)
def test_a_target_ends_with_open_connections(behaviour: Behaviour) -> None:
    """At once, whatever its threads wait for."""
    target = ScriptedTarget(behaviour)
    with socket.create_connection(("127.0.0.1", target.port), timeout=BOUND) as peer:
        peer.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345")
        target.connection()
        began = time.monotonic()
        target.close()
        assert time.monotonic() - began < 2
        assert target.connection().end is End.OURS
    target.close()


def test_tls(file: Path, certificate: Path) -> None:
    """For those who trust the certificate."""
    with ScriptedTarget(certificate=certificate) as target:
        assert put(file, target.url("/k"))[0] == 60
        assert target.connection().wait_until_ended() is End.HANDSHAKE
        assert put(file, target.url("/k"), "--cacert", certificate, "-H", "Connection: close")[:2] == (0, 200)
        assert target.request().sha256 == DIGEST
        assert target.connection(1).wait_until_ended() in (End.CLOSED, End.RESET)  # curl does not read our close_notify
        target.behaviour = cuts(100_000)
        assert put(file, target.url("/k"), "--cacert", certificate)[0] in (55, 56)
        target.behaviour = never_reads
        assert put(file, target.url("/k"), "--cacert", certificate, "-m", "1")[0] == 28
        assert target.connection(3).wait_until_ended() in (End.CLOSED, End.RESET)


def test_a_refusing_port(file: Path) -> None:
    """Nobody is there."""
    with refusing_port() as port:
        assert put(file, f"http://127.0.0.1:{port}/")[0] == 7


def code_of(answer: str) -> str | None:
    """The code in an S3's answer."""
    found = re.search("<Code>(.+)</Code>", answer)
    return found and found[1]


def test_a_signed_put_is_stored(file: Path, certificate: Path) -> None:
    """With what was signed, over TLS as well; a key may have any characters."""
    key = "a b/ü+~%2F//?&=.bin"
    signed: dict[str, Any] = {"ContentType": "text/plain; x=y", "Metadata": {"who": "me  two"}}
    headers = ("-H", "Content-Type: text/plain; x=y", "-H", "x-amz-meta-who: me two")
    with SignedS3(keep=True, certificate=certificate) as s3:
        url = s3.presign(key, **signed)
        assert put(file, url, "--cacert", certificate, *headers) == (0, 200, "")
        assert s3.object(key) == StoredObject(SIZE, DIGEST, "text/plain; x=y", {"who": "me two"})
        assert s3.request().body == BODY
    with SignedS3() as s3:
        assert put(file, s3.presign("k"), "-H", "Content-Type: a/b", "-D", "-")[2].count(hashlib.md5(BODY).hexdigest())
        assert s3.object("k") == StoredObject(SIZE, DIGEST, "a/b", {})
        assert s3.object("other") is None


def test_what_was_not_signed_is_refused(file: Path) -> None:
    """With S3's status and code; nothing is stored."""
    with SignedS3() as s3:
        url, typed = s3.presign("k"), s3.presign("k", ContentType="text/plain")
        for status, code, *arguments in (
            (403, "SignatureDoesNotMatch", url.replace("/k?", "/K?")),
            (403, "SignatureDoesNotMatch", url[:-1] + ("0" if url[-1] != "0" else "1")),
            (403, "SignatureDoesNotMatch", url + "&x=y"),
            (403, "SignatureDoesNotMatch", url, "-X", "POST"),
            (403, "SignatureDoesNotMatch", url, "-H", "Host: example.org"),
            (403, "SignatureDoesNotMatch", typed),
            (403, "SignatureDoesNotMatch", typed, "-H", "Content-Type: text/html"),
            (403, "SignatureDoesNotMatch", url.replace("Expires=300", "Expires=301")),
            (403, "AccessDenied", url, "-H", "x-amz-meta-a: b"),
            (403, "AccessDenied", url.partition("?")[0]),
            (403, "InvalidAccessKeyId", url.replace("AKIA", "BKIA")),
            (400, "AuthorizationQueryParametersError", url.replace("us-east-1", "us-east-2")),
            (501, "NotImplemented", url, *CHUNKED),
        ):
            found = put(file, str(arguments[0]), *map(str, arguments[1:]))
            assert (found[1], code_of(found[2])) == (status, code), found
        assert "<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>" in put(file, typed)[2]
        with curl("-X", "PUT", "-H", "Content-Length:", url) as process:
            assert code_of(process.communicate(timeout=BOUND)[0].decode()) == "MissingContentLength"
        s3.ahead = 301
        assert "Request has expired" in put(file, url)[2]
        assert not s3.objects
        s3.ahead = 0
        assert put(file, url.replace("%2F", "%2f"))[1] == 200  # another spelling of the same


def test_moto(file: Path, tmp_path: Path) -> None:
    """It stores what is put, and ends."""
    with MotoS3(tmp_path / "log") as s3:
        url = s3.presign("a b/ü", ContentType="text/plain", Metadata={"who": "me"})
        headers = ("-H", "Content-Type: text/plain", "-H", "x-amz-meta-who: me")
        assert put(file, url, *headers)[:2] == (0, 200)
        assert s3.object("a b/ü") == StoredObject(SIZE, DIGEST, "text/plain", {"who": "me"})
        assert s3.object("other") is None
    assert s3.process.returncode == 0
