"""What docs/operate.md says beside its commands: flags, log, metrics, stopping, the disk, units, images, sockets."""

import configparser
import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import evolve, frozen
from docs.support import OPERATE, ROOT, block, make_certificate, running
from harness import BOUND, Server, curl, free_port, read_until, twist, until

from beam.errors import Forwarded, Outcome
from beam.flags import FLAGS, SWITCHES
from beam.log import LINE
from beam.tap import FAREWELL
from beam.web.head import LIMIT

TEXT = OPERATE.read_text()
PROSE = re.sub(r"\s+", " ", TEXT)  # lines may break anywhere
SERVICE = "# /etc/systemd/system/beam.service"
SOCKET = "# /etc/systemd/system/beam.socket"
DOCKERFILE = "# Built in the folder of beam's source"
COMPOSE = "# compose.yaml"

# As systemd does it: the sockets are the descriptors from 3 on, and the process is the one that is meant.
ACTIVATE = """
import os, socket, sys
listening = socket.socket()
listening.bind(("127.0.0.1", int(sys.argv[1])))
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "beam.socket"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables in the section below ``heading``."""
    section = re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None, f"there is no section {heading}"
    lines = [line for line in section[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if not line.startswith("| ---")]


def seconds(text: str) -> float:
    """``75``, ``75s`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    assert match is not None, text
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def default_of(name: str) -> str:
    """The default of a flag."""
    return next(flag.default for flag in FLAGS if flag.name == name)


# Flags.


def test_the_table_of_flags_is_that_of_the_code() -> None:
    """Each flag with its short form, its variable and its default, in the order of the code."""
    expected = [
        [
            ", ".join([f"`-{flag.short}`"] * (flag.short is not None) + [f"`--{flag.name}`"]),
            f"`BEAM_{flag.name.upper().replace('-', '_')}`",
            f"`{flag.default}`" if flag.default else "",
        ]
        for flag in FLAGS
    ] + [[f"`--{name}`", f"`BEAM_{name.upper().replace('-', '_')}`", "off"] for name in SWITCHES]
    assert [row[:3] for row in rows("Flags")[1:]] == expected


def test_a_flag_stands_before_its_variable_and_lists_have_spaces(tmp_path: Path) -> None:
    """The server listens where both variables and flags say."""
    first, second = free_port(), free_port()
    environment = {
        "PATH": "/usr/bin:/bin",
        "BEAM_LISTEN": "127.0.0.1:1",  # the harness gives --listen, which wins
        "BEAM_STORE": f"memory spare=memory disk:{tmp_path}/disk:cap=1M",
        "BEAM_LIST_KEYS": "1",
        "BEAM_MAX_PIPE_SIZE": "1K",
    }
    with Server(
        "--max-pipe-size", "2K", "--listen", f"127.0.0.1:{first}", log=tmp_path / "log", env=environment
    ) as beam:
        assert first != second
        with curl(beam.url("/-/help")) as asked:
            assert b"one of: memory, spare, disk" in asked.communicate(timeout=BOUND)[0]
        with curl("-T", "-", f"http://127.0.0.1:{first}/key", stdin=subprocess.PIPE) as sender:
            assert b"2048 bytes" in sender.communicate(b"x" * 3000, timeout=BOUND)[0]
    assert '"key": "key"' in beam.log.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        "--no-such-flag",
        "--put-ttl soon",
        "--listen nonsense",
        "--listen 192.0.2.1:1",
        "--rate-limit 5/fortnight",
        "--trusted-proxy everybody",
        "--cors-origin https://example.org/",
        "--store tape",
        "--store disk:/proc/no",
        "--data-dir x",
        "word",
    ],
)
def test_what_cannot_be_is_one_line_and_exit_status_1(arguments: str) -> None:
    """Nothing else is printed, and nothing is left running."""
    command = [twist(), "beam", "--listen", "127.0.0.1:0", *arguments.split()]
    done = subprocess.run(command, capture_output=True, timeout=BOUND)
    assert done.returncode == 1
    errors = [line for line in done.stderr.decode().splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("beam: ")


# The log and the metrics.


def test_the_log_line_has_the_fields_of_the_document(tmp_path: Path) -> None:
    """In text as the example shows it, in JSON under the names of the table; refusals are not logged."""
    (example,) = re.findall(r"^\S+ \[beam\.log#info\] (transfer .*)$", TEXT, re.MULTILINE)
    table = [[cell.strip("`") for cell in row] for row in rows("The log") if len(row) == 3][1:]
    names = re.findall(r"(\w+)=", example)
    assert names == [text for text, *_ in table[1:]] == re.findall(r"(\w+)=\{", LINE)
    for style in "text", "json":
        with Server(log=tmp_path / style, command=(twist(), "--log-format", style)) as beam:
            url = beam.url("/report")
            with curl("-T", "-", url, stdin=subprocess.PIPE) as sender, curl(url) as receiver:
                sender.communicate(b"four", timeout=BOUND)
                receiver.communicate(timeout=BOUND)
            with curl("-T", "-", beam.url("/report?wait=x"), stdin=subprocess.PIPE) as refused:
                refused.communicate(b"four", timeout=BOUND)
        lines = [line for line in (tmp_path / style).read_text().splitlines() if "beam.log" in line]
        assert len(lines) == 1
        if style == "text":
            pattern = re.sub(r"\\?=[^ ]+", "=[^ ]+", re.escape(example).replace(r"\ ", " "))
            assert re.search(pattern, lines[0]), lines[0]
            assert "key=r... bytes=4 sent=4" in lines[0]
        else:
            event = json.loads(lines[0])
            assert {name for _, name, _ in table} <= event.keys()


def test_the_outcomes_are_those_of_the_code() -> None:
    """Each word is explained once."""
    words = [word for row in rows("The log") if len(row) == 2 for word in re.findall(r"`([\w-]+)`", row[0])]
    assert sorted(words) == sorted(Outcome)


def test_the_metrics_are_those_of_the_server(tmp_path: Path) -> None:
    """Each is in the table, and each of the table is there; the words of the outcomes are its labels."""
    with Server(log=tmp_path / "log") as beam, curl(f"http://127.0.0.1:{beam.metrics_port}/metrics") as asked:
        text = asked.communicate(timeout=BOUND)[0].decode()
    told = {name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if not name.endswith("_created")}
    documented = {name for row in rows("Metrics and health") for name in re.findall(r"`(beam_\w+)`", row[0])}
    assert told == documented
    assert set(re.findall(r'transfers_total{outcome="([\w-]+)"', text)) == set(Outcome)
    assert set(re.findall(r'forwards_total{outcome="([\w-]+)"', text)) == set(Forwarded)


# Stopping.


def stop_times() -> dict[str, float]:
    """Every time after which something kills, in seconds, by where it is said."""
    service = block(OPERATE, SERVICE)
    return {
        "systemd": seconds(re.findall(r"^TimeoutStopSec=(\S+)$", service, re.MULTILINE)[0]),
        "docker run": seconds(re.findall(r"--stop-timeout (\S+)", PROSE)[0]),
        "compose": seconds(re.findall(r"^ +stop_grace_period: (\S+)$", block(OPERATE, COMPOSE), re.MULTILINE)[0]),
        "Kubernetes": seconds(re.findall(r"`terminationGracePeriodSeconds: (\d+)`", PROSE)[0]),
    }


@pytest.mark.parametrize(("where", "given"), stop_times().items(), ids=list(stop_times()))
def test_the_stop_times_fit_the_drain(where: str, given: float) -> None:
    """Nobody kills beam while it drains: the time is longer, with some to spare."""
    assert given >= float(default_of("drain-timeout")) + FAREWELL + 5
    for said in re.findall(r"(?:--drain-timeout |BEAM_DRAIN_TIMEOUT: )\"?(\d+)", PROSE):
        assert float(said) == float(default_of("drain-timeout"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_the_first_signal_drains_and_the_second_cuts(number: signal.Signals, twice: bool, tmp_path: Path) -> None:
    """New ones hear 503, what runs goes on, the exit status is 0, and no file is left."""
    with Server("--store", f"disk:{tmp_path}/disk", "--put-ttl", "0.1", log=tmp_path / "log") as beam:
        sender = beam.request("PUT /running HTTP/1.1\nContent-Length: 10", b"first")
        receiver = beam.request("GET /running HTTP/1.1")
        with sender, receiver:
            read_until(receiver, b"first")
            beam.signal(number)
            until(lambda: beam.gauges()["draining"] == 1, "it drains")
            for path in "/-/health", "/new?wait=9":
                with curl("-w", "%{response_code}", beam.url(path)) as asked:
                    assert asked.communicate(timeout=BOUND)[0].endswith(b"503")
            if twice:
                beam.signal(number)
                assert receiver.recv(100) == b""
                assert b" 503 " in read_until(sender, b"\n")
            else:
                sender.sendall(b"other")
                read_until(receiver, b"other")
                assert b" 201 " in read_until(sender, b"\n")
            assert beam.wait() == 0
    assert [path.name for path in (tmp_path / "disk").iterdir()] == [".lock"]


def test_the_drain_has_an_end(tmp_path: Path) -> None:
    """A file that is kept for an hour is gone after --drain-timeout, and beam ends with 0."""
    with Server("--store", f"disk:{tmp_path}/disk", "--drain-timeout", "0.5", log=tmp_path / "log") as beam:
        with curl("-f", "-T", "-", beam.url("/kept?ttl=3600"), stdin=subprocess.PIPE) as sender:
            sender.communicate(b"kept", timeout=BOUND)
        assert sender.returncode == 0
        began = time.monotonic()
        beam.signal(signal.SIGTERM)
        assert beam.wait() == 0
        assert 0.5 <= time.monotonic() - began < 0.5 + FAREWELL + 5


# The disk store.


def is_drawn(name: str, drawn: str) -> bool:
    """Whether a file or folder of that name is in the picture, or has a random one."""
    return re.sub(r"[0-9a-f]{16}$", "0123456789abcdef", name) in drawn or bool(re.fullmatch(r"[0-9a-f]{32}", name))


def test_the_folder_looks_as_the_document_shows_it(tmp_path: Path) -> None:
    """Names, modes and nothing of keys; what a crash leaves the next server removes, but not what another one has."""
    drawn = block(OPERATE, "/var/lib/beam/\n")
    folder = tmp_path / "disk"
    store = ("--store", f"disk:{folder}")
    with Server(*store, log=tmp_path / "crashed") as crashed:
        with curl("-f", "-T", "-", crashed.url("/secret-key?ttl=600"), stdin=subprocess.PIPE) as sender:
            sender.communicate(b"kept", timeout=BOUND)
        with crashed.request("PUT /other-key HTTP/1.1\nContent-Length: 10", b"first"):
            until(lambda: len(list(folder.glob("server-*/*/*"))) == 2, "both files are there")
            found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
            assert not any("key" in name for name in found)
            assert folder.stat().st_mode & 0o777 == 0o700
            assert all(is_drawn(name, drawn) for each in found for name in Path(each).parts)
            with Server(*store, log=tmp_path / "other"):
                assert len(list(folder.glob("server-*"))) == 2  # both run
                crashed.signal(signal.SIGKILL)
                crashed.wait()
    assert len(list(folder.glob("server-*"))) >= 1
    with Server(*store, log=tmp_path / "next") as beam:
        assert len(list(folder.glob("server-*"))) == 1
        assert beam.gauges()["disk_usage"] == 0


def test_what_outlives_the_server_looks_as_the_document_shows_it(tmp_path: Path) -> None:
    """An upload that can be resumed and a file in chunks: folders of their own, taken over behind a kill."""
    drawn = block(OPERATE, "/var/lib/beam/\n")
    folder = tmp_path / "disk"
    chunk = "flowIdentifier=f&flowFilename=f&flowTotalChunks=2&flowChunkSize=4&flowChunkNumber=1"
    with Server("--store", f"disk:{folder}", log=tmp_path / "killed") as killed:
        for method, path in ("PUT", "/file?resume"), ("POST", f"/api/files/upload/chunked?{chunk}"):
            with curl("-f", "-X", method, "-T", "-", killed.url(path), stdin=subprocess.PIPE) as sender:
                sender.communicate(b"four", timeout=BOUND)
                assert sender.returncode == 0
        killed.signal(signal.SIGKILL)
        killed.wait()
    found = [path.relative_to(folder) for path in folder.glob("server-*/lasting/**/*")]
    assert sorted(path.name for path in found if len(path.parts) == 4) == ["data", "data", "pieces", "record", "record"]
    assert all(is_drawn(name, drawn) for path in found for name in path.parts)
    with Server("--store", f"disk:{folder}", log=tmp_path / "next") as beam:
        assert beam.gauges()["disk_usage"] > 0
        with curl("-f", beam.url("/file")) as receiver:
            assert receiver.communicate(timeout=BOUND)[0] == b"four"
        with curl("-fi", beam.url(f"/api/files/upload/chunked?{chunk}")) as asked:
            assert b"200 OK" in asked.communicate(timeout=BOUND)[0]


# systemd.


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    """systemd itself finds nothing to say about them, and calls the service well protected."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    service = block(OPERATE, SERVICE).replace("/opt/beam/bin/twist", twist())
    (tmp_path / "beam.service").write_text(service)
    (tmp_path / "beam.socket").write_text(block(OPERATE, SOCKET))
    units = [str(tmp_path / name) for name in ("beam.service", "beam.socket")]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, timeout=BOUND)
    complaints = [line for line in done.stderr.decode().splitlines() if "beam" in line]
    assert (done.returncode, complaints) == (0, [])
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", units[0]], capture_output=True, timeout=BOUND
    )
    assert rated.returncode == 0, rated.stdout.decode()


