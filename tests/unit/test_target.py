"""Addresses that senders name and operators allow, and what a target's answer shows."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.web.client import URI

from beam.errors import BadRequest, Forbidden
from beam.target import (
    LONGEST,
    LONGEST_EXCERPT,
    PORTS,
    Target,
    check_allowed,
    excerpt,
    is_public,
    parse_pattern,
    parse_target,
)

S3 = "https://*.s3.*.amazonaws.com/*"
PIECES = st.sampled_from(
    [
        *(
            "http:",
            "https:",
            "HTTPS:",
            "ftp:",
            "//",
            "/",
            ":",
            "@",
            "?",
            "#",
            "\\",
            ".",
            "..",
            "%2e",
            "%2F",
            "%00",
            ";",
        ),
        *(
            "[",
            "]",
            "::1",
            "[::1]",
            "[fe80::1%25eth0]",
            "[::ffff:127.0.0.1]",
            "0:",
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
        ),
        *(
            "80",
            "443",
            "8080",
            "0",
            "65535",
            "65536",
            "-1",
            "00443",
            "a",
            "B",
            "evil.test",
            "x_y",
            "xn--a",
            "&",
            "=",
            "+",
        ),
        *(
            "*",
            " ",
            "\t",
            "\r",
            "\n",
            "\0",
            "\xa0",
            "\xad",
            "ß",
            "\u0130",
            "\u212a",
            "\u017f",
            "\u3002",
            "\uff0f",
            "\ufe55",
        ),
    ]
)
ADDRESSES = st.one_of(
    st.text(max_size=30),
    st.lists(PIECES, max_size=10).map("".join),
    st.builds(
        "{}://{}{}".format, st.sampled_from(["http", "https"]), PIECES, st.lists(PIECES, max_size=6).map("".join)
    ),
    st.from_regex(r"https?://[a-z0-9.\[\]:_-]{1,12}(:[0-9]{0,6})?([/?#;@][!-~]{0,20})?", fullmatch=True),
)


def allowed(address: str, *patterns: str) -> bool:
    """Whether a sender may forward to ``address`` where an operator allows ``patterns``."""
    try:
        check_allowed(parse_target(address), [parse_pattern(each) for each in patterns])
    except (BadRequest, Forbidden):
        return False
    return True


# Addresses.


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("https://bucket.example/key", "https", "bucket.example", 443, "/key"),
        ("http://bucket.example/key", "http", "bucket.example", 80, "/key"),
        ("https://bucket.example", "https", "bucket.example", 443, "/"),
        ("https://bucket.example?a=b", "https", "bucket.example", 443, "/?a=b"),
        ("https://bucket.example/?", "https", "bucket.example", 443, "/?"),
        ("HTTPS://BUCKET.Example/Key", "https", "bucket.example", 443, "/Key"),
        ("https://h:443/x", "https", "h", 443, "/x"),
        ("https://h:80/x", "https", "h", 80, "/x"),
        ("http://h:00080/x", "http", "h", 80, "/x"),
        ("http://h:65535/x", "http", "h", 65535, "/x"),
        ("http://127.0.0.1:9000/x", "http", "127.0.0.1", 9000, "/x"),
        ("http://[::1]/x", "http", "[::1]", 80, "/x"),
        ("http://[2001:DB8::1]:9000/x", "http", "[2001:db8::1]", 9000, "/x"),
        ("https://h//a//b/", "https", "h", 443, "//a//b/"),
        ("https://h/a@b", "https", "h", 443, "/a@b"),
        ("https://h/a:b;c,d!e$f'(g)*~", "https", "h", 443, "/a:b;c,d!e$f'(g)*~"),
        ("https://h/%E2%82%AC%20x", "https", "h", 443, "/%E2%82%AC%20x"),
        ("https://h/a...b/.hidden/..x/x../...", "https", "h", 443, "/a...b/.hidden/..x/x../..."),
        ("https://h/x?a=../b&c=%2e%2e/&d=?", "https", "h", 443, "/x?a=../b&c=%2e%2e/&d=?"),
        ("https://h/x?X-Amz-Signature=AbC%2F%2b+1", "https", "h", 443, "/x?X-Amz-Signature=AbC%2F%2b+1"),
    ],
)
def test_addresses(text: str, scheme: str, host: str, port: int, path: str) -> None:
    """Taken apart; a signature covers the path and the query, so neither is changed by a byte."""
    assert parse_target(text) == Target(scheme, host, port, path)


@pytest.mark.parametrize(
    ("text", "netloc"),
    [
        ("https://Host/x", "host"),
        ("https://host:443/x", "host"),
        ("https://host:80/x", "host:80"),
        ("http://host:80/x", "host"),
        ("http://host:443/x", "host:443"),
        ("http://[::1]:81/x", "[::1]:81"),
        ("http://[::1]:80/x", "[::1]"),
    ],
)
def test_the_host_header(text: str, netloc: str) -> None:
    """Without the port that the scheme has anyway: some signatures cover it."""
    target = parse_target(text)
    assert target.netloc == netloc
    assert target.url == f"{target.scheme}://{netloc}/x"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "/", "//h/x", "h/x", "h", "https:", "https://", "https:///x", "https:/h/x", "https:h", "https//h/x"),
        *("ftp://h/x", "file:///etc/passwd", "gopher://h/x", "httpss://h/x", "http+unix://h/x", "javascript://h/x"),
        *("https://u@h/x", "https://u:p@h/x", "https://@h/x", "https://:@h/x", "https://good.test@evil.test/x"),
        *("https://u@h", "https://u@h?x", "https://a:b@c@h/", "https://h:443@evil.test/", "https://h%40evil.test/"),
        *("https://h:/x", "https://h:0/x", "https://h:00/x", "https://h:65536/x", "https://h:99999/x", "https://h:*/x"),
        *("https://h:-1/x", "https://h:+80/x", "https://h:8 0/x", "https://h:80:80/x", "https://h:http/x"),
        *("https://h:\u0664\u0664\u0663/x", "https://h:000443/x"),
        *("https://h\\x", "https://h/\\x", "https://h/..\\x", "https:\\\\h\\x", "https://good.test\\@evil.test/"),
        *("https://h/x?\\", "\\\\h\\x"),
        *(
            "https://b\xfccket.example/x",
            "https://h/\u20ac",
            "https://h/x?\xe4",
            "https://h\u3002test/",
            "https://h\uff0fx",
        ),
        *(
            "https://\u212aelvin.test/",
            "https://\u017f3.test/",
            "http\u017f://h/",
            "https://h\xad/",
            "https://h\u2100/",
        ),
        *(
            "https://h /x",
            " https://h/x",
            "https://h/x ",
            "https://h/a b",
            "https://h/x\n",
            "https://h/x\r\nHost: evil",
        ),
        *("https://h/\tx", "https://h/x?\0", "\nhttps://h/x", "https://h\t/x", "https://h/\x7f", "ht\ntps://h/x"),
        *(
            "https://h/x#y",
            "https://h#",
            "https://h/#",
            "https://h/x?y#z",
            "https://169.254.169.254#.s3.a.amazonaws.com/",
        ),
        *(
            "https://*.h/x",
            "https://*/x",
            "https://h/<x>",
            'https://h/"x',
            "https://h/{key}",
            "https://h/a|b",
            "https://h/`",
        ),
        *(
            "https://h/^",
            "https://[::1/x",
            "https://::1]/x",
            "https://[]/x",
            "https://[::1%25eth0]/x",
            "https://[::1]x/",
        ),
        *(
            "https://[evil.test]/x",
            "https://[::1]]/x",
            "https://x[::1]/",
            "https://::1/x",
            "https://h,i/x",
            "https://%68/x",
        ),
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    """A whole refusal: nothing is repaired, and nothing of it is repeated."""
    with pytest.raises(BadRequest) as caught:
        parse_target(text)
    sentence = caught.value.sentence
    assert "\n" not in sentence and sentence.startswith("The ")
    assert not any(word in sentence for word in ("evil", "good", "passwd", "amazonaws"))


@pytest.mark.parametrize(
    "text", ["http://[::::]/", "http://[1.2.3.4]/", "http://[1]/", "http://[::12345]/", "http://[.]/"]
)
def test_brackets_around_no_address(text: str) -> None:
    """Others raise when they read these."""
    with pytest.raises(BadRequest):
        parse_target(text)


@pytest.mark.parametrize("host", [".", "..", ".h", "a..b", "h..", "a" * 64, f"{'a' * 64}.test"])
def test_hosts_that_no_resolver_can_be_asked_for(host: str) -> None:
    """A label has 1 to 63 octets (RFC 1035, 2.3.4): ``socket.getaddrinfo`` raises ``UnicodeError`` for others."""
    with pytest.raises(BadRequest):
        parse_target(f"https://{host}/x")


@pytest.mark.parametrize("text", ["https://h?mail=a@b.test", "https://h/x?to=http://a@b.test/", "https://h/x://a@b"])
def test_an_at_sign_behind_the_host(text: str) -> None:
    """It is no user name there."""
    target = parse_target(text)
    assert (target.host, target.port) == ("h", 443)
    assert target.path.endswith(text[9:])


@pytest.mark.parametrize(
    "text", ["https://h/a/..%2fb", "https://h/a/..%2Fb", "https://h/a/%2e%2e%2fb", "https://h/a/x%2f..%2fb"]
)
def test_dot_segments_behind_an_encoded_slash(text: str) -> None:
    """Servers decode a path before they normalize it: this one would leave ``/a/``."""
    assert not allowed(text, "https://h/a/*")


def test_long_addresses() -> None:
    """A limit that is told."""
    start = "https://h/"
    assert len(parse_target(start + "x" * (LONGEST - len(start))).url) == LONGEST
    with pytest.raises(BadRequest, match="longer than 4096"):
        parse_target(start + "x" * (LONGEST - len(start) + 1))


@pytest.mark.parametrize("text", ["https://name:secret@h/x", "https://h:0/?sig=secret", "secret"])
def test_a_refusal_does_not_repeat_the_address(text: str) -> None:
    """It may hold a signature."""
    with pytest.raises(BadRequest) as caught:
        parse_target(text)
    assert "secret" not in caught.value.sentence


@given(ADDRESSES)
@example("https://h:443@evil.test/")
@example("https://h\\@evil.test/")
@example("https://evil.test#@h/")
@example("https://h;x@evil.test/")
@example("http://[::1]:80/")
@example("http://[::1]")
@example("http://h:080?x")
def test_everybody_reads_an_address_alike(text: str) -> None:
    """What is matched and resolved is what is connected to and asked for."""
    try:
        target = parse_target(text)
    except BadRequest as error:
        assert "\n" not in error.sentence
        return
    assert target.url.isascii() and target.url.isprintable() and " " not in target.url
    split, uri = urlsplit(target.url), URI.fromBytes(target.url.encode("ascii"))
    host = target.host.strip("[]")
    assert split.hostname == uri.host.decode("ascii").strip("[]") == host
    assert (split.port or PORTS[split.scheme]) == uri.port == target.port
    assert split.scheme == uri.scheme.decode("ascii") == target.scheme
    assert uri.originForm == target.path.encode("ascii") or target.path.endswith(("?", ";"))
    assert split.username is None and split.fragment == ""
    assert (uri.netloc.decode("ascii"), split.netloc) == (target.netloc, target.netloc)
    assert parse_target(target.url) == target


# Patterns.


@pytest.mark.parametrize(
    "address",
    [
        "https://bucket.s3.eu-west-1.amazonaws.com/key",
        "https://bucket.s3.eu-west-1.amazonaws.com",
        "https://BUCKET.S3.EU-WEST-1.AMAZONAWS.COM/Key?X-Amz-Signature=1",
        "https://bucket.s3.eu-west-1.amazonaws.com:443/a/b//c",
    ],
)
def test_addresses_of_a_pattern(address: str) -> None:
    """The host in any case, the port that the scheme has, and any path."""
    assert allowed(address, S3)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.test/x.s3.y.amazonaws.com/z",
        "https://evil.test/.s3.y.amazonaws.com/z",
        "https://evil.test?.s3.y.amazonaws.com/z",
        "https://evil.test:443/x.s3.y.amazonaws.com/",
        "https://evil.test#.s3.y.amazonaws.com/",
        "https://169.254.169.254#.s3.a.amazonaws.com/",
        "https://169.254.169.254\\.s3.a.amazonaws.com/",
        "https://169.254.169.254%23.s3.a.amazonaws.com/",
        "https://a.s3.b.amazonaws.com@evil.test/",
        "https://a.s3.b.amazonaws.com:443@evil.test/",
        "https://evil.test\\@a.s3.b.amazonaws.com/",
        "https://a.s3.b.amazonaws.com.evil.test/",
        "https://a.s3.b.amazonaws.com./",
        "https://a.s3.b.amazonaws.comx/",
        "https://a.s3.b.amazonawsxcom/",
        "https://a.b.s3.c.amazonaws.com/",
        "https://a.s3.b.c.amazonaws.com/",
        "https://s3.b.amazonaws.com/",
        "https://a.s3.amazonaws.com/",
        "https://a.xs3.b.amazonaws.com/",
        "https://a.s3.b.amazonaws.com:444/",
        "https://a.s3.b.amazonaws.com:80/",
        "http://a.s3.b.amazonaws.com/",
        "http://a.s3.b.amazonaws.com:443/",
        "https://evil.test/https://a.s3.b.amazonaws.com/",
        "https://a.s3.b.\u212a.amazonaws.com/",
        "https://evil.test\u3002a.s3.b.amazonaws.com/",
        "https://a.s3.b.amazonaws.com\n.evil.test/",
    ],
)
def test_addresses_beside_a_pattern(address: str) -> None:
    """Each part is matched with its own part, and a star stays inside one label."""
    assert not allowed(address, S3)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("https://h", ["https://h/", "https://h/x", "https://h?x"], ["http://h/", "https://h:444/", "https://h.h/"]),
        ("HTTPS://H/*", ["https://h/x"], ["https://i/x"]),
        ("https://h:*/", ["https://h/", "https://h:1/", "https://h:65535/?x"], ["https://h/x", "https://h:1/x"]),
        ("https://h:443/*", ["https://h/x"], ["https://h:80/x"]),
        ("http://h:9000", ["http://h:9000/x"], ["http://h/x", "http://h:90/x", "https://h:9000/x"]),
        ("https://*/*", ["https://h/x"], ["https://h.h/x", "https://1.2.3.4/"]),
        ("https://*.test/*", ["https://a.test/", "https://a-b.test/"], ["https://test/", "https://a.b.test/"]),
        ("https://a*z.test/*", ["https://az.test/", "https://abcz.test/"], ["https://a.z.test/", "https://abc.test/"]),
        ("https://*.*.test/*", ["https://a.b.test/"], ["https://a.test/", "https://a.b.c.test/"]),
        ("https://a.b/*", ["https://a.b/"], ["https://axb/", "https://a-b/"]),
        ("https://h/up/*", ["https://h/up/", "https://h/up/a/b?c"], ["https://h/up", "https://h/upx/", "https://h/"]),
        ("https://h/up/*", ["https://h/up//x"], ["https://h//up/x", "https://h/UP/x", "https://h/x/up/y"]),
        ("https://h/up/*", ["https://h/up/x?../y"], ["https://h/up/../x", "https://h/up/%2e%2e/x", "https://h/x?/up/"]),
        ("https://h/up/*", ["https://h/up/.x"], ["https://h/up/./x", "https://h/up/.%2E", "https://h/up/x/%2e?y"]),
        ("https://h/*", ["https://h/a/../b", "https://h/./%2e%2e"], ["http://h/../x"]),
        ("https://h/*/in/*", ["https://h/a/in/b", "https://h/a/b/in/"], ["https://h/in/x", "https://h/a/out/b"]),
        ("https://h/a.b", ["https://h/a.b", "https://h/a.b?x"], ["https://h/axb", "https://h/a.bc", "https://h/a.b/"]),
        ("https://h/(x)[y]+", ["https://h/(x)[y]+"], ["https://h/xy", "https://h/xyy"]),
        ("http://127.0.0.*:*/*", ["http://127.0.0.1:80/"], ["http://127.0.1.1/", "http://127.1/"]),
        ("http://[::1]:*/*", ["http://[::1]:80/"], ["http://[::2]/", "http://[::1:1]/"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    """A star is any run of what is no dot in the host, any run at all in the path, and any port."""
    assert [each for each in yes if not allowed(each, pattern)] == []
    assert [each for each in no if allowed(each, pattern)] == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "Any",
            "any ",
            "*://h/*",
            "ftp://h/*",
            "h",
            "h/*",
            "//h/*",
            "https://",
            "https:///x",
            "https://h/*?*",
        ),
        *(
            "https://h/#",
            "https://u@h/*",
            "https://h:x/",
            "https://h:/",
            "https://h:8*/",
            "https://h i/",
            "https://[*]/",
        ),
        "https://*@h/*",
    ],
)
def test_patterns_that_are_none(text: str) -> None:
    """A sentence for the operator, before anything runs."""
    with pytest.raises(ValueError, match="is neither 'any' nor a pattern"):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["https://h:0/*", "https://h:65536/*", "https://h:99999/*"])
def test_ports_of_patterns_that_are_none(text: str) -> None:
    """Such a pattern would allow nothing, and nobody would say so."""
    with pytest.raises(ValueError, match=r"port|is neither"):
        parse_pattern(text)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "https://a.b.c.d.test:1/x?y"])
def test_any(address: str) -> None:
    """Every address; which of them are public is asked elsewhere."""
    assert parse_pattern("any") is None
    assert allowed(address, "any") and allowed(address, "https://h/*", "any")
    assert not allowed(address)


def test_one_of_several_patterns_is_enough() -> None:
    """And only the host is shown where none is."""
    patterns = [parse_pattern("https://a.test/*"), parse_pattern("http://b.test:81/x/*")]
    check_allowed(parse_target("https://a.test/"), patterns)
    check_allowed(parse_target("http://b.test:81/x/y"), patterns)
    with pytest.raises(Forbidden, match=r"at a\.test") as caught:
        check_allowed(parse_target("https://a.test:81/x/y?sig=secret"), patterns)
    assert "secret" not in caught.value.sentence
    with pytest.raises(Forbidden, match="does not forward; "):
        check_allowed(parse_target("https://a.test/"), ())


@given(ADDRESSES)
def test_whatever_is_allowed_is_at_the_host_that_was_meant(text: str) -> None:
    """No address is let through whose host others read as another."""
    if allowed(text, "https://*.evil.test/*", "http://127.0.0.1:*/*", "https://a/*"):
        uri = URI.fromBytes(parse_target(text).url.encode("ascii"))
        host = uri.host.decode("ascii")
        assert host in ("127.0.0.1", "a") or (host.endswith(".evil.test") and host.count(".") == 2)


# Networks.


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::"),
        *("169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd00:ec2::254", "fdff::1"),
        *("100.64.0.1", "100.100.100.200", "100.127.255.255"),
        *("168.63.129.16", "192.0.0.192", "192.0.0.1"),
        *("224.0.0.1", "224.0.0.251", "239.1.1.1", "232.1.1.1", "ff02::1", "ff05::2", "ff0e::1"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "2001:db8::1"),
        *("100::1", "2001:2::1", "2001:10::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a3f:8110", "::ffff:100.64.0.1"),
        *("::ffff:168.63.129.16", "::ffff:224.0.0.1", "::ffff:0.0.0.0"),
        *("::127.0.0.1", "::10.0.0.1", "::169.254.169.254", "::168.63.129.16"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.1.2.3", "64:ff9b::168.63.129.16", "64:ff9b::e000:1"),
        *("64:ff9b:1::127.0.0.1", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:2:3::1"),
        *("2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:a00:1::", "2002:c0a8:101::1", "2002:a83f:8110::"),
        # Teredo: the server is 65.54.227.120, and the client's address is inverted.
        *("2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:4136:e378:8000:63bf:5601:5601", "2001::f5ff:fffe"),
        *("::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe"),  # translated (RFC 2765)
        *("fec0::1", "feff::1"),  # site-local (RFC 3879)
    ],
)
def test_networks_that_are_not_public(address: str) -> None:
    """This host, its networks, its cloud, and whatever carries one of their addresses."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "52.218.0.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1"),
        *("126.255.255.255", "128.0.0.1", "168.63.129.15", "169.253.255.255", "223.255.255.254", "9.255.255.255"),
        *("2001:4860:4860::8888", "2606:4700:4700::1111", "2a05:d018::1", "2001:4860:4860::8888%eth0"),
        *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    ],
)
def test_networks_that_are_public(address: str) -> None:
    """And those beside the others."""
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_as_public_as_the_one_in_it(address: object) -> None:
    """Where a socket of IPv6 connects by IPv4."""
    assert is_public(f"::ffff:{address}") == is_public(str(address))
    assert is_public(f"64:ff9b::{address}") <= is_public(str(address))


