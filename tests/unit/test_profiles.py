"""Knobs, the ready-made policies that are made of them, and the flags and variables that set them."""

import os
from collections.abc import Mapping
from math import inf
from typing import Any

import pytest
from attrs import asdict
from twisted.internet.task import Clock

from beam.flags import FLAGS, SWITCHES, Flag, Options, listener, mount
from beam.policy import Keys, Naming, Policy, Reply, Rival
from beam.profiles import KNOBS, PROFILES, policy_of, profile_of
from beam.quota import Quota
from beam.store import House
from beam.tap import Builder
from beam.target import parse_pattern
from beam.values import origin
from beam.web.own import OWN
from beam.web.words import WORDS

# Each knob with values that it takes.
SIZES = {"0": 0, "500": 500, "64K": 65536}
RATES = {"1": 1, "64K": 65536}
TYPES = {"": (), "image/png": ("image/png",), "Image/*,a/b+c": ("image/*", "a/b+c"), "*/*": ("*/*",)}
TIMES = {"0": 0, "30": 30, "0.5": 0.5}
WAITS = {**TIMES, "forever": inf}
COUNTS = {"1": 1, "50000": 50000}
ON_OR_OFF = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "FALSE": False, "0": False}
ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS")
GOOD: Mapping[str, Mapping[str, Any]] = {
    "max-pipe-size": SIZES,
    "min-rate": SIZES,
    "bandwidth": RATES,
    "bandwidth-per-address": RATES,
    "allow-types": TYPES,
    "deny-types": TYPES,
    "put-ttl": TIMES,
    "get-ttl": TIMES,
    "max-ttl": TIMES,
    "max-wait": TIMES,
    "resume-timeout": TIMES,
    "sender-resume": TIMES,
    "upload-ttl": TIMES,
    "lasts": ON_OR_OFF,
    "idle-timeout": WAITS,
    "forward-timeout": TIMES,
    "heartbeat": {"25": 25, "0.5": 0.5},
    "early-after": WAITS,
    "get-wait": WAITS,
    "put-wait": WAITS,
    "max-waiting": COUNTS,
    "max-waiting-per-key": COUNTS,
    "allow-forward-private": ON_OR_OFF,
    "list-keys": ON_OR_OFF,
    "keeps": ON_OR_OFF,
    "exact": ON_OR_OFF,
    "claims": ON_OR_OFF,
    "strict": ON_OR_OFF,
    "parts": ON_OR_OFF,
    "any-part": ON_OR_OFF,
    "form-fields": ON_OR_OFF,
    "html-as-text": ON_OR_OFF,
    "landing": ON_OR_OFF,
    "cors": {"": (), "*": ("*",)},
    "plain-metrics": ON_OR_OFF,
    "auth": {"secret": "secret", "a=b": "a=b"},
    "words": {name: name for name in WORDS},
    "pages": {name: name for name in OWN},
    "rival": {"refused": Rival.REFUSED, "replaces": Rival.REPLACES},
    "reply": {"end": Reply.END, "buffered": Reply.BUFFERED, "early": Reply.EARLY},
    "keys": {"strict": Keys.STRICT, "trimmed": Keys.TRIMMED, "any": Keys.ANY},
    "naming": {"attachment": Naming.ATTACHMENT, "given": Naming.GIVEN, "verbatim": Naming.VERBATIM},
    "default-type": {"text/plain": "text/plain", "": None},
    "options": {"": (), "n": ("n",), "download,status": ("download", "status"), "wait,n,ttl": ("wait", "n", "ttl")},
    "methods": {"": (), "GET": ("GET",), "PUT,GET": ("PUT", "GET"), ",".join(ALL_METHODS): ALL_METHODS},
}
BAD: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys([name for name, values in GOOD.items() if values is SIZES], ("", "-1", "1k", "forever", "1.5M")),
    **dict.fromkeys([name for name, values in GOOD.items() if values is TIMES], ("", "-1", "nan", "forever", "5s")),
    **dict.fromkeys([name for name, values in GOOD.items() if values is WAITS], ("", "-1", "inf", "never", "Forever")),
    **dict.fromkeys([name for name, values in GOOD.items() if values is COUNTS], ("", "0", "-1", "1.0", "forever")),
    **dict.fromkeys([name for name, values in GOOD.items() if values is ON_OR_OFF], ("", "maybe", "2", "on ")),
    **dict.fromkeys([name for name, values in GOOD.items() if values is RATES], ("", "0", "-1", "1k", "forever")),
    **dict.fromkeys(
        [name for name, values in GOOD.items() if values is TYPES], ("png", "*/png", "a/b/c", "a/b,", "a/b, c/d", ",")
    ),
    "heartbeat": ("", "never", "-1", "0", "0.0"),
    "auth": ("",),
    "words": ("",),
    "pages": ("",),
    "rival": ("", "Replaces", "REFUSED", "refused,replaces"),
    "reply": ("", "late"),
    "keys": ("", "all"),
    "naming": ("", "none"),
    "cors": ("yes", "example.org", "*,", "* "),
    "options": ("speed", "n,,wait", "n, wait", "N", ","),
    "methods": ("DELETE", "get", "GET PUT", "GET,"),
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, values in GOOD.items() for text in values])
def test_a_knob_is_turned(name: str, text: str) -> None:
    """It has the value that was written, and every other knob is as it was."""
    policy = policy_of(f"beam:{name}={text}", {})
    field = name.replace("-", "_")
    value = getattr(policy, field)
    assert value == GOOD[name][text] and type(value) in (type(GOOD[name][text]), float)
    assert asdict(policy) == {**asdict(Policy()), field: value}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, values in BAD.items() for text in values])
