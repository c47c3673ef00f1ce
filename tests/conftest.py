"""What holds for every test, and what many of them need.

Examples may take as long as a busy machine takes, and are the same in every run; ``pytest
--hypothesis-profile=search`` looks where nobody has looked yet.
"""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("contract", "files", "forward", "resume")
pytest_plugins = ("contract.fixtures",)

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("beam", settings.get_profile("search"), derandomize=True)
settings.load_profile("beam")

_numbers = itertools.count(1)


@pytest.fixture
def key() -> str:
    """A path that no other test uses."""
    return f"/file-{next(_numbers)}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "beam-test", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
