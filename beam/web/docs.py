"""``/api/docs``: Swagger UI, which shows what ``/api/openapi.json`` describes and can try it.

Its files come from the package ``openapi-ui-bundles`` (Apache-2.0, as Swagger UI itself); no other host is asked.
"""

import secrets
from collections.abc import Callable

from openapi_ui_bundles import swagger_ui

from beam.web.answer import answer
from beam.web.request import StreamingRequest
from beam.web.scope import Scope

FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
A_DAY = "max-age=86400"
# What strangers send is of this origin too: a nonce lets in these files and nothing else that lies here.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>beam: its HTTP interface</title>
<link rel="stylesheet" href="docs/swagger-ui.css" nonce="{nonce}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js" nonce="{nonce}"></script>
<script nonce="{nonce}">
SwaggerUIBundle({{url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: "none"}});
</script>
</body>
</html>
"""


def show_docs(request: StreamingRequest, scope: Scope) -> None:
    """The page."""
    nonce = secrets.token_urlsafe(16)
    headers = {"content-security-policy": POLICY.format(nonce=nonce), "x-robots-tag": "none"}
    answer(request, 200, PAGE.format(nonce=nonce), headers, "text/html; charset=utf-8")


def show_file(name: str) -> Callable[[StreamingRequest, Scope], None]:
    """What answers with the file ``name`` of Swagger UI."""

    def show(request: StreamingRequest, scope: Scope) -> None:
        text = (swagger_ui.static_path / name).read_text("utf-8")
        answer(request, 200, text, {"cache-control": A_DAY}, FILES[name])

    return show