def test_a_knob_is_not_bent(name: str, text: str) -> None:
    """A value that cannot be is refused, with the name of the knob."""
    with pytest.raises(ValueError, match=f"^the knob {name}: "):
        policy_of(f"beam:{name}={text}", {})


def test_every_knob_has_a_test() -> None:
    """One that is added without its values is noticed; patterns of addresses have colons and are no knob."""
    assert GOOD.keys() == KNOBS.keys()
    assert GOOD.keys() - BAD.keys() == {"default-type"}
    assert {each.replace("_", "-") for each in asdict(Policy())} - KNOBS.keys() == {"allow-forward"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no profile ''"),
        ("pipe", "no profile 'pipe'; there are beam, hold, drop, piping, claim"),
        ("Beam", "no profile 'Beam'"),
        (" beam", "no profile ' beam'"),
        ("pipe:put-ttl=1", "no profile 'pipe'"),
        ("beam:", "'' is no knob of a profile; there are max-pipe-size, "),
        ("beam:speed=1", "'speed' is no knob"),
        ("beam:put_ttl=1", "'put_ttl' is no knob"),
        ("beam:put-ttl", "'put-ttl' is no knob"),
        ("beam:=1", "'' is no knob"),
        ("beam:allow-forward=any", "'allow-forward' is no knob"),
        ("beam:get-wait-timeout=1", "'get-wait-timeout' is no knob"),
        ("beam:put-ttl=1::get-ttl=1", "'' is no knob"),
        ("beam:put-ttl=1:get-ttl=x", "the knob get-ttl: 'x' is not a number of seconds"),
    ],
)
def test_policies_that_are_none(text: str, says: str) -> None:
    """The sentence names what is wrong, and what there is."""
    with pytest.raises(ValueError) as caught:
        policy_of(text, {})
    assert says in str(caught.value)


