"""One upload that is broken ten times while it is read; ``resume.ordeal`` does the same with any size."""

import pytest
from resume import ordeal


@pytest.mark.parametrize(
    ("store", "receivers", "leaves"), [("disk", 3, 2), ("memory", 3, 0), ("memory", 1, 2)], ids=lambda each: str(each)
)
def test_everybody_has_all_of_it(store: str, receivers: int, leaves: int) -> None:
    """On disk the server is killed as well; in memory a receiver may come back if it is the only one."""
    asked = ["--size", "40M", "--store", store, "--receivers", str(receivers), "--leaves", str(leaves)]
    assert ordeal.main(asked) == 0