@given(st.ip_addresses())
def test_every_address_is_public_or_not(address: object) -> None:
    """An answer for whatever a resolver says."""
    assert is_public(str(address)) in (True, False)


# What a target says.

ERROR = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match.</Message>
<AWSAccessKeyId>AKIDSECRET</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 SECRET</StringToSign>
<SignatureProvided>SECRET</SignatureProvided><HostId>SECRET</HostId></Error>"""
SHOWN = "SignatureDoesNotMatch: The request signature we calculated does not match."


@pytest.mark.parametrize(
    "kind", ["application/xml", "text/xml; charset=utf-8", "application/problem+xml", "", "text/plain"]
)
def test_an_error_of_s3(kind: str) -> None:
    """Its code and message; the rest shows keys and what was signed."""
    assert excerpt(kind, ERROR) == SHOWN
    assert excerpt(kind, b" \r\n" + ERROR) == SHOWN


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Application/XML", ERROR.partition(b"\n")[2]),  # a type is the same in any case (RFC 9110, 8.3.1)
        ("TEXT/XML", ERROR.partition(b"\n")[2]),
        ("", b"\xef\xbb\xbf" + ERROR),
    ],
)
def test_an_error_of_s3_in_other_clothes(kind: str, body: bytes) -> None:
    """It is the same."""
    assert excerpt(kind, body) == SHOWN


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<Error><Code>A</Code></Error>", "A"),
        (b"<Error><Message>B</Message></Error>", "B"),
        (b"<Error><Message>B</Message><Code>A</Code></Error>", "A: B"),
        (b"<Error><Code></Code><Message>B</Message></Error>", ": B"),
        (b"<Error><Resource>/secret</Resource></Error>", ""),
        (b"<Error><Code>A</Code><Message>B secret", "A"),
        (b"<Error><Code>A<Key>secret</Key></Code></Error>", ""),
        (b"<Error><Code>A</Code><Code>secret</Code></Error>", "A"),
        (b"<Error><StringToSign>secret</StringToSign>", ""),
        (b"", ""),
        (b"secret", ""),
        (b"<Code>a &lt;b&gt; &amp;amp; &quot;c&quot; &#33;&#x21;</Code>", 'a <b> &amp; "c" !!'),
        (b"<Code>a&#10;b&#13;&#9;c&#0;&#x1b;[31md</Code>", "a b c\ufffd[31md"),
        (b"<Code>a\r\n\tb\0c\x1b[0m\x7f</Code>", "a b c [0m"),
        ("<Code>über €\u202e\u2028\u200bx</Code>".encode(), "über € x"),
        (b"<Code>\xff\xfe</Code>", "\ufffd\ufffd"),
    ],
)
def test_other_errors_in_xml(body: bytes, says: str) -> None:
    """What is there of the two, as one printable line."""
    assert excerpt("application/xml", body) == says


def test_entities_are_not_expanded() -> None:
    """Neither a bomb nor a file of this host."""
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "secret">' + b"".join(
        b'<!ENTITY b%d "%s">' % (i, b"&b%d;" % (i - 1) * 10) for i in range(1, 20)
    )
    said = excerpt("", bomb + b"]><Error><Code>&b19;</Code><Message>&a;</Message></Error>")
    assert said == "&b19;: &a;"
    outer = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Error><Code>&f;</Code></Error>'
    assert excerpt("application/xml", outer) == "&f;"


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("text/plain", b"No.", "No."),
        ("text/plain", b"  a\r\n\r\nb\tc  ", "a b c"),
        ("text/plain", b"a\r\nSet-Cookie: x", "a Set-Cookie: x"),
        ("application/json", b'{"error": "&lt;"}', '{"error": "&lt;"}'),
        ("", b"", ""),
        ("", b"\0\1\2\x1b\x7f", ""),
        ("application/octet-stream", b"\xff\xd8\xff\xe0\0\x10JFIF", "\ufffd\ufffd\ufffd\ufffd JFIF"),
        ("text/plain", "€ \u202e\x9b\u2029x".encode(), "€ x"),
    ],
)
def test_other_answers(kind: str, body: bytes, says: str) -> None:
    """Their first characters, as one printable line."""
    assert excerpt(kind, body) == says


@pytest.mark.parametrize("kind", ["text/plain", "application/xml"])
@pytest.mark.parametrize("n", [LONGEST_EXCERPT - 1, LONGEST_EXCERPT, LONGEST_EXCERPT + 1, 1 << 20])
def test_long_answers(kind: str, n: int) -> None:
    """Cut by characters, not by bytes."""
    text = "€" * n
    body = f"<Code>{text}</Code>" if "xml" in kind else text
    assert excerpt(kind, body.encode()) == text[:LONGEST_EXCERPT]


def test_an_answer_that_is_made_to_take_long() -> None:
    """No more steps than characters."""
    body = b"<Code>" * 3000 + b"<Message>" * 3000 + b"&" * 100_000 + b"&#" * 10_000
    assert excerpt("application/xml", body) == ""
    assert len(excerpt("text/plain", b" \0" * 100_000 + b"x")) == 1


@given(st.sampled_from(["", "text/xml", "text/plain"]), st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_whatever_a_target_says_is_a_line(kind: str, body: bytes) -> None:
    """One that fits into a sentence."""
    said = excerpt(kind, body)
    assert said.isprintable() and len(said) <= LONGEST_EXCERPT and said == " ".join(said.split())