def test_several_knobs() -> None:
    """Each of them, and of one that is turned twice the last."""
    policy = policy_of("hold:get-wait=7:list-keys=no:get-wait=8", {})
    assert policy == policy_of("hold", {"get_wait": 8, "list_keys": False})


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("beam", {}, (5, 3600)),
        ("hold", {}, (0, inf)),
        ("hold", {"get_wait": 9}, (9, inf)),
        ("hold:put-wait=1", {"get_wait": 9}, (9, 1)),
        ("hold:get-wait=1", {"get_wait": 9}, (1, inf)),
        ("hold:get-wait=1", {"get_wait": 9, "put_wait": 5}, (1, 5)),
        ("beam:get-wait=5", {"get_wait": 9}, (5, 3600)),
    ],
)
def test_given_flags_hold_unless_the_text_says_otherwise(
    text: str, given: Mapping[str, Any], expected: tuple[float, float]
) -> None:
    """A flag is for every scope, a knob for its own."""
    policy = policy_of(text, given)
    assert (policy.get_wait, policy.put_wait) == expected


# The table of the contract, as far as it is made of knobs.


NAMES = ("beam", "hold", "drop", "piping", "claim")
OCTETS = "application/octet-stream"
OPTIONS = ("store", "readers", "downloads", "ttl", "wait", "name", "digest", "forward", "resume", "download")
END, EARLY, BUFFERED = Reply.END, Reply.EARLY, Reply.BUFFERED
REFUSED, REPLACES = Rival.REFUSED, Rival.REPLACES
STRICT, TRIMMED, ANY = Keys.STRICT, Keys.TRIMMED, Keys.ANY
ATTACHMENT, GIVEN, VERBATIM = Naming.ATTACHMENT, Naming.GIVEN, Naming.VERBATIM
CONTRACT: Mapping[str, tuple[Any, ...]] = {
    "keeps": (False, False, True, False, False),
    "put_ttl": (30, 30, 30, 30, 30),
    "get_ttl": (5, 5, 5, 5, 5),
    "get_wait": (5, 0, 5, inf, 0),
    "put_wait": (3600, inf, 3600, inf, 3600),
    "resume_timeout": (30, 30, 30, 0, 30),
    "sender_resume": (60, 60, 60, 60, 60),
    "upload_ttl": (86400, 86400, 86400, 86400, 86400),
    "lasts": (False, False, False, False, False),
    "exact": (False, True, False, True, True),
    "rival": (REFUSED, REFUSED, REFUSED, REFUSED, REPLACES),
    "claims": (False, False, False, False, True),
    "reply": (END, END, END, EARLY, BUFFERED),
    "early_after": (0, 0, 0, 0, 0),
    "heartbeat": (25, 25, 25, 25, 25),
    "options": (OPTIONS, (), (), ("n",), ("download", "status", "stream")),
    "strict": (True, False, False, False, False),
    "keys": (STRICT, STRICT, TRIMMED, ANY, STRICT),
    "methods": (ALL_METHODS, ALL_METHODS, ("GET", "PUT"), ("GET", "POST", "PUT", "OPTIONS"), ALL_METHODS),
    "parts": (True, True, True, False, True),
    "any_part": (False, False, True, True, False),
    "form_fields": (False, False, False, False, True),
    "naming": (ATTACHMENT, ATTACHMENT, GIVEN, VERBATIM, ATTACHMENT),
    "default_type": (OCTETS, OCTETS, None, None, OCTETS),
    "html_as_text": (False, False, False, True, False),
    "landing": (True, False, False, False, True),
    "cors": ((), (), (), ("*",), ()),
    "words": NAMES,
    "pages": ("beam", "beam", "none", "piping", "beam"),
    "plain_metrics": (False, False, True, False, False),
    "auth": (None, None, None, None, None),
}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_as_the_contract_says(name: str) -> None:
    """Whoever changes one changes the contract."""
    policy = policy_of(name, {})
    expected = {knob: values[NAMES.index(name)] for knob, values in CONTRACT.items()}
    assert {knob: getattr(policy, knob) for knob in CONTRACT} == expected
    assert profile_of(f"{name}:get-wait=1") is PROFILES[name]


