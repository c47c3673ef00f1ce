r"""Every command in README.md and docs/*.md is run, against a real server, and must do what the document says.

The convention, as a writer of documents needs it:

* The blocks tagged ``sh`` of a document are run in order, each by a bash that stops at the first command that fails,
  all in one fresh directory that has the files of ``FILES``.  A command in the background (``&``) must end well too.
* A line that begins with ``twist beam`` or ``make serve`` starts a server, and the lines below it are run when it
  listens.  It runs until the next such line, at most to the end of the document.  Where a command needs a server and
  none was started, ``twist beam`` runs.
* The line ``# in another terminal`` (or ``a second``, ``a third``) divides a block into scripts that run at the same
  time; as the first line of a block it lets that block run beside the one above.
* ``COMMAND  # exits with 22`` must end so, where 0 is expected otherwise.
* What ``curl -T FILE .../KEY`` sends and ``curl -o FILE .../KEY`` receives in one block must be equal at its end.
* In a block tagged ``console``, lines that begin with ``$ `` are commands, and the lines below are what each prints:
  ``...`` stands for anything, alone on a line for any lines.  Of what curl says on standard error only its own
  ``curl: (22) ...`` lines count.  Exit statuses other than 0 show in such a line, or by ``echo $?`` behind.
* A block tagged ``python`` or ``js`` whose first line is a comment that begins with a file's name and a colon
  (``# send.py: ...``, ``// send.mjs: ...``) is saved as that file, for the blocks below it to run.  Where Node, or the
  registry for what it installs, is missing, blocks that run ``node`` or ``npm`` are left out, and the test says so.
* ``sh not-run: REASON`` is for what no test can run here (systemd, docker).  Blocks with other tags, such as ``text``,
  ``ini`` or ``nginx``, hold no commands.

Replaced in what is run, and in what is expected: the ports of ``localhost``, ``127.0.0.1``, ``0.0.0.0`` and of
endpoint strings by free ones of the loopback interface; ``https://beam.example`` by the server; ``/var/lib/beam``,
``/run/beam``, ``/etc/beam`` and ``/opt/beam`` by folders below the directory.  ``pip`` installs into a fresh
environment; ``make`` and ``pip install .`` work on a copy of the tree; ``make test``, ``make lint`` and ``make bench``
are only looked at (``make -n``): they are what runs this.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from attrs import define, field, frozen
from docs.support import ROOT, Block, blocks, running
from harness import free_port, until

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = ("backup.tar", "report.pdf", "big.bin", "photos/1.jpg", "photos/2.jpg", "notes.txt")
FOLDERS = ("/var/lib/beam", "/run/beam", "/etc/beam", "/opt/beam")
BOUND = 30.0  # seconds for the commands of a block
INSTALLING = 150.0  # seconds for one that fetches packages

COMMANDS = re.compile(
    r"^\s*(\$ )?(sudo |[A-Z_]+=\S+ )*"
    r"(curl|twist|make|pip|python3?|node|npm|wget|tar|cat|docker|systemctl|nginx|haproxy|kill)\b",
    re.MULTILINE,
)
PROGRAM = re.compile(r"(?:#|//) (?P<name>\S+\.(?:py|mjs)):")
NODE = re.compile(r"^(?:node|npm)\b", re.MULTILINE)
TERMINAL = re.compile(r"^# in (?:another|a second|a third|the other) terminal.*$", re.MULTILINE)
SERVER = re.compile(
    r"^(?P<variables>(?:\w+=\S+ +)*)(?P<command>(?:twist beam|make serve)\b(?!.*--(?:help|version)).*)$", re.MULTILINE
)
STATUS = re.compile(
    r"^(?P<command>(?:.*\\\n)*.*?)(?P<background>&?)[ \t]*# exits with (?P<status>\d+)\b.*$", re.MULTILINE
)
ADDRESS = re.compile(r"localhost:3000|beam\.example")
INSTALLS = re.compile(r"\b(?:pip|npm) install|make serve|git clone")
# A quoted string, a comment or a redirection, each left alone, or the sign of a command in the background.
BACKGROUND = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|(?:(?<=\s)|^)#.*$|&&|[<>]&|&>|(?P<sign>&)""", re.MULTILINE)

# How the scripts begin.  Servers are started by the test, which ends them: ``serve`` asks for one.
PRELUDE = r"""
set -eo pipefail
background=()
wait() {
    local each failed=0
    for each in "${background[@]}"; do builtin wait "$each" || failed=$?; done
    background=()
    return $failed
}
serve() {
    env -0 >"$STATE/variables"
    printf '%s\0' "$PWD" "$@" >"$STATE/asked"
    mv "$STATE/asked" "$STATE/wanted"
    while [ ! -e "$STATE/up" ]; do sleep 0.02; done
    rm "$STATE/up"
}
"""

