"""Scopes: keys below a prefix or of a listener with a profile of its own; and the secret that senders show."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BOUND, Server, free_port, twist, until


def curl(*arguments: str, data: bytes = b"") -> str:
    """What curl prints: the body, and the status behind a space."""
    done = subprocess.run(
        ["curl", "-sS", "-w", " %{http_code}", *arguments], input=data, capture_output=True, timeout=BOUND, check=False
    )
    return done.stdout.decode()


class Scopes(Server):
    """A server with every kind of scope.

    :ivar alone: port of a listener with a profile of its own.
    :ivar again: port of another with the same profile.
    """

    def __init__(self, folder: Path) -> None:
        self.alone, self.again = free_port(), free_port()
        super().__init__(
            *("--get-wait-timeout", "0.2", "--put-ttl", "100", "--data-dir", str(folder / "data")),
            *("--listen", f"drop:put-ttl=50@127.0.0.1:{self.alone}"),
            *("--listen", f"drop:put-ttl=50@127.0.0.1:{self.again}"),
            *("--mount", "/d=drop", "--mount", "/d/deep=drop:words=beam", "--mount", "/p=piping:get-wait=0.1"),
            log=folder / "log",
        )


@pytest.fixture(scope="module")
def scopes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scopes]:
    with Scopes(tmp_path_factory.mktemp("scopes")) as server:
        yield server


def test_keys_of_scopes_are_apart(scopes: Scopes) -> None:
    """The same key under a prefix, under a longer one, and of a listener: four files."""
    places = [
        scopes.url("/d/apart"),
        scopes.url("/d/deep/apart"),
        f"http://127.0.0.1:{scopes.alone}/apart",
    ]
    for i, place in enumerate(places):
        assert curl("-T", "-", place, data=b"file %d" % i).endswith((" 200", " 201"))
    for i, place in enumerate(places):
        assert curl(place) == f"file {i} 200"
    assert curl(scopes.url("/apart")).endswith(" 404")
    assert curl(f"http://127.0.0.1:{scopes.alone}/d/apart") == "file 0 200", "mounts are at every listener"


def test_listeners_with_the_same_profile_are_one_scope(scopes: Scopes) -> None:
    """What comes in at one goes out at the other."""
    assert curl("-T", "-", f"http://127.0.0.1:{scopes.alone}/both", data=b"x") == " 200"
    assert curl(f"http://127.0.0.1:{scopes.again}/both") == "x 200"


def test_the_longest_prefix_wins_and_a_prefix_ends_with_its_segment(scopes: Scopes) -> None:
    """/d/deep is not a key of /d, and /dx is one of the server."""
    assert curl(scopes.url("/d/nothing")) == "key not found\n 404"
    assert curl(scopes.url("/d/deep/nothing")).startswith("Nothing came in time")
    assert curl(scopes.url("/dx")).startswith("Nothing came in time")
    assert curl(scopes.url("/d")) == curl(scopes.url("/d/")) == "missing key in path\n 400"


def test_a_flag_holds_in_every_scope_unless_the_profile_says_otherwise(scopes: Scopes) -> None:
    """The wait of the flag is that of ``drop`` too, which would wait for 5 seconds; ``piping`` has its own."""
    assert curl("-m", "3", scopes.url("/d/wait")) == "key not found\n 404"
    assert curl("-m", "3", scopes.url("/p/wait")).endswith(" 404")


def test_a_location_and_the_pages_have_the_prefix(scopes: Scopes) -> None:
    """What the server says of itself leads back to it."""
    answer = curl("-i", "-T", "-", scopes.url("/d/deep/located"), data=b"x")
    assert "Location: /d/deep/located\r\n" in answer
    assert "kept for 100 s" in answer, "the flag holds here"
    assert f"{scopes.url('/p')}/mypath" in curl(scopes.url("/p/help"))


def test_the_log_and_the_gauges_are_of_all_scopes(scopes: Scopes) -> None:
    """One line a transfer, with its prefix."""
    before = scopes.gauges()["pipes"]
    assert curl("-T", "-", scopes.url("/d/logged"), data=b"x") == " 200"
    assert scopes.gauges()["pipes"] == before + 1
    sender = subprocess.Popen(["curl", "-sSN", "-T", "-", scopes.url("/p/logged")], stdin=subprocess.PIPE)
    until(lambda: scopes.gauges()["pipes"] == before + 2, "the sender waits")
    sender.kill()
    sender.communicate(timeout=BOUND)
    until(lambda: '"key": "/p/l' in scopes.log.read_text(), "the transfer is in the log")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--profile", "pipe"), "there is no profile 'pipe'; there are beam, hold, drop, piping, claim"),
        (("--profile", "drop:get-wiat=3"), "'get-wiat' is no knob of a profile"),
        (("--profile", "drop:get-wait=soon"), "the knob get-wait: 'soon' is not a number of seconds"),
        (("--profile", "drop:reply=never"), "the knob reply: 'never' is none of end, buffered, early"),
        (("--profile", "beam:words=pirate"), "the knob words is one of"),
        (("--profile", "beam:pages=yellow"), "the knob pages is one of"),
        (("--mount", "p=piping"), "'p=piping' does not read /PREFIX=PROFILE"),
        (("--mount", "/-=piping"), "the prefix /- is beam's own"),
        (("--mount", "/p=piping", "--mount", "/p=drop"), "a prefix is given twice"),
        (("--mount", "/p"), "does not read /PREFIX=PROFILE"),
        (("--listen", "drop:x=1@127.0.0.1:1"), "'x' is no knob"),
        (("--profile", "drop", "--store", "memory"), "the profile drop needs another store: add --store disk"),
        (("--profile", "claim", "--store", "disk:x"), "the profile claim needs another store: add --store memory"),
        (("--data-dir", "data"), "--data-dir needs a disk store"),
        (("--auth", ""), "a value is missing"),
    ],
)
def test_a_bad_profile_is_told_in_one_line(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Before anything is bound."""
    run = subprocess.run([twist(), "beam", *flags], capture_output=True, text=True, timeout=BOUND, cwd=tmp_path)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("beam: ")
    assert says in line
    assert list(tmp_path.iterdir()) == []


