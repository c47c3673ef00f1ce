"""The few texts that people read: the page at ``/``, the landing page of a link, ``/-/help``.

Plain HTML without scripts; every value is escaped.
"""

from html import escape
from urllib.parse import quote

from beam import __version__
from beam.broker import Broker
from beam.transfer import Transfer

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
{refresh}<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }}
pre {{ background: #f3f4f6; padding: .8rem 1rem; overflow-x: auto; border-radius: .4rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #d0d7de; }}
a.button {{ display: inline-block; padding: .5rem 1.2rem; border-radius: .4rem; background: #0b5cad; color: #fff;
  text-decoration: none; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e6e9ed; background: #14171a; }} pre {{ background: #22272e; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{content}
</body>
</html>
"""

HELP = """beam {version} carries a file from a sender to its receivers while it is still being sent.

Send a file (KEY is any name that you choose):
  curl --fail-with-body -T FILE {base}/KEY

Receive it, before or after the sender has started:
  curl -fo FILE {base}/KEY

Send what a program prints, and receive it in another:
  tar cz FOLDER | curl --fail-with-body -T - {base}/KEY
  curl -fs {base}/KEY | tar xz

Resume a download that broke off:
  curl -f -C - -o FILE {base}/KEY
"""
OF_A_SEND = {
    "readers": "readers=N        start when N receivers are there",
    "n": "n=N              start when N receivers are there, who say so too",
    "wait": "wait=SECONDS     for the first receiver",
    "name": "name=FILENAME    for the receivers",
    "digest": "digest=sha-256   computed on the way, and told to the sender",
    "store": "store=NAME       one of: {stores}",
    "ttl": "ttl=SECONDS      keep the file so long (a store that keeps)",
    "downloads": "downloads=N      free the key after N downloads (a store that keeps)",
    "resume": "resume=SECONDS   wait so long for the sender if its connection breaks; it goes on with Content-Range",
    "forward": "forward=spool    with the header X-Forward-Url: send the file on when it is stored",
}
OF_A_RECEIVE = {
    "wait": "wait=SECONDS     for the sender",
    "n": "n=N              the same as the sender's",
    "status": "status=true      what becomes of the file, as JSON",
    "stream": "stream=true      the same every half second, up to its end",
}


def page(title: str, content: str, refresh: int | None = None) -> str:
    """A whole HTML page; ``content`` is HTML, ``title`` is not."""
    meta = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return PAGE.format(title=escape(title), content=content, refresh=meta)


def help_text(base: str, broker: Broker) -> str:
    """How to use this server, as text.  ``base`` is its address as the client wrote it."""
    text = HELP.format(version=__version__, base=base)
    for title, lines in (
        (f"Options of a send, such as {base}/KEY?OPTION", OF_A_SEND),
        ("Options of a receive", OF_A_RECEIVE),
    ):
        known = [line for name, line in lines.items() if name in broker.policy.options]
        if known:
            text += "\n" + "\n  ".join([f"{title}:", *known]).format(stores=", ".join(broker.stores)) + "\n"
    return text


def bytes_text(n: int | None) -> str:
    """``n`` bytes for people."""
    if n is None:
        return "unknown"
    value, units = float(n), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def front_page(base: str, broker: Broker) -> str:
    """What runs, and how to use it."""
    rows = "".join(
        f"<tr><td>{escape(broker.policy.shown(transfer.key))}</td><td>{transfer.state}</td>"
        f"<td>{bytes_text(transfer.spool.head)} of {bytes_text(transfer.length)}</td><td>{transfer.receiving}</td></tr>"
        for transfer in list(broker.rendezvous.transfers.values())[:1000]
    )
    table = f"<table><tr><th>Key</th><th>State</th><th>Bytes</th><th>Receivers</th></tr>{rows}</table>"
    running = table if rows else "<p>Nothing runs now.</p>"
    waiting = broker.rendezvous.waiters
    return page(
        "beam",
        "<p>Carries a file from a sender to its receivers while it is still being sent.</p>"
        f"<h2>Running</h2>{running}<p>Receivers that wait: {waiting}</p>"
        f"<h2>Use</h2><pre>{escape(help_text(base, broker))}</pre>",
    )


def landing_page(base: str, prefix: str, key: str, transfer: Transfer | None, once: bool) -> str:
    """What a browser sees at a link; looking at it takes nothing.

    :param prefix: the path of ``base``.
    :param once: whether the file can be fetched only once.
    """
    path = quote("/" + key)
    if transfer is None or transfer.offer is None:
        return page(
            "Nothing is here yet",
            f"<p>No file is being sent as <b>{escape(key)}</b> now. This page looks again by itself.</p>"
            f"<p>To send one:</p><pre>curl --fail-with-body -T FILE {escape(base + path)}</pre>",
            refresh=5,
        )
    name = transfer.offer.filename or key
    kind = f", {transfer.offer.content_type}" if transfer.offer.content_type else ""
    warning = "<p>It can be fetched once: the download begins, and nobody else gets it.</p>" if once else ""
    return page(
        name,
        f'<meta property="og:title" content="{escape(name)}">'
        f"<p>{bytes_text(transfer.length)}{escape(kind)}</p>{warning}"
        f'<p><a class="button" rel="nofollow" href="{escape(prefix + path)}?download=true">Download</a></p>'
        f"<p>Or in a terminal:</p><pre>curl -{'L' if once else ''}fo FILE {escape(base + path)}</pre>",
    )


PIPING_HELP = """Piping Server, as beam {version} speaks it.

Send a file, and receive it; either may begin:
  curl -T FILE {base}/mypath
  curl {base}/mypath > FILE

Send what a program prints:
  echo hello | curl -T - {base}/mypath

Send to three receivers, who ask with the same n:
  curl -T FILE '{base}/mypath?n=3'
  curl '{base}/mypath?n=3' > FILE

End-to-end encryption:
  openssl aes-256-cbc -pbkdf2 < FILE | curl -T - {base}/mypath
  curl {base}/mypath | openssl aes-256-cbc -d -pbkdf2 > FILE
"""


def piping_help(base: str) -> str:
    """How to use a Piping Server, as text."""
    return PIPING_HELP.format(version=__version__, base=base)


def piping_page(base: str) -> str:
    """The page at the root of a Piping Server: where to go from there."""
    return page(
        "Piping Server",
        '<form method="get" action="noscript"><p><label>Path <input name="path" required></label>'
        '<p><label><input type="radio" name="mode" value="file" checked> a file</label>'
        '<label><input type="radio" name="mode" value="text"> a text</label>'
        "<p><button>Send</button></form>"
        "<p>Who has the path receives with a browser, or with curl.</p>"
        f"<pre>{escape(piping_help(base))}</pre>",
    )


def noscript_page(prefix: str, path: str, mode: str) -> str:
    """A form that sends to ``path``, a file or a text."""
    text = mode == "text"
    field = '<textarea name="input_text" rows="20"></textarea>' if text else '<input type="file" name="input_file">'
    return page(
        f"Send to {path or 'a path'}",
        f'<form method="post" action="{escape(prefix + "/" + quote(path))}" enctype="multipart/form-data">'
        f"<p>{field}<p><button>Send</button></form>"
        f'<form method="get" action="{escape(prefix)}/noscript"><p><label>Path <input name="path" required '
        f'value="{escape(path)}"></label><input type="hidden" name="mode" value="{"text" if text else "file"}">'
        "<button>Change</button></form>",
    )