# In the place of programs that must not touch this environment or this tree.
SHIMS = {
    "pip": '[ -d "$STATE/venv" ] || {python} -m venv "$STATE/venv"; exec "$STATE/venv/bin/pip" "$@"',
    "twist": 'if [ -x "$STATE/venv/bin/twist" ]; then exec "$STATE/venv/bin/twist" "$@"; fi; exec {twist} "$@"',
    "make": 'if [ ! -e Makefile ]; then cd "$STATE/tree"; fi; '
    'case "$1" in test|lint|bench) exec {make} -n "$@" ;; esac; exec {make} "$@"',
    "git": 'if [ "$1" = clone ]; then exec cp -r "$STATE/tree" "${{3:-beam}}"; fi; exec {git} "$@"',
}


@frozen
class Terminal:
    """A script that one bash runs, or a program for one.

    :param is_console: it shows prompts and what is printed.
    :param name: the file that it is saved as, if it is a program.
    """

    text: str
    is_console: bool
    line: int
    name: str = ""


def scenes(found: list[Block]) -> list[list[Terminal]]:
    """The terminals that run at the same time, in the order of the document."""
    made: list[list[Terminal]] = []
    for each in found:
        program = PROGRAM.match(each.text) if each.language in ("python", "js") else None
        if program is not None:
            made.append([Terminal(each.text, False, each.line, program["name"])])
        if each.language not in ("sh", "console") or each.remark.startswith("not-run:"):
            continue
        first, *others = TERMINAL.split(each.text)
        beside = not first.strip() and bool(others) and bool(made) and not made[-1][0].name
        if not beside:
            made.append([])
        made[-1] += [Terminal(text, each.language == "console", each.line) for text in (first, *others) if text.strip()]
    return made


def in_background(script: str) -> str:
    """``script``, in which each command in the background is remembered for ``wait``."""

    def remembered(match: re.Match[str]) -> str:
        return "& background+=($!);" if match["sign"] else match[0]

    return BACKGROUND.sub(remembered, script)


def with_status(match: re.Match[str]) -> str:
    """The command of a line with ``# exits with N``, made to fail when it ends otherwise."""
    script = f"{{ status=0; {{ {match['command']}\n}} || status=$?; [ $status = {match['status']} ] || "
    script += f'{{ echo "exits with $status, not with {match["status"]}" >&2; exit 1; }}; }}'
    return script + (" & background+=($!);" if match["background"] else "")


def script_of(text: str) -> str:
    """What bash runs for an ``sh`` block."""
    text = SERVER.sub(r"\g<variables>serve \g<command>", text)
    pieces, end_of_last = [], 0
    for match in STATUS.finditer(text):
        pieces += [in_background(text[end_of_last : match.start()]), with_status(match)]
        end_of_last = match.end()
    return PRELUDE + "".join(pieces) + in_background(text[end_of_last:]) + "\nwait\n"


def exchanges(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """For the keys in ``text`` the file that is sent, and the file that is received, where the lines name them."""
    sent: dict[str, str] = {}
    received: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if "exits with" in line:
            continue
        for command in re.findall(r"curl [^&|;]*(?:&\w[^&|;]*)*", line):
            key = re.search(r"https?://[^/\s]+/([^?'\"\s]+)", command)
            send = re.search(r"-T (\S+)|-F '?\w+=@([^\s;']+)", command)
            receive = re.search(r" -\w*o (\S+)", command)
            if key and send and (send[1] or send[2]) != "-":
                sent[key[1]] = send[1] or send[2]
            elif key and receive and "$" not in receive[1] and receive[1] not in ("-", "/dev/null"):
                received[key[1]] = receive[1]
    return sent, received


@frozen
class Expected:
    """A command of a console and what it prints."""

    command: str
    output: list[str]


def console_of(text: str) -> list[Expected]:
    """The commands in a console block."""
    found: list[Expected] = []
    for line in text.strip("\n").splitlines():
        if line.startswith("$ "):
            found.append(Expected(line.removeprefix("$ "), []))
        elif found and found[-1].command.endswith("\\") and not found[-1].output:
            found[-1] = Expected(found[-1].command + "\n" + line, [])
        else:
            found[-1].output.append(line)
    return found


def console_script(commands: list[Expected]) -> str:
    """What bash runs for a console: each command, what it printed, and its status behind a mark."""
    lines = [PRELUDE, "set +e"]
    for each in commands:
        lines += [
            f'{{ {in_background(each.command)}\n}} 2>"$STATE/errors"; status=$?',
            'grep -E "^(curl: \\(|beam: |usage)" "$STATE/errors"',
            "printf '\\036%d\\036' $status; (exit $status)",
        ]
    return "\n".join([*lines, "exit 0\n"])


def as_pattern(lines: list[str]) -> re.Pattern[str]:
    """What the lines of a document, with their ``...``, stand for."""
    parts = []
    for line in "\n".join(lines).rstrip("\n").split("\n"):
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t]*\n")
    return re.compile("".join(parts))


