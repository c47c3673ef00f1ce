"""Small scenes between senders, receivers and a Piping Server, as scripts over raw connections.

Here stands what is sent, in which order, and what is waited for; what has to come stands in ``piping.json``, which was
recorded from the original (``record_piping.py``).  Each scene has a path of its own.
"""

from enum import Enum

from attrs import field, frozen


class Act(Enum):
    """What somebody does in one step.  The first step of somebody connects."""

    ASK = "asks"  # begins a request
    SEND = "sends"  # goes on with it
    HALF_CLOSE = "half-closes"
    LEAVE = "leaves"
    RESET = "resets"
    HEAD = "hears the head"
    LINES = "hears lines"
    BYTES = "hears bytes"
    REST = "hears the rest"
    ANSWER = "hears the answer"
    END = "hears the end"  # of the connection
    SILENCE = "hears nothing"

    @property
    def hears(self) -> bool:
        """Whether there is something to compare."""
        return self.value.startswith("hears")


@frozen
class Step:
    """One step of ``who``."""

    who: str
    act: Act
    data: bytes = b""
    count: int = 0


@frozen
class Who:
    """Somebody with one connection; its methods make steps."""

    name: str

    def asks(self, *pieces: bytes) -> Step:
        """Begin a request with these exact bytes, all at once."""
        return Step(self.name, Act.ASK, b"".join(pieces))

    def sends(self, *pieces: bytes) -> Step:
        """Send these exact bytes, which belong to the request."""
        return Step(self.name, Act.SEND, b"".join(pieces))

    def half_closes(self) -> Step:
        """End the side that sends."""
        return Step(self.name, Act.HALF_CLOSE)

    def leaves(self) -> Step:
        """Close the connection."""
        return Step(self.name, Act.LEAVE)

    def resets(self) -> Step:
        """Close the connection with a reset."""
        return Step(self.name, Act.RESET)

    def hears_head(self) -> Step:
        """Wait for the head of the answer."""
        return Step(self.name, Act.HEAD)

    def hears_lines(self, n: int) -> Step:
        """Wait for ``n`` lines of the body."""
        return Step(self.name, Act.LINES, count=n)

    def hears_bytes(self, n: int) -> Step:
        """Wait for ``n`` bytes of the body."""
        return Step(self.name, Act.BYTES, count=n)

    def hears_rest(self) -> Step:
        """Wait for what is left of the answer."""
        return Step(self.name, Act.REST)

    def hears_answer(self) -> Step:
        """Wait for the whole answer."""
        return Step(self.name, Act.ANSWER)

    def hears_end(self) -> Step:
        """Wait until the server ends the connection, whatever comes before."""
        return Step(self.name, Act.END)

    def hears_nothing(self) -> Step:
        """Watch a little while: nothing comes."""
        return Step(self.name, Act.SILENCE)


@frozen
class Scene:
    """A named script.

    :param page: what is answered is a page of the server's own; only its status and type are recorded and compared.
    """

    name: str
    steps: tuple[Step, ...]
    page: bool = field(default=False, kw_only=True)


SCENES: dict[str, Scene] = {}


def scene(name: str, *steps: Step, page: bool = False) -> None:
    """Add a scene."""
    assert name not in SCENES, name
    SCENES[name] = Scene(name, steps, page=page)


# What is sent.


def request(method: str, target: str, *fields: str, version: str = "1.1") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: piping.test", *fields, "", ""]).encode()


def get(target: str, *fields: str, version: str = "1.1") -> bytes:
    """A GET."""
    return request("GET", target, *fields, version=version)


def put(target: str, body: bytes, *fields: str, length: int | None = None, version: str = "1.1") -> bytes:
    """A PUT with ``body``, which may be a part of the ``length`` bytes that are announced."""
    announced = f"Content-Length: {len(body) if length is None else length}"
    return request("PUT", target, *fields, announced, version=version) + body


def post(target: str, body: bytes, *fields: str, length: int | None = None, version: str = "1.1") -> bytes:
    """A POST with ``body``."""
    return put(target, body, *fields, length=length, version=version).replace(b"PUT", b"POST", 1)


CHUNKED = "Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


FORM = "Content-Type: multipart/form-data; boundary=bound"


def part(data: bytes, *fields: str) -> bytes:
    """A part of a form."""
    return "\r\n".join(["--bound", *fields, "", ""]).encode() + data + b"\r\n"


FORM_END = b"--bound--\r\n"
FILE = 'Content-Disposition: form-data; name="file"; filename="t.txt"'

S, S2 = Who("sender"), Who("second sender")
R, R2, R3, R4 = Who("receiver"), Who("second receiver"), Who("third receiver"), Who("fourth receiver")
HELLO = b"hello, world"


# Who comes first.

for method, send in (("put", put), ("post", post)):
    scene(
        f"sender_first_{method}",
        S.asks(send(f"/sender-first-{method}", HELLO)),
        S.hears_head(),
        S.hears_lines(1),
        S.hears_nothing(),
        R.asks(get(f"/sender-first-{method}")),
        R.hears_answer(),
        S.hears_answer(),
    )
    scene(
        f"receiver_first_{method}",
        R.asks(get(f"/receiver-first-{method}")),
        R.hears_nothing(),
        S.asks(send(f"/receiver-first-{method}", HELLO)),
        S.hears_answer(),
        R.hears_answer(),
    )