def test_beam_is_the_default_of_every_knob() -> None:
    """No flag at all is the profile ``beam``."""
    assert policy_of("beam", {}) == Policy()


@pytest.mark.parametrize("name", PROFILES)
def test_words_and_pages_of_profiles_are_there(name: str) -> None:
    """A profile names tables; each of them exists."""
    policy = policy_of(name, {})
    assert policy.words in WORDS and policy.pages in OWN


def test_stores_of_profiles() -> None:
    """Where nothing is said, ``drop`` keeps on a disk, ``claim`` buffers, and the others hold."""
    stores = {name: each.store.partition(":")[0] for name, each in PROFILES.items()}
    assert stores == {"beam": "memory", "hold": "memory", "drop": "disk", "piping": "memory", "claim": "buffer=memory"}
    assert "window=1G" in PROFILES["claim"].store


# Flags.


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        ("get-wait-timeout", "get_wait"),
        ("put-wait-timeout", "put_wait"),
        ("resume-timeout", "resume_timeout"),
        ("sender-resume-timeout", "sender_resume"),
        ("upload-ttl", "upload_ttl"),
        ("idle-timeout", "idle_timeout"),
        ("forward-timeout", "forward_timeout"),
        ("max-wait", "max_wait"),
        ("max-waiting", "max_waiting"),
        ("max-waiting-per-key", "max_waiting_per_key"),
        ("max-pipe-size", "max_pipe_size"),
        ("put-ttl", "put_ttl"),
        ("get-ttl", "get_ttl"),
        ("max-ttl", "max_ttl"),
        ("min-rate", "min_rate"),
        ("auth", "auth"),
        ("allow-forward", "allow_forward"),
        ("cors-origin", "cors"),
        *((name, None) for name in ("profile", "mount", "listen", "store", "max-memory", "data-dir", "max-disk")),
        *((name, None) for name in ("header-timeout", "drain-timeout", "max-connections", "metrics-addr")),
        *((name, None) for name in ("rate-limit", "trusted-proxy")),
    ],
)
def test_the_knob_of_a_flag(name: str, knob: str | None) -> None:
    """Those of a scope set a knob, those of the whole process none."""
    (flag,) = [each for each in FLAGS if each.name == name]
    assert flag.knob == knob


@pytest.mark.parametrize("flag", [each for each in FLAGS if each.knob is not None], ids=lambda flag: str(flag.name))
def test_a_flag_tells_the_default_of_its_knob(flag: Flag) -> None:
    """What ``--help`` says is what holds if nothing is given."""
    assert flag.knob is not None
    default = getattr(Policy(), flag.knob)
    if flag.default:
        assert flag.parse(flag.default) == default
    else:
        assert default in (None, ())


ORIGINS = (
    "*",
    "https://example.org",
    "http://localhost:8080",
    "https://[::1]:8443",
    "chrome-extension://abc",
    "app://x",
)


