"""Whose address a request has, and by what it came: the connection's, unless a trusted proxy says."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from beam.values import network
from beam.web.proxies import MOST_HOPS, Proxies, address

TRUSTED = ("192.0.2.1", "10.0.0.0/8", "2001:db8:1::/48", "unix")
PROXY = "192.0.2.1"


def proxies(*trusted: str) -> Proxies:
    """Those that are named."""
    return Proxies(tuple(network(each) for each in trusted))


def headers(name: str, *values: str) -> Headers:
    """The field ``name``, several times perhaps."""
    return Headers({name: list(values)} if values else {})


@pytest.mark.parametrize(
    ("host", "said", "client"),
    [
        pytest.param(PROXY, ["203.0.113.7"], "203.0.113.7", id="one proxy"),
        pytest.param(PROXY, ["203.0.113.7, 10.1.2.3"], "203.0.113.7", id="two proxies"),
        pytest.param(PROXY, ["203.0.113.7,10.1.2.3 ,  2001:db8:1::9"], "203.0.113.7", id="three proxies"),
        pytest.param(PROXY, ["203.0.113.7", "10.1.2.3"], "203.0.113.7", id="two fields"),
        pytest.param(PROXY, ["198.51.100.1, 203.0.113.7"], "203.0.113.7", id="what the client wrote"),
        pytest.param(PROXY, ["10.9.9.9, 203.0.113.7, 10.1.2.3"], "203.0.113.7", id="a trusted one behind the client"),
        pytest.param(PROXY, ["10.1.1.1, 10.2.2.2"], "10.1.1.1", id="all are trusted"),
        pytest.param(PROXY, [], PROXY, id="nothing"),
        pytest.param(PROXY, [""], PROXY, id="empty"),
        pytest.param(PROXY, ["203.0.113.7,"], PROXY, id="an empty last entry"),
        pytest.param(PROXY, ["unknown"], PROXY, id="unknown"),
        pytest.param(PROXY, ["203.0.113.7, unknown, 10.1.2.3"], "10.1.2.3", id="a malformed entry between"),
        pytest.param(PROXY, ["unix:"], PROXY, id="a socket in front of the proxy"),
        pytest.param(PROXY, ["203.0.113.7:5060"], "203.0.113.7", id="a port"),
        pytest.param(PROXY, ["[2001:db8::7]:5060"], "2001:db8::7", id="IPv6 and a port"),
        pytest.param(PROXY, ["[2001:db8::7]"], "2001:db8::7", id="IPv6 in brackets"),
        pytest.param(PROXY, ["2001:DB8:0::7"], "2001:db8::7", id="IPv6"),
        pytest.param(PROXY, ["::ffff:203.0.113.7"], "203.0.113.7", id="IPv4 mapped"),
        pytest.param(PROXY, ["203.0.113.7, ::ffff:10.0.0.1"], "203.0.113.7", id="a trusted IPv4 mapped"),
        pytest.param("::ffff:192.0.2.1", ["203.0.113.7"], "203.0.113.7", id="a connection that is IPv4 mapped"),
        pytest.param("2001:db8:1::1", ["2001:db8::7"], "2001:db8::7", id="an IPv6 proxy"),
        pytest.param(None, ["203.0.113.7"], "203.0.113.7", id="a UNIX socket"),
        pytest.param(None, [], "unix", id="a UNIX socket and nothing"),
        pytest.param("203.0.113.9", ["203.0.113.7"], "203.0.113.9", id="not a proxy"),
        pytest.param("203.0.113.9", ["10.1.2.3"], "203.0.113.9", id="not a proxy that names one"),
        pytest.param("2001:db8:2::1", ["2001:db8::7"], "2001:db8:2::1", id="not an IPv6 proxy"),
        pytest.param("fe80::1%eth0", ["203.0.113.7"], "fe80::1%eth0", id="a link's address"),
    ],
)
def test_the_address_of_a_client(host: str | None, said: list[str], client: str) -> None:
    """From the end of the list, past what is trusted, as far as it is made of addresses."""
    assert proxies(*TRUSTED).client(host, headers("x-forwarded-for", *said)) == client


@pytest.mark.parametrize("host", [PROXY, "10.0.0.1", "::1", None])
def test_nobody_is_trusted_unasked(host: str | None) -> None:
    """Neither an address of the same machine, nor a socket."""
    said = Headers({"x-forwarded-for": ["203.0.113.7"], "x-forwarded-proto": ["https"]})
    assert Proxies().client(host, said) == (host or "unix")
    assert Proxies().says_secure(host, said) is None


def test_a_socket_is_trusted_by_its_own_word_only() -> None:
    """And that word trusts no address."""
    said = headers("x-forwarded-for", "203.0.113.7")
    assert proxies("10.0.0.0/8").client(None, said) == "unix"
    assert proxies("unix").client("10.0.0.1", said) == "10.0.0.1"


def test_a_long_list_is_not_walked_to_its_end() -> None:
    """A client that writes thousands of trusted addresses costs no more than one that writes some."""
    said = headers("x-forwarded-for", ",".join(["203.0.113.7", *(f"10.0.{i >> 8}.{i & 255}" for i in range(5000))]))
    assert proxies(*TRUSTED).client(PROXY, said) == f"10.0.{(5000 - MOST_HOPS) >> 8}.{(5000 - MOST_HOPS) & 255}"


@pytest.mark.parametrize(
    ("host", "said", "secure"),
    [
        (PROXY, ["https"], True),
        (PROXY, ["HTTPS"], True),
        (PROXY, ["http"], False),
        (PROXY, ["https, http"], False),
        (PROXY, ["http", "https"], True),
        (PROXY, [], None),
        (PROXY, [""], None),
        (PROXY, ["ftp"], None),
        (None, ["https"], True),
        ("203.0.113.9", ["https"], None),
    ],
)
def test_whether_a_client_came_by_tls(host: str | None, said: list[str], secure: bool | None) -> None:
    """The nearest proxy's word, if it is one."""
    assert proxies(*TRUSTED).says_secure(host, headers("x-forwarded-proto", *said)) is secure


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "[1.2.3.4",
        "[::1]x",
        "[::1]:",
        ":::",
        "::1%lo",
        "_hidden",
        "localhost",
        "1.2.3.4 ",
        "1.2.3.4\n",
        "\N{ARABIC-INDIC DIGIT ONE}.2.3.4",
        "10.0.0.0/8",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """It is not taken for one, and nothing of it reaches the log."""
    assert address(text) is None


@pytest.mark.parametrize("text", ["192.0.2.1", "10.0.0.0/8", "::1", "2001:db8::/32", "unix"])
def test_names_of_proxies(text: str) -> None:
    """An address is a network of one."""
    assert proxies(text).trusted == (network(text),)
    assert str(network(text)) in (text, f"{text}/32", f"{text}/128")


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", "UNIX", "*", "10.0.0.0-10.0.0.9", "[::1]"]
)
def test_names_of_no_proxies(text: str) -> None:
    """They are refused, and not bent to what might be meant."""
    with pytest.raises(ValueError, match="is no address, no network such as "):
        network(text)


@given(st.ip_addresses())
def test_every_address_is_read_as_it_is_written(written: object) -> None:
    """Bare, and in brackets with a port where it is IPv6."""
    expected = ip_address(str(written))
    expected = getattr(expected, "ipv4_mapped", None) or expected
    assert address(str(written)) == expected
    assert address(f"[{written}]:80" if ":" in str(written) else f"{written}:80") == expected