@define
class Stage:
    """Where one document is played: a directory, its state, and the server that runs."""

    folder: Path
    state: Path
    server: ExitStack
    stack: ExitStack = field(init=False, factory=ExitStack)
    serving: bool = field(init=False, default=False)
    ports: dict[str, int] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir()
        (self.state / "bin").mkdir(parents=True)
        for name in FOLDERS:
            (self.folder / name.removeprefix("/")).mkdir(parents=True)
        for i, name in enumerate(FILES):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            # Far more than sockets hold, so that nothing passes without flow control.
            path.write_bytes(b"notes\n" if name.endswith(".txt") else bytes(os.urandom(1 << 10)) * (1 << 10) * (3 + i))
        programs = {"python": sys.executable, "twist": str(Path(sys.executable).with_name("twist"))}
        programs |= {name: shutil.which(name) or name for name in ("make", "git")}
        for name, script in SHIMS.items():
            self._program(self.state / "bin" / name, "#!/bin/bash\n" + script.format(**programs) + "\n")
        ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "dropin.cache")
        shutil.copytree(ROOT, self.state / "tree", ignore=ignored)

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def port(self, written: str) -> int:
        """The free port that stands for the one that is ``written`` in the document."""
        return self.ports.setdefault(written, free_port())

    def replaced(self, text: str) -> str:
        """``text`` with addresses and folders of the test."""
        text = re.sub(
            r"\b(127\.0\.0\.1|localhost):(\d{4,5})\b", lambda match: f"{match[1]}:{self.port(match[2])}", text
        )
        text = re.sub(r"\b0\.0\.0\.0:(\d{4,5})\b", lambda match: f"127.0.0.1:{self.port(match[1])}", text)
        text = re.sub(
            r"\b(tcp:|ssl:|port=)(\d{4,5})(?!\S*interface=)",
            lambda match: f"{match[1]}{self.port(match[2])}:interface=127.0.0.1",
            text,
        )
        text = re.sub(r"https?://beam\.example(?![\w:])", f"http://127.0.0.1:{self.port('3000')}", text)
        text = re.sub(r"(pip install (?:-\S+ )*)(?:\.|beam-relay)(?=\s)", rf"\g<1>{self.state / 'tree'}", text)
        for name in FOLDERS:
            text = text.replace(name, f"{self.folder}{name}")
        return text

    def start(self, terminal: Terminal, number: int) -> "Player":
        """Start a terminal's bash."""
        text = self.replaced(terminal.text)
        commands = console_of(text) if terminal.is_console else []
        script, output = self.state / f"script-{number}", self.state / f"output-{number}"
        script.write_text(console_script(commands) if terminal.is_console else script_of(text))
        here = f"127.0.0.1:{self.port('3000')}"
        path = f"{self.state / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {"STATE": str(self.state), "PATH": path, "BEAM_LISTEN": here, "LISTEN": here}
        variables["PIP_NO_COMPILE"] = "1"  # for the time it saves
        running_bash = running(["bash", script], output, self.folder, **variables)
        return Player(terminal, commands, self.stack.enter_context(running_bash), output)

    def serve(self) -> None:
        """Start the server that a script wants, if one does, in place of the one that runs."""
        wanted = self.state / "wanted"
        if not wanted.exists():
            return
        folder, *command = wanted.read_bytes().decode().rstrip("\0").split("\0")
        variables = dict(each.split("=", 1) for each in (self.state / "variables").read_text().rstrip("\0").split("\0"))
        wanted.unlink()
        self.server.close()
        log = self.state / "log"
        process = self.server.enter_context(running(command, log, Path(folder), **variables))

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            return "Starting reactor" in log.read_text()

        until(up, f"{shlex.join(command)} is up: {log.read_text()}", INSTALLING)
        self.serving = True
        (self.state / "up").touch()

    def play(self, scene: list[Terminal]) -> None:
        """Run the terminals of ``scene`` to their ends."""
        text = "".join(each.text for each in scene)
        if scene[0].name:
            (self.folder / scene[0].name).write_text(self.replaced(text))
            return
        if ADDRESS.search(text) and not SERVER.search(scene[0].text) and not self.serving:
            self.play([Terminal("twist beam", False, 0)])
        players: list[Player] = []

        def all_over() -> bool:
            self.serve()
            return all(player.over for player in players) or any(player.failed for player in players)

        with ExitStack() as self.stack:
            for number, each in enumerate(scene):
                players.append(self.start(each, number))
            bound = INSTALLING if INSTALLS.search(text) else BOUND
            until(all_over, f"the commands at line {scene[0].line} have ended", bound)
            for player in players:
                player.check()
        self.compare(text)

    def compare(self, text: str) -> None:
        """What was received must be what was sent."""
        sent, received = exchanges(text)
        for key in sent.keys() & received.keys():
            same = (self.folder / sent[key]).read_bytes() == (self.folder / received[key]).read_bytes()
            assert same, f"{received[key]} is not {sent[key]}"


