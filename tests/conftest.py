"""What holds for every test, and what many of them need.

Examples may take as long as a busy machine takes, and are the same in every run; ``pytest
--hypothesis-profile=search`` looks where nobody has looked yet.
"""

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BOUND
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("contract", "files", "forward", "resume")
pytest_plugins = ("contract.fixtures",)

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("beam", settings.get_profile("search"), derandomize=True)
settings.load_profile("beam")

UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
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


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the clients for JavaScript, of the versions that ``package-lock.json`` names."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).with_name(name), folder)
    quick = ("--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=30000")
    done = subprocess.run(["npm", "ci", *quick], cwd=folder, capture_output=True, text=True, timeout=4 * BOUND)
    if done.returncode:
        if any(word in done.stderr for word in UNREACHABLE):
            pytest.skip("the registry of npm cannot be reached")
        raise AssertionError(done.stderr)
    return folder / "node_modules"
