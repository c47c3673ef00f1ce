"""``/api/openapi.json`` is a valid OpenAPI 3.1 document, and knows what the code knows."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from unit.actors import Stage

from beam import errors
from beam.broker import Broker
from beam.errors import BeamError
from beam.policy import OPTIONS, Policy
from beam.profiles import PROFILES, files_policy
from beam.target import parse_pattern
from beam.web.files.api import ROUTES
from beam.web.files.file import PREFIX
from beam.web.openapi import document
from beam.web.openapi.pieces import meaning
from beam.web.own import OWN
from beam.web.resource import READ_ONLY, SERVICES
from beam.web.scope import Scope
from beam.web.tus import requests as tus
from beam.web.tus.fields import FOLDER

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def document_of(policy: Policy | None = None, prefix: str = "", files: bool = False) -> dict[str, Any]:
    """That of a server with ``policy``.

    :param files: whether it has the files API.
    """
    stage = Stage(policy=policy) if policy is not None else Stage()
    beside = Scope(PREFIX, Stage(policy=files_policy(stage.policy, None)).broker) if files else None
    return document(Scope(prefix, stage.broker, beside))


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each with its method and path."""
    for path, item in described["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


@pytest.mark.parametrize("name", [name for name, each in PROFILES.items() if each.policy.pages == "beam"])
def test_it_is_valid(name: str) -> None:
    """By the specification's own schema; in every profile that serves it."""
    OpenAPIV31SpecValidator(document_of(PROFILES[name].policy)).validate()
    OpenAPIV31SpecValidator(document_of(PROFILES[name].policy, files=True)).validate()


def paths(described: dict[str, Any]) -> dict[str, set[str]]:
    """The methods of each path; of one with names in it, of each path that these make."""
    found = {}
    for path, item in described["paths"].items():
        names = {
            each["name"]: each["schema"].get("enum", []) for each in item.get("parameters", []) if each["in"] == "path"
        }
        methods = {method.upper() for method in METHODS if method in item}
        (values,) = names.values() or ([],)
        for each in [path.replace(f"{{{name}}}", value) for name in names for value in values] or [path]:
            found[each] = methods
    return found


def test_every_route_is_in_it_and_no_other() -> None:
    """The tables of the server are compared with it."""
    pages = {f"/{path}": set(READ_ONLY) for path in OWN["beam"].pages}
    uploads = {f"/{FOLDER}": {"POST", "OPTIONS"}, f"/{FOLDER}/{{id}}": {*tus.METHODS, "OPTIONS"}}
    keys = {"/{key}": set(Policy().methods)}
    assert set(SERVICES) == {FOLDER}
    assert paths(document_of()) == {**pages, **uploads, **keys}
    files = {route.path: {"OPTIONS"} for route in ROUTES}
    for route in ROUTES:
        files[route.path].add(route.method)
    assert paths(document_of(files=True)) == {**pages, **uploads, **keys, **files}


def test_names_are_told_apart_and_links_lead_somewhere() -> None:
    """No two operations have one name; each has a tag that is described."""
    described = document_of(files=True)
    tags = {each["name"] for each in described["tags"]}
    names = [each["operationId"] for _, _, each in operations(described)]
    assert len(set(names)) == len(names)
    for _, _, each in operations(described):
        assert set(each["tags"]) <= tags
        for answer in each["responses"].values():
            for link in answer.get("links", {}).values():
                assert link["operationId"] in names


def asked(described: dict[str, Any], method: str) -> set[str]:
    """The options of the query that a key takes with ``method``."""
    return {each["name"] for each in described["paths"]["/{key}"][method]["parameters"] if each["in"] == "query"}


def test_every_option_is_in_it() -> None:
    """Where it can be used: some need a store that keeps, one that holds, or leave to forward."""
    forwarding = document_of(Policy(allow_forward=(parse_pattern("any"),)))
    assert asked(forwarding, "put") == asked(forwarding, "post") == set(OPTIONS) - {"download"}
    assert asked(forwarding, "get") == {"wait", "download"}
    assert asked(document_of(), "put") == set(OPTIONS) - {"download", "forward"}
    assert asked(document_of(PROFILES["claim"].policy), "get") == {"status", "stream", "download"}


def test_options_of_stores_that_are_not_there_are_not_in_it() -> None:
    """Of one kind of store only."""
    stage = Stage()
    for name, wanted in ("memory", {"readers", "wait"}), ("disk", {"ttl", "downloads"}):
        broker = Broker(stage.clock, stage.policy, {name: stage.broker.stores[name]})
        found = asked(document(Scope("", broker)), "put")
        assert found & {"readers", "wait", "ttl", "downloads"} == wanted


def every(error: type[BeamError]) -> Iterator[type[BeamError]]:
    """``error`` and all that are one, of those that become answers."""
    yield error
    for each in error.__subclasses__():
        if each.__module__.startswith("beam."):
            yield from every(each)


UNSAID = {  # where nobody reads an answer, the words of another error are used, or a profile has no description
    *(errors.Removed, errors.Replaced, errors.Claimed, errors.Underway, errors.Draining),
    *(errors.Suspended, errors.TooManyReceivers, errors.ReceiversDiffer, errors.UnknownMethod),
    errors.MethodNotAllowed,  # by methods that are not in it
}


def test_every_error_is_in_it() -> None:
    """Of a server that forwards, asks senders for a secret, and has as many receivers as it is told."""
    described = document_of(Policy(allow_forward=(parse_pattern("any"),), auth="secret", exact=True))
    said, documented = set(), set()
    for _, _, each in operations(described):
        for status, found in each["responses"].items():
            documented.add(int(status))
            name = found.get("$ref", "").rpartition("/")[2]
            answer = described["components"]["responses"][name] if name else found
            said |= {error for error in every(BeamError) if meaning(error) in answer["description"]}
    assert set(every(BeamError)) - said == UNSAID
    assert documented <= {each.status for each in every(BeamError)} | {200, 201, 202, 204, 206, 304}


def test_a_secret_is_asked_where_there_is_one() -> None:
    """And where there is none, nothing is said of it."""
    with_one, without = document_of(Policy(auth="secret"), files=True), document_of(files=True)
    found = {each["operationId"] for _, _, each in operations(with_one) if "security" in each}
    files = {"uploadFile", "uploadChunk", "renameFile", "deleteFile"}
    assert found == {"send", "sendByPost", "beginUpload", "continueUpload", "endUpload"} | files
    assert "secret" not in str(without)


def test_it_leads_to_the_scope_that_it_describes() -> None:
    """Which may lie below a prefix; no host is named."""
    assert document_of()["servers"] == [{"url": "/"}]
    assert document_of(prefix="/team")["servers"] == [{"url": "/team"}]
