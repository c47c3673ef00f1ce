"""The contract of a store, as tests that anybody's store can run.

Subclass ``StoreContract`` in a file that pytest collects, say in ``make_store`` how your store is made, and run pytest
with pytest-twisted installed; ``docs/stores.md`` shows it.

What does not belong here: tests of what one store alone does, and anything that the server needs to run.
"""

from beam.testing.contract import StoreContract, in_reactor
from beam.testing.rehearsal import MEMORY, Bench, Drain, Rehearsal, some_bytes, until

__all__ = ["MEMORY", "Bench", "Drain", "Rehearsal", "StoreContract", "in_reactor", "some_bytes", "until"]