scene(
    "head_then_body",
    R.asks(get("/head-then-body")),
    S.asks(put("/head-then-body", b"", length=12)),
    S.hears_head(),
    S.hears_lines(3),
    S.hears_nothing(),
    S.sends(HELLO),
    S.hears_rest(),
    R.hears_answer(),
)
scene(
    "two_receivers_first",
    R.asks(get("/two-first?n=2")),
    R2.asks(get("/two-first?n=2")),
    R.hears_nothing(),
    S.asks(put("/two-first?n=2", HELLO)),
    R.hears_answer(),
    R2.hears_answer(),
    S.hears_answer(),
)
scene(
    "sender_between_two_receivers",
    R.asks(get("/between?n=2")),
    S.asks(put("/between?n=2", HELLO)),
    S.hears_lines(2),
    S.hears_nothing(),
    R.hears_nothing(),
    R2.asks(get("/between?n=2")),
    S.hears_rest(),
    R.hears_answer(),
    R2.hears_answer(),
)
scene(
    "sender_before_two_receivers",
    S.asks(post("/before-two?n=2", HELLO)),
    S.hears_lines(1),
    R.asks(get("/before-two?n=2")),
    S.hears_lines(1),
    S.hears_nothing(),
    R2.asks(get("/before-two?n=2")),
    S.hears_lines(2),
    S.hears_rest(),
    R.hears_answer(),
    R2.hears_answer(),
)
scene(
    "three_receivers",
    R.asks(get("/three?n=3")),
    R2.asks(get("/three?n=3")),
    S.asks(request("PUT", "/three?n=3", CHUNKED)),
    S.hears_head(),
    S.hears_lines(2),
    S.hears_nothing(),
    R3.asks(get("/three?n=3")),
    S.hears_lines(2),
    S.sends(chunk(b"abc")),
    R.hears_bytes(3),
    R2.hears_bytes(3),
    R3.hears_bytes(3),
    S.sends(chunk(b"def"), LAST_CHUNK),
    R.hears_rest(),
    R2.hears_rest(),
    R3.hears_rest(),
    S.hears_rest(),
)
scene(
    "n_one_is_the_default",
    S.asks(put("/n-one?n=1", HELLO)),
    S.hears_lines(1),
    R.asks(get("/n-one")),
    R.hears_answer(),
    S.hears_rest(),
)


# n that does not match.

scene(
    "receiver_wants_fewer",
    S.asks(put("/fewer?n=2", HELLO)),
    S.hears_lines(1),
    R.asks(get("/fewer")),
    R.hears_answer(),
    S.hears_nothing(),
    S.leaves(),
)
scene(
    "receiver_wants_more",
    S.asks(put("/more", HELLO)),
    S.hears_lines(1),
    R.asks(get("/more?n=3")),
    R.hears_answer(),
    S.hears_nothing(),
    R2.asks(get("/more")),
    R2.hears_answer(),
    S.hears_rest(),
)
scene(
    "sender_wants_fewer",
    R.asks(get("/sender-fewer?n=2")),
    S.asks(put("/sender-fewer", HELLO)),
    S.hears_answer(),
    R.hears_nothing(),
    R.leaves(),
)
scene(
    "second_receiver_does_not_match",
    R.asks(get("/second-other?n=2")),
    R2.asks(get("/second-other?n=3")),
    R2.hears_answer(),
    R.hears_nothing(),
    R.leaves(),
)

# n that is none.  What parseInt reads is one.

for name, query in {
    "zero": "n=0",
    "negative": "n=-1",
    "word": "n=x",
    "empty": "n=",
    "without_value": "n",
    "infinite": "n=Infinity",
}.items():
    scene(f"sender_n_{name}", S.asks(put(f"/sender-n-{name}?{query}", HELLO)), S.hears_answer())
    scene(f"receiver_n_{name}", R.asks(get(f"/receiver-n-{name}?{query}")), R.hears_answer())
for name, query in {
    "digits_and_letters": "n=2abc",
    "fraction": "n=2.9",
    "space": "n=%202",
    "plus": "n=%2B2",
    "leading_zeros": "n=002",
    "twice": "n=2&n=3",
    "behind_another": "m=5&n=2",
}.items():
    scene(
        f"n_{name}_is_two",
        S.asks(put(f"/n-{name}?{query}", HELLO)),
        S.hears_lines(1),
        R.asks(get(f"/n-{name}?n=2")),
        S.hears_lines(1),
        R2.asks(get(f"/n-{name}?{query}")),
        R.hears_answer(),
        R2.hears_answer(),
        S.hears_rest(),
    )


# One too many.