def test_the_service_can_be_parsed_and_its_command_starts(tmp_path: Path) -> None:
    """The flags of ExecStart are flags; more connections and files fit its limits than it takes."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block(OPERATE, SERVICE).replace("\\\n", " "))
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[:4] == ["/opt/beam/bin/twist", "--log-format", "text", "beam"]
    assert int(unit["Service"]["LimitNOFILE"]) > int(command[command.index("--max-connections") + 1])
    port, metrics = free_port(), free_port()
    flags = " ".join(command[4:]).replace("0.0.0.0:3000", f"127.0.0.1:{port}").replace(":9300", f":{metrics}")
    flags = flags.replace("/var/lib/beam", f"{tmp_path}/disk").replace(
        "--max-connections 20000", "--max-connections 200"
    )
    log = tmp_path / "log"
    with running([twist(), *command[1:4], *flags.split()], log) as process:
        until(lambda: "Starting reactor" in log.read_text() or process.poll() is not None, "it runs")
        with curl("-f", f"http://127.0.0.1:{port}/-/health") as asked:
            assert asked.communicate(timeout=BOUND)[0] == b"ok\n"


def carries(url: str, *arguments: str) -> None:
    """A file goes through the listener at ``url``."""
    data = b"0123456789" * 300_000
    with (
        curl(*arguments, "-f", "-T", "-", url, stdin=subprocess.PIPE) as sender,
        curl(*arguments, "-f", url) as receiver,
    ):
        assert sender.stdin is not None
        sender.stdin.write(data)
        sender.stdin.close()
        sender.stdin = None
        assert receiver.communicate(timeout=BOUND)[0] == data
        sender.communicate(timeout=BOUND)
    assert (sender.returncode, receiver.returncode) == (0, 0)


def test_a_socket_that_systemd_opened(tmp_path: Path) -> None:
    """beam takes it over; the string is that of the document."""
    (listen,) = set(re.findall(r"--listen (systemd:\S+)`", PROSE))
    assert f"`{listen}`" in TEXT
    port = free_port()
    command = (sys.executable, "-c", ACTIVATE, str(port), twist())
    with Server("--listen", listen, log=tmp_path / "log", command=command):
        carries(f"http://127.0.0.1:{port}/file")


# Other listeners.


def test_a_unix_socket(tmp_path: Path) -> None:
    """With the mode that the document names; the file goes with the server."""
    (listen,) = re.findall(r"`(unix:/run/beam/beam.sock:mode=660)`", PROSE)
    path = tmp_path / "beam.sock"
    with Server("--listen", listen.replace("/run/beam/beam.sock", str(path)), log=tmp_path / "log") as beam:
        assert path.stat().st_mode & 0o777 == 0o660
        carries("http://localhost/file", "--unix-socket", str(path))
        beam.signal(signal.SIGTERM)
        assert beam.wait() == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", ["ssl", "tls"])
def test_tls(kind: str, tmp_path: Path) -> None:
    """Both endpoints, with the strings of the document."""
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    if kind == "ssl":
        (listen,) = re.findall(r"`(ssl:3443:privateKey=KEY.pem:certKey=CERT.pem)", PROSE)
        listen = listen.replace("KEY.pem", str(key), 1).replace("CERT.pem", str(certificate))
    else:
        (listen,) = re.findall(r"`(tls:FOLDER:port=3443)`", PROSE)
        folder = tmp_path / "certificates"
        folder.mkdir()
        (tmp_path / "other").mkdir()
        other, its_key = make_certificate(tmp_path / "other", "other.example")
        (folder / "beam.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        (folder / "other.pem").write_bytes(its_key.read_bytes() + other.read_bytes())
        listen = listen.replace("FOLDER", str(folder))
    listen = listen.replace("3443", str(port)) + ":interface=127.0.0.1"
    with Server("--listen", listen, log=tmp_path / "log"):
        carries(f"https://localhost:{port}/file", "--cacert", str(certificate))
        if kind == "tls":
            name = f"other.example:{port}"
            carries(f"https://{name}/file", "--cacert", str(other), "--resolve", f"{name}:127.0.0.1")


# Docker.


@frozen
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words, or the members of its list."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return shlex.split(self.text)


def dockerfile() -> list[list[Instruction]]:
    """The stages of the Dockerfile."""
    stages: list[list[Instruction]] = []
    for line in block(OPERATE, DOCKERFILE).replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            name, _, text = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append(Instruction(name, text.strip()))
    return stages


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    """What a linter would look at, because docker itself cannot run here."""
    known = {"FROM", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    build, final = dockerfile()
    assert {each.name for each in build + final} <= known
    images = [stage[0].words[0] for stage in (build, final)]
    assert images[0] == images[1]  # the environment has the paths of this Python
    assert re.fullmatch(r"python:3\.1[1-9]-slim", images[0])
    assert build[0].words[1:] == ["AS", "build"]
    by_name = {each.name: each for each in final}
    assert by_name["COPY"].words == ["--from=build", "/opt/beam", "/opt/beam"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", by_name["USER"].text)
    assert not any(each.name == "RUN" for each in final[final.index(by_name["USER"]) :])
    assert by_name["STOPSIGNAL"].text == "SIGTERM"
    assert by_name["EXPOSE"].text == default_of("listen").split(":")[1]
    # Lists, not strings: with a shell in between, the signal would not come to beam.
    assert by_name["ENTRYPOINT"].words[0] == "/opt/beam/bin/twist"
    assert by_name["CMD"].words[:1] == ["--listen"]


def test_the_lines_of_the_image_work(tmp_path: Path) -> None:
    """What RUN, ENTRYPOINT, CMD and HEALTHCHECK say is run in a fresh environment, from a copy of the tree."""
    build, final = dockerfile()
    port = free_port()
    tree = tmp_path / "src"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "dropin.cache")
    shutil.copytree(ROOT, tree, ignore=ignored)

    def here(words: list[str]) -> list[str]:
        home = str(tmp_path / "opt")
        moved = [word.replace("/opt/beam", home).replace("0.0.0.0:3000", f"127.0.0.1:{port}") for word in words]
        moved = [word.replace("127.0.0.1:3000", f"127.0.0.1:{port}").replace("/src", str(tree)) for word in moved]
        return [sys.executable if word == "python" else word for word in moved if word != "--no-cache-dir"]

    for each in (each for each in build if each.name == "RUN"):
        environment = {**os.environ, "PIP_NO_COMPILE": "1"}  # for the time it saves
        subprocess.run(here(each.words), check=True, capture_output=True, timeout=120, cwd=tmp_path, env=environment)
    by_name = {each.name: each for each in final}
    start = here(by_name["ENTRYPOINT"].words + by_name["CMD"].words)
    check = here(evolve(by_name["HEALTHCHECK"], text=by_name["HEALTHCHECK"].text.removeprefix("CMD ")).words)
    log = tmp_path / "log"
    assert subprocess.run(check, capture_output=True, timeout=BOUND).returncode != 0
    with running(start, log) as process:
        until(lambda: "Starting reactor" in log.read_text() or process.poll() is not None, "it runs")
        assert subprocess.run(check, capture_output=True, timeout=BOUND).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
    assert "dropin.cache" not in log.read_text()


# Limits.


def test_memory_is_as_much_as_the_document_says(tmp_path: Path) -> None:
    """So much for the process, and a ring of 16 MiB for each transfer that runs."""
    (process, ring) = map(int, re.findall(r"plan with (\d+) MiB \+ (\d+) MiB for each transfer", PROSE)[0])
    with Server(log=tmp_path / "log") as beam, contextlib.ExitStack() as senders:
        data = bytes(1 << 20)
        for number in range(4):
            sender = senders.enter_context(beam.request(f"PUT /{number} HTTP/1.1\nContent-Length: {1 << 40}"))
            for _ in range(ring):
                sender.sendall(data)
        until(lambda: beam.gauges()["memory_usage"] == 4 * ring << 20, "the rings are full")
        status = Path(f"/proc/{beam.process.pid}/status").read_text()
        resident = int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024
        assert 4 * ring < resident <= process + 4 * ring


def test_descriptors_are_what_connections_may_be(tmp_path: Path) -> None:
    """64 are left for the rest; one connection more is answered with 503."""
    (left,) = re.findall(r"so many connections that (\d+) descriptors are left", PROSE)
    with Server(log=tmp_path / "log", most_descriptors=int(left) + 5) as beam, contextlib.ExitStack() as peers:
        for _ in range(5):
            peers.enter_context(beam.connect())
        with beam.connect() as one_more:
            assert b" 503 " in read_until(one_more, b"later.\n")


def test_a_head_that_is_too_large(tmp_path: Path) -> None:
    """docs/http.md names the limit of the code."""
    contract = (ROOT / "docs" / "http.md").read_text()
    assert f"larger than {LIMIT >> 10} KiB" in contract
    with Server(log=tmp_path / "log") as beam:
        connection = http.client.HTTPConnection("127.0.0.1", beam.port, timeout=BOUND)
        with contextlib.closing(connection), contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("GET", "/", headers={"X": "x" * LIMIT})
            answer = connection.getresponse()
            assert answer.status == 431
            answer.read()