@pytest.mark.parametrize("text", ORIGINS)
def test_origins(text: str) -> None:
    """As browsers write them."""
    assert origin(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "https://", "https://example.org/", "https://example.org/app", "https://Example.org"),
        *("HTTPS://example.org", "https://example.org:443", "http://example.org:80", "https://example.org:", "null"),
        *("https://*.example.org", "https://a@example.org", "https://example.org:0", "https://b\u00fccher.example"),
    ],
)
def test_origins_that_are_none(text: str) -> None:
    """What no browser would ever write is refused at the start, instead of being compared in vain."""
    with pytest.raises(ValueError, match="is not an origin: write "):
        origin(text)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_a_knob_that_is_off(name: str) -> None:
    """So that its flag can only turn it on."""
    assert name in KNOBS
    assert getattr(Policy(), name.replace("-", "_")) is False


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("0.0.0.0:3000", (None, "0.0.0.0:3000")),
        ("[::1]:80", (None, "[::1]:80")),
        ("unix:/run/beam.sock", (None, "unix:/run/beam.sock")),
        ("unix:/run/a@b", (None, "unix:/run/a@b")),
        ("unix:/run/drop@b", (None, "unix:/run/drop@b")),
        ("nothing@127.0.0.1:80", (None, "nothing@127.0.0.1:80")),
        ("drop@127.0.0.1:80", ("drop", "127.0.0.1:80")),
        ("drop@unix:/run/a@b", ("drop", "unix:/run/a@b")),
        ("drop:get-wait=1:words=beam@tcp:80", ("drop:get-wait=1:words=beam", "tcp:80")),
    ],
)
def test_listeners(text: str, parsed: tuple[str | None, str]) -> None:
    """A profile is one only if it stands in front of the first ``@``; whether the endpoint is one is asked later."""
    assert listener(text) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a value is missing"),
        ("drop@", "a value is missing"),
        ("drop:@tcp:80", "'' is no knob"),
        ("drop:speed=1@tcp:80", "'speed' is no knob"),
        ("drop:get-wait=soon@tcp:80", "the knob get-wait"),
    ],
)
def test_listeners_that_are_none(text: str, says: str) -> None:
    """A profile with a fault is not taken for a part of the endpoint."""
    with pytest.raises(ValueError, match=says):
        listener(text)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("/p=piping", ("/p", "piping")),
        ("/p/q=piping", ("/p/q", "piping")),
        ("/P_1~.-x=hold", ("/P_1~.-x", "hold")),
        ("/-x=hold", ("/-x", "hold")),
        ("/apis=hold", ("/apis", "hold")),
        ("/p=drop:get-wait=1:auth=a=b", ("/p", "drop:get-wait=1:auth=a=b")),
    ],
)
def test_mounts(text: str, parsed: tuple[str, str]) -> None:
    """A prefix of whole segments, and a profile."""
    assert mount(text) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not read /PREFIX=PROFILE"),
        ("/p", "does not read"),
        ("p=piping", "does not read"),
        ("/=piping", "does not read"),
        ("/p/=piping", "does not read"),
        ("//p=piping", "does not read"),
        ("/a//b=piping", "does not read"),
        ("/a b=piping", "does not read"),
        ("/\u00fc=piping", "does not read"),
        ("/%70=piping", "does not read"),
        ("/p?=piping", "does not read"),
        ("/p\n=piping", "does not read"),
        ("/-=piping", "the prefix /- is beam's own"),
        ("/-/x=piping", "the prefix /-/x is beam's own"),
        ("/api=piping", "beam's own"),
        ("/api/x=piping", "beam's own"),
        ("/.=piping", "beam's own"),
        ("/..=piping", "beam's own"),
        ("/p=", "no profile ''"),
        ("/p=pipe", "no profile 'pipe'"),
        ("/p=drop:get-wait=soon", "the knob get-wait"),
        ("=piping", "does not read"),
        ("/a/..=piping", "beam's own"),
    ],
)
def test_mounts_that_are_none(text: str, says: str) -> None:
    """Refused, with the reason."""
    with pytest.raises(ValueError, match=says):
        mount(text)


# The command line and the environment.


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests has set nothing of beam's."""
    bare = {name for each in PROFILES.values() for name in each.variables}
    for name in list(os.environ):
        if name.startswith("BEAM_") or name in bare:
            monkeypatch.delenv(name)


