"""What Twisted finds of beam: the ``twist beam`` command and the stores."""

from twisted.application.service import ServiceMaker

from beam.store.disk import DiskStoreMaker
from beam.store.forward import ForwardStoreMaker
from beam.store.memory import MemoryStoreMaker

beam = ServiceMaker(
    "beam", "beam.tap", "A server that carries a file from a sender to its receivers while it is being sent.", "beam"
)
memory = MemoryStoreMaker()
disk = DiskStoreMaker()
forward = ForwardStoreMaker()
