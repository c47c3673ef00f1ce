"""Who may import whom: every module's imports are read, and an upward one fails.

The floors are those of ``docs/architecture.md``.  A module that is not in the table has to be put there.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parent.parent
BEAM = ROOT / "beam"

RULES = [
    "errors",
    "interfaces",
    "quota",
    "window",
    "intervals",
    "transfer",
    "peers",
    "rendezvous",
    "values",
    "policy",
    "profiles",
    "options",
    "patience",
    "deadlines",
    "body",
    "digests",
    "target",
    "flow",
    "listing",
    "pace",
]
REACTOR = [
    "producer",
    "pump",
    "excerpt",
    "broker",
    "delivery",
    "sending",
    "making",
    "alarm",
    "record",
    "throttle",
    "paced",
    "log",
]
ENTRY = ["flags", "tap", "testing"]
OTHERS = {  # what each floor may import that is neither beam's nor Python's, besides that of the floors below it
    0: {"attrs", "zope.interface"},
    1: {
        "cattrs",
        "twisted.internet",
        "twisted.application",
        "twisted.logger",
        "twisted.plugin",
        "twisted.python",
    },
    2: {
        "twisted.web",
        "twisted.protocols",
        "treq",
        "multipart",
        "prometheus_client",
        "OpenSSL",
        "openapi_ui_bundles",
        "limits",
        "puremagic",
    },
    3: {"twisted", "pytest", "pytest_twisted"},
}
PRIVATE_ALLOWED = {"beam.web.framing", "beam.web.request", "beam.web.transport", "beam.web.ways"}


@frozen
class Import:
    """One import of one module.

    :param names: what is taken from it, if ``from`` was used.
    :param late: whether it stands in a function.
    """

    module: str
    names: tuple[str, ...]
    line: int
    late: bool


@frozen
class Module:
    """One module of beam."""

    name: str
    tree: ast.Module

    @property
    def floor(self) -> int:
        """Where it lives.

        :raises KeyError: it is not in the table.
        """
        parts = self.name.split(".")[1:]
        if not parts or parts[0] in RULES:
            return 0
        if parts[0] == "store" or parts[0] in REACTOR:
            return 1
        if parts[0] == "web":
            return 2
        if parts[0] in ENTRY:
            return 3
        raise KeyError(f"{self.name} has no floor: put it into the table of docs/architecture.md and of this test")

    def imports(self) -> list[Import]:
        """All that happen when it runs; those for type checkers only are left out."""
        return list(imports_of(self.tree.body, False))

    def beam_imports(self, late: bool = True) -> Iterator[tuple[str, int]]:
        """The modules of beam that it imports, each with its line.

        :param late: whether those in functions count.
        """
        for each in self.imports():
            if each.module.split(".")[0] == "beam" and (late or not each.late):
                found = {f"{each.module}.{name}" for name in each.names} & MODULES.keys()
                if len(found) < len(each.names) or not each.names:
                    found.add(each.module)
                for name in found - {self.name}:
                    yield name, each.line


def imports_of(body: Sequence[ast.AST], late: bool) -> Iterator[Import]:
    """The imports in ``body`` and below."""
    for node in body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, (), node.lineno, late)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0 and module is not None, "imports are absolute here"
                yield Import(module, tuple(alias.name for alias in names), node.lineno, late)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                yield from imports_of(otherwise, late)
            case _:
                inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                for part in ("body", "handlers", "cases", "orelse", "finalbody"):
                    yield from imports_of(getattr(node, part, []), inside)


def load() -> dict[str, Module]:
    """Every module of beam, by name."""
    found = {}
    for path in sorted(BEAM.rglob("*.py")):
        name = ".".join(["beam", *path.relative_to(BEAM).with_suffix("").parts]).removesuffix(".__init__")
        found[name] = Module(name, ast.parse(path.read_text(), str(path)))
    return found


MODULES = load()
each_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())


def test_the_reader_of_imports_sees_them_all() -> None:
    """Wherever they stand; those for type checkers are none."""
    source = """
import a
from b import c, d
if TYPE_CHECKING:
    import no
else:
    import e
try:
    import f
except ImportError:
    import g
finally:
    import h
class X:
    import i
    def y(self):
        with z:
            import j
        match k:
            case 1:
                import l