def options(*arguments: str) -> Options:
    """What those flags say.

    :raises SystemExit: they say nothing.
    """
    made = Options()
    made.parseOptions(arguments)
    return made


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ((), {}),
        (("--max-memory", "2G", "--header-timeout", "3", "--profile", "drop", "--listen", "tcp:80"), {}),
        (("--put-ttl", "7"), {"put_ttl": 7}),
        (("--put-ttl", "30"), {"put_ttl": 30}),
        (("--get-wait-timeout", "forever", "--put-wait-timeout", "1"), {"get_wait": inf, "put_wait": 1}),
        (("-P", "1M"), {"max_pipe_size": 1 << 20}),
        (("--auth", "secret"), {"auth": "secret"}),
        (("--list-keys",), {"list_keys": True}),
        (("--list-keys", "--allow-forward-private"), {"list_keys": True, "allow_forward_private": True}),
        (("--allow-forward", "any", "--allow-forward", "https://a.example/*"), {"allow_forward": 2}),
    ],
)
def test_given_flags(arguments: tuple[str, ...], given: dict[str, Any]) -> None:
    """Those that set a knob and were written, even with the default's value."""
    if "allow_forward" in given:
        given = {"allow_forward": (parse_pattern("any"), parse_pattern("https://a.example/*"))}
    assert options(*arguments).given == given