SECRET = "open sesame"
SHOWN = ("-H", f"Authorization: Bearer {SECRET}")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    with Server("--auth", SECRET, "--store", f"disk:{folder}", "--mount", "/p=piping", log=folder / "log") as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "/p"])
@pytest.mark.parametrize("send", [("-T", "-"), ("-F", "file=@-"), ("-F", f"authentication={SECRET}", "-F", "file=@-")])
@pytest.mark.parametrize(
    "shown", [(), ("-H", "Authorization: Bearer sesame"), ("-H", f"Authorization: Basic {SECRET}")]
)
def test_a_sender_without_the_secret_is_refused(
    guarded: Server, prefix: str, send: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    """Before its body, and nothing is there behind it; only ``claim`` looks into the form."""
    answer = curl("-i", *send, *shown, guarded.url(f"{prefix}/refused"), data=b"x")
    assert answer.endswith(" 401")
    assert "WWW-Authenticate: Bearer\r\n" in answer
    assert "secret" in answer
    assert guarded.gauges()["pipes"] == 0
    assert SECRET not in guarded.log.read_text()


@pytest.mark.parametrize("send", [("-T", "-"), ("-F", "file=@-;filename=x")])
def test_a_sender_with_the_secret(guarded: Server, send: tuple[str, ...]) -> None:
    """It sends, and anybody receives."""
    path = f"/shown{len(send[1])}?downloads=1"
    assert curl(*send, *SHOWN, guarded.url(path), data=b"x").endswith(" 201")
    assert curl(guarded.url(path)) == "x 200"