"""
    found = list(imports_of(ast.parse(source).body, False))
    assert [each.module for each in found] == ["a", "b", "e", "f", "g", "h", "i", "j", "l"]
    assert [each.module for each in found if each.late] == ["j", "l"]
    assert found[1].names == ("c", "d")


def test_every_module_has_a_floor() -> None:
    """And the table names no module that is not there."""
    assert len(MODULES) > 20
    for module in MODULES.values():
        assert module.floor in OTHERS
    for name in (*RULES, *REACTOR, *ENTRY):
        assert f"beam.{name}" in MODULES, name


@each_module
def test_no_import_goes_up(module: Module) -> None:
    """A module imports from its own floor or a lower one."""
    for name, line in module.beam_imports():
        assert MODULES[name].floor <= module.floor, f"{module.name}:{line} imports {name}"


@each_module
def test_other_packages_belong_to_their_floor(module: Module) -> None:
    """The rules know no reactor, the reactor floor no web; treq is for the web floor."""
    allowed = set().union(*(OTHERS[floor] for floor in range(module.floor + 1)))
    for each in module.imports():
        top = each.module.split(".")[0]
        if top == "beam" or top in sys.stdlib_module_names:
            continue
        # "from twisted.internet import tcp" and "from zope import interface" name modules too.
        names = {each.module, *(f"{each.module}.{name}" for name in each.names)}
        assert any(name == package or name.startswith(f"{package}.") for name in names for package in allowed), (
            f"{module.name}:{each.line} imports {each.module}"
        )


@each_module
def test_the_web_knows_no_store_and_a_store_no_web(module: Module) -> None:
    """Each can be replaced without the other."""
    area = module.name.split(".")[1] if "." in module.name else ""
    for name, line in module.beam_imports():
        where = f"{module.name}:{line} imports {name}"
        if area == "web":
            assert not name.startswith("beam.store."), where
        if area == "store":
            assert not name.startswith(("beam.web", "beam.broker")), where


def test_no_circles() -> None:
    """No module needs itself, over however many others."""
    needs = {name: sorted({found for found, _ in module.beam_imports()}) for name, module in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for each in needs[name]:
                visit(each, (*path, name))
            done.add(name)

    for name in needs:
        visit(name, ())
    assert done == MODULES.keys()


@each_module
def test_the_reactor_is_imported_where_it_is_started_only(module: Module) -> None:
    """Elsewhere it comes in as an argument; and nowhere does an import install it."""
    for each in module.imports():
        if each.module == "twisted.internet.reactor" or (each.module == "twisted.internet" and "reactor" in each.names):
            assert module.floor == 3 and each.late, f"{module.name}:{each.line}"


def defined(module: Module) -> set[str]:
    """The private names that a module makes: functions, classes, variables, fields and attributes of ``self``."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self")):
                found.add(name)
    return found


def is_private(name: str) -> bool:
    """Whether ``name`` begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def foreign_private_names(module: Module) -> set[str]:
    """The private names that it uses and that neither it nor what it imports from beam makes."""
    own, seen, new = defined(module), {module.name}, [module.name]
    while new:
        for name, _ in MODULES[new.pop()].beam_imports():
            if name not in seen:
                seen.add(name)
                new.append(name)
                own |= defined(MODULES[name]) if name not in PRIVATE_ALLOWED else set()
    found: set[str] = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    for each in module.imports():
        if each.module.split(".")[0] != "beam":
            found |= {*each.module.split("."), *each.names}
    return {name for name in found - own if is_private(name)}


@each_module
def test_private_names_of_others_are_used_in_two_files_only(module: Module) -> None:
    """``web/request.py`` and ``web/transport.py`` reach into Twisted; ``test_twisted_contract`` pins what they take."""
    if module.name not in PRIVATE_ALLOWED:
        assert foreign_private_names(module) == set()


def test_the_finder_of_private_names_finds_some() -> None:
    """In the files that have them, and in whatever way they are reached."""
    assert set().union(*(foreign_private_names(MODULES[name]) for name in PRIVATE_ALLOWED)) >= {
        "_transferDecoder",
        "_tempDataBuffer",
    }
    source = "from twisted.web._http2 import H2\nfrom twisted.web.http import _x\ngetattr(a, '_y')\nb._z\nself._own = 1"
    module = Module("beam.web.other", ast.parse(source))
    MODULES[module.name] = module
    try:
        assert foreign_private_names(module) == {"_http2", "_x", "_y", "_z"}
    finally:
        del MODULES[module.name]


TESTING = {"beam.testing", "beam.testing.contract", "beam.testing.rehearsal"}


@pytest.mark.parametrize(
    ("without", "unwanted"),
    [
        (TESTING, {"pytest", "pytest_twisted", "hypothesis"}),
        # prometheus_client.twisted imports the reactor
        ({*TESTING, "beam.web.metrics", "beam.tap"}, {"twisted.internet.reactor"}),
    ],
    ids=["tests", "reactor"],
)
def test_an_import_brings_neither_tests_nor_a_reactor(without: set[str], unwanted: set[str]) -> None:
    """Everything but ``beam.testing`` can be imported without pytest, and no library decides on the reactor."""
    names = sorted(MODULES.keys() - without)
    source = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({unwanted!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