scene(
    "second_sender",
    S.asks(put("/second-sender", HELLO)),
    S.hears_lines(1),
    S2.asks(post("/second-sender", b"other")),
    S2.hears_answer(),
    S.hears_nothing(),
    R.asks(get("/second-sender")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "second_sender_with_another_n",
    S.asks(put("/second-sender-n", HELLO)),
    S.hears_lines(1),
    S2.asks(put("/second-sender-n?n=2", b"other")),
    S2.hears_answer(),
    S.leaves(),
)
scene(
    "second_sender_whose_body_never_ends",
    S.asks(request("POST", "/second-unending", CHUNKED), chunk(HELLO)),
    S.hears_lines(1),
    S2.asks(request("POST", "/second-unending", CHUNKED), chunk(b"other")),
    S2.hears_answer(),
    S.hears_nothing(),
    R.asks(get("/second-unending")),
    R.hears_bytes(12),
    S.sends(LAST_CHUNK),
    R.hears_rest(),
    S.hears_rest(),
)
scene(
    "too_many_receivers",
    R.asks(get("/too-many")),
    R2.asks(get("/too-many")),
    R2.hears_answer(),
    S.asks(put("/too-many", HELLO)),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "too_many_receivers_of_two",
    R.asks(get("/too-many-of-two?n=2")),
    R2.asks(get("/too-many-of-two?n=2")),
    R3.asks(get("/too-many-of-two?n=2")),
    R3.hears_answer(),
    S.asks(put("/too-many-of-two?n=2", HELLO)),
    R.hears_answer(),
    R2.hears_answer(),
    S.hears_answer(),
)
scene(
    "established_already",
    R.asks(get("/established")),
    S.asks(put("/established", b"hello", length=12)),
    R.hears_bytes(5),
    S.hears_lines(3),
    R2.asks(get("/established")),
    R2.hears_answer(),
    S2.asks(put("/established", b"other")),
    S2.hears_answer(),
    R3.asks(get("/established?n=2")),
    R3.hears_answer(),
    R4.asks(get("/established?n=0")),
    R4.hears_answer(),
    S.hears_nothing(),
    S.sends(b", world"),
    R.hears_rest(),
    S.hears_rest(),
)


# What is refused.

RESERVED = {
    "index": "/",
    "noscript": "/noscript",
    "version": "/version",
    "help": "/help",
    "favicon": "/favicon.ico",
    "robots": "/robots.txt",
}
for name, path in RESERVED.items():
    scene(f"send_to_{name}", S.asks(put(path, HELLO)), S.hears_answer())
scene("post_to_version", S.asks(post("/version?n=2", HELLO)), S.hears_answer())
scene("send_to_reserved_with_bad_n", S.asks(put("/version?n=0", HELLO)), S.hears_answer())
scene(
    "reserved_with_a_slash_behind",
    S.asks(put("/version/", HELLO)),
    S.hears_lines(1),
    R.asks(get("/version/")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "reserved_percent_encoded",
    S.asks(put("/%76ersion", HELLO)),
    S.hears_lines(1),
    S.leaves(),
)
for method, send in (("put", put), ("post", post)):
    scene(
        f"content_range_{method}",
        S.asks(send(f"/content-range-{method}", HELLO, "Content-Range: bytes 2-13/100")),
        S.hears_answer(),
    )
scene(
    "content_range_whole", S.asks(put("/content-range-whole", HELLO, "Content-Range: bytes 0-11/12")), S.hears_answer()
)
scene(
    "content_range_get",
    S.asks(put("/range-get", HELLO)),
    R.asks(get("/range-get", "Range: bytes=2-3")),
    R.hears_answer(),
)
scene("service_worker", R.asks(get("/service-worker", "Service-Worker: script")), R.hears_answer())
scene(
    "service_worker_with_bad_n",
    R.asks(get("/service-worker-n?n=0", "Service-Worker: script")),
    R.hears_answer(),
)
scene(
    "service_worker_leaves_the_sender",
    S.asks(put("/service-worker-sent", HELLO)),
    S.hears_lines(1),
    R.asks(get("/service-worker-sent", "Service-Worker: script")),
    R.hears_answer(),
    S.hears_nothing(),
    R2.asks(get("/service-worker-sent", "Service-Worker: other")),
    R2.hears_answer(),
    S.hears_rest(),
)


# Methods.

scene("head", R.asks(request("HEAD", "/head")), R.hears_answer())
scene(
    "head_leaves_the_sender",
    S.asks(put("/head-sent", HELLO)),
    S.hears_lines(1),
    R.asks(request("HEAD", "/head-sent")),
    R.hears_answer(),
    S.hears_nothing(),
    S.leaves(),
)
for method in ("DELETE", "PATCH", "TRACE", "PROPFIND"):
    scene(f"method_{method.lower()}", R.asks(request(method, f"/method-{method.lower()}")), R.hears_answer())
scene("delete_index", R.asks(request("DELETE", "/")), R.hears_answer())
scene("patch_with_body", S.asks(put("/patch-body", HELLO).replace(b"PUT", b"PATCH", 1)), S.hears_answer())
PRIVATE = "Access-Control-Request-Private-Network: true"
scene("options", R.asks(request("OPTIONS", "/options")), R.hears_answer())
scene(
    "options_preflight",
    R.asks(request("OPTIONS", "/options", "Origin: https://a.test", "Access-Control-Request-Method: PUT")),
    R.hears_answer(),
)
scene("options_private_network", R.asks(request("OPTIONS", "/options", PRIVATE)), R.hears_answer())
scene(
    "options_private_network_false",
    R.asks(request("OPTIONS", "/options", PRIVATE.replace("true", "false"))),
    R.hears_answer(),
)
scene("options_index", R.asks(request("OPTIONS", "/")), R.hears_answer())
scene("options_star", R.asks(request("OPTIONS", "*")), R.hears_answer())


# Pages.

for name, path in RESERVED.items():
    page = name not in ("favicon", "robots")
    scene(f"page_{name}", R.asks(get(path)), R.hears_answer(), page=page)
    scene(f"page_{name}_head", R.asks(request("HEAD", path)), R.hears_answer(), page=page)
scene("page_noscript_file", R.asks(get("/noscript?path=mypath&mode=file")), R.hears_answer(), page=True)
scene("page_noscript_text", R.asks(get("/noscript?path=mypath&mode=text")), R.hears_answer(), page=True)
scene("page_noscript_odd_mode", R.asks(get("/noscript?path=%22%3E&mode=odd")), R.hears_answer(), page=True)
scene("page_version_with_query", R.asks(get("/version?n=0")), R.hears_answer(), page=True)
scene("page_version_service_worker", R.asks(get("/version", "Service-Worker: script")), R.hears_answer(), page=True)
scene("page_help_https", R.asks(get("/help", "X-Forwarded-Proto: https")), R.hears_answer(), page=True)


# Forms.

scene(
    "form_with_a_file",
    R.asks(get("/form")),
    S.asks(post("/form", part(HELLO, FILE, "Content-Type: text/plain; charset=x") + FORM_END, FORM)),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_sender_first",
    S.asks(post("/form-first", part(HELLO, FILE, "Content-Type: image/png") + FORM_END, FORM)),
    S.hears_lines(1),
    R.asks(get("/form-first")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "form_with_a_text_field",
    R.asks(get("/form-text")),
    S.asks(post("/form-text", part(HELLO, 'Content-Disposition: form-data; name="input_text"') + FORM_END, FORM)),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_with_html",
    R.asks(get("/form-html")),
    S.asks(post("/form-html", part(HELLO, FILE, "Content-Type: text/html; charset=utf-8") + FORM_END, FORM)),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_headers_of_the_request_do_not_count",
    R.asks(get("/form-headers")),
    S.asks(
        post(
            "/form-headers",
            part(HELLO, 'content-disposition:   form-data; name="input_data"', "X-Piping: part") + FORM_END,
            FORM,
            "Content-Disposition: attachment; filename=outer",
            "X-Piping: request",
        )
    ),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_with_an_empty_file",
    R.asks(get("/form-empty")),
    S.asks(post("/form-empty", part(b"", FILE) + FORM_END, FORM)),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_chunked",
    R.asks(get("/form-chunked")),
    S.asks(
        request("POST", "/form-chunked", FORM, CHUNKED),
        chunk(part(HELLO, FILE)[:-2]),
        chunk(b"\r\n" + FORM_END),
        LAST_CHUNK,
    ),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_two_receivers",
    R.asks(get("/form-n?n=2")),
    R2.asks(get("/form-n?n=2")),
    S.asks(post("/form-n?n=2", part(HELLO, FILE) + FORM_END, FORM)),
    R.hears_answer(),
    R2.hears_answer(),
    S.hears_answer(),
)
scene(
    "form_two_parts",
    R.asks(get("/form-parts")),
    S.asks(post("/form-parts", part(HELLO, FILE) + part(b"more", FILE) + FORM_END, FORM)),
    R.hears_head(),
    R.hears_bytes(12),
    R.hears_nothing(),
    R.leaves(),
    S.leaves(),
)
scene(
    "form_streams",
    R.asks(get("/form-streams")),
    S.asks(post("/form-streams", b"", FORM, length=len(part(HELLO, FILE) + FORM_END)), part(b"hello", FILE)[:-2]),
    R.hears_head(),
    R.hears_bytes(5),
    S.hears_lines(3),
    S.sends(b", world\r\n", FORM_END),
    R.hears_rest(),
    S.hears_rest(),
)


# Headers.

for name, type_ in {
    "plain": "text/plain",
    "plain_charset": "text/plain; charset=shift_jis",
    "html": "text/html",
    "html_charset": "text/html; charset=utf-8",
    "html_spaces": "text/html  ;charset=utf-8",
    "html_upper": "TEXT/HTML",
    "xhtml": "application/xhtml+xml",
    "strange": "nonsense",
    "empty": "",
}.items():
    scene(
        f"type_{name}",
        R.asks(get(f"/type-{name}")),
        S.asks(put(f"/type-{name}", HELLO, f"Content-Type: {type_}")),
        R.hears_answer(),
        S.hears_answer(),
    )
for name, disposition in {
    "attachment": 'attachment; filename="a b.txt"',
    "inline": "inline",
    "encoded": "attachment; filename*=UTF-8''%e3%81%82.txt",
    "path": 'attachment; filename="../../x"',
}.items():
    scene(
        f"disposition_{name}",
        S.asks(put(f"/disposition-{name}", HELLO, f"Content-Disposition: {disposition}")),
        R.asks(get(f"/disposition-{name}")),
        R.hears_answer(),
        S.hears_answer(),
    )
scene(
    "x_piping",
    S.asks(put("/x-piping", HELLO, "X-Piping: one; two=3")),
    R.asks(get("/x-piping")),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "x_piping_several",
    S.asks(put("/x-pipings", HELLO, "X-Piping: one", "x-piping: two, three", "X-PIPING: one")),
    R.asks(get("/x-pipings")),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "x_piping_two_receivers",
    S.asks(put("/x-piping-n?n=2", HELLO, "X-Piping: one")),
    R.asks(get("/x-piping-n?n=2")),
    R2.asks(get("/x-piping-n?n=2")),
    R.hears_answer(),
    R2.hears_answer(),
    S.hears_answer(),
)
scene(
    "headers_that_are_not_forwarded",
    S.asks(
        put(
            "/not-forwarded",
            HELLO,
            "Content-Encoding: gzip",
            "Content-Language: de",
            "ETag: x",
            "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
            "Cache-Control: public",
            "Set-Cookie: a=b",
            "X-Other: y",
        )
    ),
    R.asks(get("/not-forwarded", "Origin: https://a.test", "Accept: text/html", "User-Agent: Mozilla/5.0")),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "a_browser_gets_the_bytes",
    S.asks(put("/browser", b"<p>", "Content-Type: text/html")),
    R.asks(get("/browser", "Sec-Fetch-Mode: navigate", "Accept: text/html,*/*", "User-Agent: Mozilla/5.0")),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "expect_continue",
    R.asks(get("/expect")),
    S.asks(put("/expect", b"", "Expect: 100-continue", length=12)),
    S.hears_head(),
    S.hears_lines(3),
    S.sends(HELLO),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "expect_continue_refused",
    S.asks(put("/version", b"", "Expect: 100-continue", length=12)),
    S.hears_head(),
    S.hears_rest(),
)


# Bodies.

scene(
    "chunked",
    R.asks(get("/chunked")),
    S.asks(request("PUT", "/chunked", CHUNKED), chunk(b"hello"), chunk(b", world"), LAST_CHUNK),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "chunked_sender_first",
    S.asks(request("POST", "/chunked-first", CHUNKED), chunk(HELLO), LAST_CHUNK),
    S.hears_lines(1),
    R.asks(get("/chunked-first")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "chunked_with_extensions_and_trailers",
    R.asks(get("/trailers")),
    S.asks(request("PUT", "/trailers", CHUNKED, "Trailer: X-End"), b"5;a=b\r\nhello\r\n", b"0\r\nX-End: y\r\n\r\n"),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "empty_with_length",
    R.asks(get("/empty-length")),
    S.asks(put("/empty-length", b"")),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "empty_sender_first",
    S.asks(put("/empty-first", b"")),
    S.hears_lines(1),
    S.hears_nothing(),
    R.asks(get("/empty-first")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "empty_chunked",
    R.asks(get("/empty-chunked")),
    S.asks(request("PUT", "/empty-chunked", CHUNKED), LAST_CHUNK),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "empty_without_length",
    S.asks(request("POST", "/empty-none")),
    S.hears_lines(1),
    R.asks(get("/empty-none")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "large",
    S.asks(put("/large", bytes(range(256)) * 1024)),
    S.hears_lines(1),
    R.asks(get("/large")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "large_two_receivers",
    S.asks(put("/large-n?n=2", bytes(range(256)) * 1024)),
    S.hears_lines(1),
    R.asks(get("/large-n?n=2")),
    R2.asks(get("/large-n?n=2")),
    R.hears_answer(),
    R2.hears_answer(),
    S.hears_rest(),
)
scene(
    "byte_by_byte",
    S.asks(put("/bytes", b"", length=5)),
    S.hears_head(),
    S.hears_lines(1),
    S.hears_nothing(),
    R.asks(get("/bytes")),
    S.hears_lines(2),
    *(step for byte in b"abcd" for step in (S.sends(bytes([byte])), R.hears_bytes(1))),
    R.hears_nothing(),
    S.hears_nothing(),
    S.sends(b"e"),
    R.hears_rest(),
    S.hears_lines(2),
    S.hears_rest(),
)
scene(
    "byte_by_byte_chunked",
    R.asks(get("/bytes-chunked")),
    S.asks(request("POST", "/bytes-chunked", CHUNKED)),
    S.hears_head(),
    S.hears_lines(3),
    *(step for byte in b"abcd" for step in (S.sends(chunk(bytes([byte]))), R.hears_bytes(1))),
    R.hears_nothing(),
    S.hears_nothing(),
    S.sends(LAST_CHUNK),
    S.hears_lines(2),
    S.hears_rest(),
    R.hears_rest(),
)
scene(
    "byte_by_byte_two_receivers",
    R.asks(get("/bytes-n?n=2")),
    S.asks(put("/bytes-n?n=2", b"", length=3)),
    S.hears_head(),
    S.hears_lines(2),
    R2.asks(get("/bytes-n?n=2")),
    S.hears_lines(2),
    *(step for byte in b"abc" for step in (S.sends(bytes([byte])), R.hears_bytes(1), R2.hears_bytes(1))),
    R.hears_rest(),
    R2.hears_rest(),
    S.hears_rest(),
)


# HTTP/1.0.

scene(
    "old_sender",
    S.asks(put("/old-sender", HELLO, version="1.0")),
    S.hears_nothing(),
    R.asks(get("/old-sender")),
    R.hears_answer(),
    S.hears_answer(),
    S.hears_end(),
)
scene(
    "old_sender_behind_its_receiver",
    R.asks(get("/old-second")),
    S.asks(put("/old-second", HELLO, version="1.0")),
    R.hears_answer(),
    S.hears_answer(),
    S.hears_end(),
)
scene("old_sender_refused", S.asks(put("/version", HELLO, version="1.0")), S.hears_answer(), S.hears_end())
scene(
    "old_second_sender",
    S.asks(put("/old-another", HELLO)),
    S2.asks(put("/old-another", HELLO, version="1.0")),
    S2.hears_answer(),
    S2.hears_end(),
    S.leaves(),
)
scene(
    "old_receiver",
    R.asks(get("/old-receiver", version="1.0")),
    R.hears_nothing(),
    S.asks(put("/old-receiver", HELLO)),
    R.hears_answer(),
    R.hears_end(),
    S.hears_answer(),
)
scene(
    "old_receiver_of_chunks",
    R.asks(get("/old-chunks", version="1.0")),
    S.asks(request("PUT", "/old-chunks", CHUNKED), chunk(b"hello")),
    R.hears_bytes(5),
    S.sends(chunk(b", world"), LAST_CHUNK),
    R.hears_answer(),
    R.hears_end(),
    S.hears_answer(),
)
scene(
    "old_receiver_and_sender",
    S.asks(put("/old-both", HELLO, version="1.0")),
    R.asks(get("/old-both", version="1.0")),
    R.hears_answer(),
    S.hears_answer(),
    R.hears_end(),
    S.hears_end(),
)
scene("old_receiver_refused", R.asks(get("/old-refused?n=0", version="1.0")), R.hears_answer(), R.hears_end())
scene("old_page", R.asks(get("/version", version="1.0")), R.hears_answer(), page=True)
scene(
    "old_sender_whose_receiver_leaves",
    R.asks(get("/old-aborted")),
    S.asks(put("/old-aborted", b"hello", length=12, version="1.0")),
    R.hears_bytes(5),
    R.leaves(),
    S.hears_answer(),
    S.hears_end(),
)


# A second request on a connection.

scene(
    "keep_alive_sender",
    R.asks(get("/keep-sender")),
    S.asks(put("/keep-sender", HELLO)),
    S.hears_answer(),
    R.hears_answer(),
    S.asks(put("/keep-sender", b"again")),
    S.hears_lines(1),
    R2.asks(get("/keep-sender")),
    R2.hears_answer(),
    S.hears_rest(),
)
scene(
    "keep_alive_receiver",
    S.asks(put("/keep-receiver", HELLO)),
    R.asks(get("/keep-receiver")),
    R.hears_answer(),
    S.hears_answer(),
    R.asks(get("/keep-receiver")),
    R.hears_nothing(),
    S2.asks(put("/keep-receiver", b"again")),
    R.hears_answer(),
    S2.hears_answer(),
)
scene(
    "keep_alive_receiver_of_chunks",
    R.asks(get("/keep-chunks")),
    S.asks(request("PUT", "/keep-chunks", CHUNKED), chunk(HELLO), LAST_CHUNK),
    R.hears_answer(),
    S.hears_answer(),
    R.asks(get("/keep-chunks")),
    S.asks(request("PUT", "/keep-chunks", CHUNKED), chunk(b"again"), LAST_CHUNK),
    R.hears_answer(),
    S.hears_answer(),
)
scene(
    "keep_alive_roles_change",
    S.asks(put("/keep-roles", HELLO)),
    R.asks(get("/keep-roles")),
    R.hears_answer(),
    S.hears_answer(),
    S.asks(get("/keep-roles")),
    R.asks(put("/keep-roles", b"back")),
    S.hears_answer(),
    R.hears_answer(),
)
scene(
    "keep_alive_behind_a_refusal",
    R.asks(get("/keep-refused?n=0")),
    R.hears_answer(),
    R.asks(get("/version")),
    R.hears_answer(),
    page=True,
)
scene(
    "connection_close",
    S.asks(put("/close", HELLO, "Connection: close")),
    R.asks(get("/close", "Connection: close")),
    R.hears_answer(),
    S.hears_answer(),
    R.hears_end(),
    S.hears_end(),
)


# Somebody leaves in the middle.

for name, leaves in (("leaves", Who.leaves), ("resets", Who.resets)):
    scene(
        f"sender_{name}_in_the_middle",
        R.asks(get(f"/sender-{name}")),
        S.asks(put(f"/sender-{name}", b"hello", length=12)),
        R.hears_head(),
        R.hears_bytes(5),
        leaves(S),
        R.hears_end(),
        S2.asks(put(f"/sender-{name}", b"other")),
        S2.hears_lines(1),
        R2.asks(get(f"/sender-{name}")),
        R2.hears_answer(),
        S2.hears_rest(),
    )
    scene(
        f"sender_{name}_in_the_middle_of_chunks",
        R.asks(get(f"/sender-{name}-chunks")),
        S.asks(request("PUT", f"/sender-{name}-chunks", CHUNKED), chunk(b"hello")),
        R.hears_head(),
        R.hears_bytes(5),
        leaves(S),
        R.hears_end(),
    )
    scene(
        f"receiver_{name}_in_the_middle",
        R.asks(get(f"/receiver-{name}")),
        S.asks(put(f"/receiver-{name}", b"hello", length=12)),
        R.hears_bytes(5),
        leaves(R),
        S.hears_answer(),
        S.hears_end(),
        S2.asks(put(f"/receiver-{name}", b"other")),
        S2.hears_lines(1),
        R2.asks(get(f"/receiver-{name}")),
        R2.hears_answer(),
        S2.hears_rest(),
    )
    scene(
        f"receiver_{name}_in_the_middle_of_chunks",
        S.asks(request("POST", f"/receiver-{name}-chunks", CHUNKED), chunk(b"hello")),
        R.asks(get(f"/receiver-{name}-chunks")),
        R.hears_bytes(5),
        S.hears_lines(3),
        leaves(R),
        S.hears_lines(2),
        S.hears_end(),
    )
scene(
    "sender_leaves_before_a_byte",
    R.asks(get("/sender-no-byte")),
    S.asks(put("/sender-no-byte", b"", length=12)),
    S.hears_lines(3),
    S.leaves(),
    R.hears_end(),
)
scene(
    "sender_half_closes_in_the_middle",
    R.asks(get("/sender-half")),
    S.asks(put("/sender-half", b"hello", length=12)),
    R.hears_bytes(5),
    S.half_closes(),
    R.hears_end(),
    S.hears_end(),
)
scene(
    "sender_half_closes_waiting",
    S.asks(put("/sender-half-waits", HELLO)),
    S.hears_lines(1),
    S.half_closes(),
    S.hears_end(),
)
scene(
    "sender_spoils_a_chunk",
    R.asks(get("/spoiled")),
    S.asks(request("PUT", "/spoiled", CHUNKED), chunk(b"hello")),
    R.hears_bytes(5),
    S.hears_lines(3),
    S.sends(b"nonsense\r\n"),
    R.hears_end(),
    S.hears_end(),
)
scene(
    "sender_leaves_two_receivers",
    R.asks(get("/sender-two?n=2")),
    R2.asks(get("/sender-two?n=2")),
    S.asks(put("/sender-two?n=2", b"hello", length=12)),
    R.hears_bytes(5),
    R2.hears_bytes(5),
    S.leaves(),
    R.hears_end(),
    R2.hears_end(),
)
scene(
    "sender_leaves_an_old_receiver",
    R.asks(get("/sender-old", version="1.0")),
    S.asks(request("PUT", "/sender-old", CHUNKED), chunk(b"hello")),
    R.hears_bytes(5),
    S.leaves(),
    R.hears_end(),
)
scene(
    "form_sender_leaves",
    R.asks(get("/form-leaves")),
    S.asks(post("/form-leaves", b"", FORM, length=500), part(b"hello", FILE)[:-2]),
    R.hears_bytes(5),
    S.leaves(),
    R.hears_nothing(),
    R.leaves(),
)
scene(
    "one_of_two_receivers_leaves",
    R.asks(get("/one-of-two?n=2")),
    R2.asks(get("/one-of-two?n=2")),
    S.asks(put("/one-of-two?n=2", b"hello", length=12)),
    R.hears_bytes(5),
    R2.hears_bytes(5),
    S.hears_lines(3),
    R.leaves(),
    S.hears_lines(1),
    S.hears_nothing(),
    S.sends(b", world"),
    R2.hears_rest(),
    S.hears_lines(1),
    S.leaves(),
)
scene(
    "both_of_two_receivers_leave",
    R.asks(get("/both-of-two?n=2")),
    R2.asks(get("/both-of-two?n=2")),
    S.asks(put("/both-of-two?n=2", b"hello", length=12)),
    R.hears_bytes(5),
    R2.hears_bytes(5),
    S.hears_lines(3),
    R.leaves(),
    S.hears_lines(1),
    R2.resets(),
    S.hears_lines(2),
    S.hears_end(),
)
scene(
    "receiver_half_closes",
    R.asks(get("/receiver-half")),
    R.half_closes(),
    R.hears_end(),
    S.asks(put("/receiver-half", HELLO)),
    S.hears_lines(1),
    S.hears_nothing(),
    R2.asks(get("/receiver-half")),
    R2.hears_answer(),
    S.hears_rest(),
)


# Somebody leaves before it begins.

for name, leaves in (("leaves", Who.leaves), ("resets", Who.resets)):
    scene(
        f"sender_{name}_waiting",
        S.asks(put(f"/waiting-sender-{name}", HELLO)),
        S.hears_lines(1),
        leaves(S),
        R.asks(get(f"/waiting-sender-{name}")),
        R.hears_nothing(),
        S2.asks(post(f"/waiting-sender-{name}", b"other")),
        R.hears_answer(),
        S2.hears_answer(),
    )
    scene(
        f"receiver_{name}_waiting",
        R.asks(get(f"/waiting-receiver-{name}")),
        R.hears_nothing(),
        leaves(R),
        S.asks(put(f"/waiting-receiver-{name}", HELLO)),
        S.hears_head(),
        S.hears_lines(1),
        S.hears_nothing(),
        R2.asks(get(f"/waiting-receiver-{name}")),
        R2.hears_answer(),
        S.hears_rest(),
    )
scene(
    "sender_of_a_part_leaves_waiting",
    S.asks(put("/part-waiting", b"hello", length=12)),
    S.hears_lines(1),
    S.leaves(),
    S2.asks(put("/part-waiting?n=2", HELLO)),
    S2.hears_lines(1),
    S2.leaves(),
)
scene(
    "sender_leaves_a_waiting_receiver",
    R.asks(get("/leaves-waiting?n=2")),
    S.asks(put("/leaves-waiting?n=2", HELLO)),
    S.hears_lines(2),
    S.leaves(),
    R.hears_nothing(),
    S2.asks(put("/leaves-waiting?n=2", b"other")),
    S2.hears_lines(2),
    R2.asks(get("/leaves-waiting?n=2")),
    R.hears_answer(),
    R2.hears_answer(),
    S2.hears_rest(),
)
scene(
    "one_of_two_receivers_leaves_waiting",
    S.asks(put("/one-waiting?n=2", HELLO)),
    S.hears_lines(1),
    R.asks(get("/one-waiting?n=2")),
    S.hears_lines(1),
    R.leaves(),
    S.hears_nothing(),
    R2.asks(get("/one-waiting?n=2")),
    S.hears_lines(1),
    S.hears_nothing(),
    R3.asks(get("/one-waiting?n=2")),
    R2.hears_answer(),
    R3.hears_answer(),
    S.hears_rest(),
)
scene(
    "n_is_free_when_all_have_left",
    R.asks(get("/n-free?n=2")),
    R.leaves(),
    S.asks(put("/n-free?n=1", HELLO)),
    S.hears_lines(1),
    R2.asks(get("/n-free")),
    R2.hears_answer(),
    S.hears_rest(),
)


# Paths.

scene(
    "path_is_free_at_once",
    S.asks(put("/reuse", b"first")),
    R.asks(get("/reuse")),
    R.hears_answer(),
    S.hears_answer(),
    R2.asks(get("/reuse?n=2")),
    R3.asks(get("/reuse?n=2")),
    S2.asks(post("/reuse?n=2", b"second")),
    R2.hears_answer(),
    R3.hears_answer(),
    S2.hears_answer(),
)
scene(
    "queries_are_ignored",
    S.asks(put("/query?store=disk&x=%zz", HELLO)),
    S.hears_lines(1),
    R.asks(get("/query?download&wait=bad")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "query_is_not_in_the_texts",
    S.asks(put("/query-text?a=b", HELLO)),
    S2.asks(put("/query-text?", HELLO)),
    S2.hears_answer(),
    S.leaves(),
)
scene(
    "percent_encoded",
    S.asks(put("/%E3%81%82%20b", HELLO)),
    S.hears_lines(1),
    S2.asks(put("/%E3%81%82%20b", HELLO)),
    S2.hears_answer(),
    R.asks(get("/%E3%81%82%20b")),
    R.hears_answer(),
    S.hears_rest(),
)
scene(
    "percent_encoded_otherwise",
    S.asks(put("/percent-%61", HELLO)),
    S.hears_lines(1),
    R.asks(get("/percent-a")),
    R.hears_nothing(),
    S.hears_nothing(),
    S.leaves(),
    R.leaves(),
)
scene(
    "percent_that_is_no_escape",
    S.asks(put("/percent-%zz", HELLO)),
    S2.asks(put("/percent-%zz", HELLO)),
    S2.hears_answer(),
    S.leaves(),
)
for name, path in {
    "slash_twice_inside": "/slash//twice",
    "slash_behind": "/slash-behind/",
    "slashes_inside": "/slashes/a/b",
    "slash_twice_in_front": "//slash-front/a",
    "slash_twice_in_front_only": "//slash-front",
    "dots": "/dots/a/../b/./c",
    "dots_above": "/../dots-above",
    "quote": "/quote'\"<>",
    "absolute": "http://piping.test/absolute",
    "fragment": "/fragment#x",
}.items():
    scene(
        f"path_{name}",
        S.asks(put(path, HELLO)),
        S2.asks(put(path, HELLO)),
        S2.hears_answer(),
        R.asks(get(path)),
        R.hears_answer(),
        S.hears_answer(),
    )
scene(
    "path_slash_behind_is_another",
    S.asks(put("/slash-other", HELLO)),
    S.hears_lines(1),
    R.asks(get("/slash-other/")),
    R.hears_nothing(),
    S.hears_nothing(),
    S.leaves(),
    R.leaves(),
)
scene(
    "path_is_long",
    S.asks(put("/" + "long" * 200, HELLO)),
    R.asks(get("/" + "long" * 200)),
    R.hears_answer(),
    S.hears_answer(),
)