@frozen
class Player:
    """A bash that runs a terminal's script."""

    terminal: Terminal
    commands: list[Expected]
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not with 0."""
        return self.process.poll() not in (None, 0)

    def check(self) -> None:
        """Every command ended as it should and printed what it should.

        :raises AssertionError: one did not.
        """
        said = self.output.read_text(errors="replace").replace("\r\n", "\n")
        where = f"the block at line {self.terminal.line}"
        if not self.over:
            return  # stopped because another one failed
        assert self.process.returncode == 0, f"{where} ended with {self.process.returncode}:\n{said}"
        results = re.findall(r"(.*?)\x1e(\d+)\x1e", said, re.DOTALL)
        assert len(results) == len(self.commands), f"{where}:\n{said}"
        for i, ((printed, status), command) in enumerate(zip(results, self.commands, strict=True)):
            shown = any(line.startswith(f"curl: ({status})") for line in command.output)
            shown |= any(each.command.startswith("echo $?") for each in self.commands[i + 1 : i + 2])
            assert shown or status == "0", f"{where}: {command.command} ended with {status}:\n{printed}"
            assert as_pattern(command.output).fullmatch(printed.rstrip("\n") + "\n"), (
                f"{where}: {command.command} printed\n{printed}"
            )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A directory for the commands of one document."""
    with ExitStack() as server:
        yield Stage(tmp_path / "here", tmp_path / "state", server)


@cache
def missing_for_node() -> str:
    """Why nothing of Node can be run here; empty if it can."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    reached = subprocess.run(["npm", "ping", "--fetch-retries=0", "--fetch-timeout=10000"], capture_output=True)
    return "the registry of npm cannot be reached" if reached.returncode else ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_every_command_does_what_the_document_says(document: Path, stage: Stage) -> None:
    """A reader who types what stands there gets what stands there."""
    left_out = ""
    for scene in scenes(blocks(document)):
        reason = missing_for_node() if NODE.search(scene[0].text) else ""
        left_out = left_out or reason
        if not reason:
            stage.play(scene)
    if left_out:
        pytest.skip(f"all but the lines for Node did what they should: {left_out}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_no_command_hides_in_a_block_that_is_not_run(document: Path) -> None:
    """Each block has a tag, and one that is not run has no commands, or a reason."""
    for each in blocks(document):
        where = f"{document.name}, line {each.line}"
        assert each.language, f"{where}: the block has no tag"
        if each.language not in ("sh", "console"):
            assert not COMMANDS.search(each.text), f"{where}: a command; tag the block sh, or sh not-run: REASON"
        assert not each.remark or re.fullmatch(r"not-run: \w.*", each.remark), f"{where}: what is {each.remark}?"


WRONG = {
    "a command that fails": "```sh\nfalse\n```",
    "a command that fails in the background": "```sh\nfalse &\nsleep 0.1\n```",
    "a command of a loop in the background": "```sh\nfor i in 1 0; do (exit $i) & done\nwait\n```",
    "a command that does not fail": "```sh\ntrue  # exits with 1\n```",
    "another exit status in the background": "```sh\n(exit 3) &  # exits with 4\n```",
    "another status of a console": "```console\n$ (exit 3)\n$ echo $?\n4\n```",
    "a silent failure in a console": "```console\n$ false\n$ echo more\nmore\n```",
    "another output": "```console\n$ echo one; echo two\none\n...\nthree\n```",
    "a program that fails": "```python\n# a.py: python a.py\nraise SystemExit(1)\n```\n```sh\npython a.py\n```",
    "a server that does not start": "```sh\ntwist beam --put-ttl soon\n```",
    "a file that is not what was sent": "```sh\ncurl -T notes.txt http://localhost:3000/x &\n"
    "curl -o copy.txt http://localhost:3000/x\nwait\necho more >>copy.txt\n```",
}


@pytest.mark.parametrize("markdown", WRONG.values(), ids=WRONG.keys())
def test_a_document_that_is_wrong_fails(markdown: str, stage: Stage, tmp_path: Path) -> None:
    """What this file checks can fail."""
    document = tmp_path / "wrong.md"
    document.write_text(markdown + "\n")
    with pytest.raises(AssertionError):
        for scene in scenes(blocks(document)):
            stage.play(scene)
