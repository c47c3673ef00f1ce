"""The documents agree with the code, and what is installed is what the tree has."""

import runpy
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_state_diagram_is_drawn_from_the_table() -> None:
    """docs/architecture.md has the diagram of today's table; ``make docs`` draws it."""
    script = ROOT / "docs" / "draw_states.py"
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert runpy.run_path(str(script))["drawn"](page) == page


def test_every_module_is_on_the_map() -> None:
    """docs/architecture.md names every module of the floors; those in a folder of ``beam/web`` in that folder's row."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [row for row in page.splitlines() if row.startswith("|")]
    for path in [*(ROOT / "beam").glob("*.py"), *(ROOT / "beam" / "web").rglob("*.py")]:
        folder = path.relative_to(ROOT / "beam").parent
        name = f"`{folder / path.name}`" if str(folder) == "web" else f"`{path.stem}`"
        where = [row for row in rows if folder.parent.name != "web" or row.startswith(f"| `{folder}/`")]
        assert path.stem.startswith("__") or any(name in row for row in where), path


def test_the_installed_package_has_the_plug_in_and_the_types() -> None:
    """``pip install .`` brings what ``twist`` looks for, and the marker that mypy looks for."""
    installed = {str(path) for path in files("beam-relay") or ()}
    assert "twisted/plugins/beam_plugin.py" in installed
    assert "beam/py.typed" in installed
    assert not any(path in ("twisted/__init__.py", "twisted/plugins/__init__.py") for path in installed)