@pytest.mark.parametrize(
    ("variables", "arguments", "given"),
    [
        ({"BEAM_PUT_TTL": "7"}, (), {"put_ttl": 7}),
        ({"BEAM_PUT_TTL": "7"}, ("--put-ttl", "8"), {"put_ttl": 8}),
        ({"BEAM_LIST_KEYS": "yes"}, (), {"list_keys": True}),
        ({"BEAM_LIST_KEYS": "no"}, (), {"list_keys": False}),
        ({"BEAM_LIST_KEYS": "no"}, ("--list-keys",), {"list_keys": True}),
        ({"PUT_TTL": "7", "AUTH": "x", "LIST_KEYS": "1"}, (), {}),
        ({"PUT_TTL": "7"}, ("--profile", "piping"), {}),
        ({"PUT_TTL": "7"}, ("--mount", "/d=drop"), {}),
        ({"PUT_TTL": "7"}, ("--profile", "drop"), {"put_ttl": 7}),
        ({"PUT_TTL": "7"}, ("--profile", "drop:get-wait=1"), {"put_ttl": 7}),
        ({"PUT_TTL": "7", "BEAM_PROFILE": "drop"}, (), {"put_ttl": 7}),
        ({"PUT_TTL": "7", "BEAM_PROFILE": "drop"}, ("--profile", "beam"), {}),
        ({"PUT_TTL": "7", "BEAM_PUT_TTL": "8"}, ("--profile", "drop"), {"put_ttl": 8}),
        ({"PUT_TTL": "7"}, ("--profile", "drop", "--put-ttl", "9"), {"put_ttl": 9}),
        ({"GET_WAIT_TIMEOUT": "7", "MAX_TTL": "1"}, ("--profile", "drop"), {"get_wait": 7}),
        ({"AUTH": "x"}, ("--profile", "drop"), {}),
        ({"AUTH": "x", "PUT_TTL": "7"}, ("--profile", "claim"), {"auth": "x"}),
    ],
)
def test_variables(
    variables: dict[str, str], arguments: tuple[str, ...], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag comes first, then ``BEAM_NAME``, then the bare name where the server's profile has it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert options(*arguments).given == given


def test_bare_variables_of_no_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, and what belongs to the whole process."""
    for name, value in {"LISTEN": "tcp:1 drop@tcp:2", "DATA_DIR": "/data", "MAX_DISK": "2G"}.items():
        monkeypatch.setenv(name, value)
    found = options("--profile", "drop")
    assert found["listen"] == [(None, "tcp:1"), ("drop", "tcp:2")]
    assert (found["data-dir"], found["max-disk"]) == ("/data", 2 << 30)
    assert options()["listen"] == [(None, "0.0.0.0:3000")]


@pytest.mark.parametrize("name", PROFILES)
def test_a_bare_variable_is_that_of_a_flag(name: str) -> None:
    """None is written in vain."""
    assert PROFILES[name].variables <= {flag.variable for flag in FLAGS}


@pytest.mark.parametrize(
    ("variables", "arguments", "says"),
    [
        ({}, ("--profile", "pipe"), "--profile: there is no profile 'pipe'"),
        ({}, ("--profile", "hold:get-wait=soon"), "--profile: the knob get-wait: 'soon'"),
        ({"BEAM_PROFILE": "pipe"}, (), "BEAM_PROFILE: there is no profile 'pipe'"),
        ({}, ("--mount", "p=drop"), "--mount: 'p=drop' does not read"),
        ({}, ("--listen", "drop:x=1@tcp:80"), "--listen: 'x' is no knob"),
        ({}, ("--put-ttl", "soon"), "--put-ttl: 'soon'"),
        ({"BEAM_PUT_TTL": "soon"}, (), "BEAM_PUT_TTL: 'soon'"),
        ({"PUT_TTL": "soon"}, ("--profile", "drop"), "PUT_TTL: 'soon'"),
        ({"BEAM_LIST_KEYS": "maybe"}, (), "BEAM_LIST_KEYS: 'maybe'"),
        ({"BEAM_AUTH": ""}, (), "BEAM_AUTH: a value is missing"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    variables: dict[str, str],
    arguments: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On standard error, with the name of the flag or variable that is to blame."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        options(*arguments)
    printed = capsys.readouterr()
    assert caught.value.code == 1
    assert printed.out == "" and printed.err.startswith(f"beam: {says}") and printed.err.count("\n") == 1


# What is made of them.


def builder(*arguments: str) -> Builder:
    """A builder for those flags."""
    return Builder(options(*arguments), House(Clock(), Quota(1 << 30), "/nowhere"))


def test_a_scope_is_made_once() -> None:
    """Listeners with the same profile share their keys; another prefix or knob is another scope."""
    made = builder()
    scope = made.scope("beam")
    assert made.scope("beam") is scope
    others = [made.scope("beam", "/b"), made.scope("beam:get-wait=1"), made.scope("piping")]
    assert len({id(each.broker) for each in (scope, *others)}) == 4
    assert [(each.prefix, each.policy.get_wait) for each in others] == [("/b", 5), ("", 1), ("", inf)]


def test_scopes_share_their_stores() -> None:
    """One store a string, however many scopes use it; flags hold in all of them."""
    made = builder("--put-ttl", "7")
    beam, piping, drop = made.scope("beam"), made.scope("piping"), made.scope("drop:get-ttl=1")
    assert beam.broker.stores["memory"] is piping.broker.stores["memory"]
    assert list(drop.broker.stores) == ["disk"]
    assert [name for name, _ in made.stores.values()] == ["memory", "disk"]
    assert [each.policy.put_ttl for each in (beam, piping, drop)] == [7, 7, 7]


@pytest.mark.parametrize(
    ("profile", "order"),
    [
        ("beam", ["memory", "disk", "more"]),
        ("hold", ["memory", "disk", "more"]),
        ("drop", ["disk", "memory", "more"]),
        ("beam:keeps=yes", ["disk", "memory", "more"]),
    ],
)
def test_a_profile_that_keeps_has_a_store_that_does_as_its_default(profile: str, order: list[str]) -> None:
    """The first one that keeps; the others stay in the order in which they were given."""
    made = builder("--store", "memory", "--store", "disk", "--store", "more=memory")
    assert list(made.scope(profile).broker.stores) == order


@pytest.mark.parametrize(
    ("arguments", "profile", "says"),
    [
        (("--store", "memory"), "drop", "the profile drop needs .*--store disk"),
        (("--store", "disk"), "claim", "the profile claim needs .*--store memory"),
        (("--store", "memory", "--store", "memory:window=1M"), "beam", "two stores are named memory"),
        (("--store", "tape"), "beam", "no store 'tape'"),
    ],
)
def test_scopes_that_cannot_be(arguments: tuple[str, ...], profile: str, says: str) -> None:
    """A store that is missing, named twice or unknown is told of."""
    with pytest.raises(ValueError, match=says):
        builder(*arguments).scope(profile)
