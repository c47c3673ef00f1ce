"""What is written beside a body that outlives the server, so that its transfer can go on: JSON, and back."""

from attrs import field, frozen
from cattrs.errors import BaseValidationError
from cattrs.preconf.json import make_converter

from beam.options import SendOptions
from beam.transfer import Offer, Transfer

CONVERTER = make_converter(detailed_validation=False)


@frozen
class Record:
    """As the fields of ``Transfer``.

    :param scope: the name of the broker that it belongs to.
    :param whole: whether the body is.
    """

    scope: str
    key: str
    etag: str
    created: float
    options: SendOptions
    offer: Offer
    length: int | None = None
    whole: bool = False
    upload: str = ""
    notes: dict[str, str] = field(factory=dict)
    digests: dict[str, bytes] = field(factory=dict)

    def encode(self) -> bytes:
        """As it is written."""
        return CONVERTER.dumps(self).encode()


def decode(data: bytes) -> Record:
    """What ``Record.encode`` has written.

    :raises ValueError: something else has.
    """
    try:
        return CONVERTER.loads(data, Record)
    except (BaseValidationError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no record: {error}") from None


def record_of(transfer: Transfer, scope: str) -> Record:
    """``transfer`` as it is now."""
    assert transfer.offer is not None, "a transfer is recorded when its sender has said what it sends"
    return Record(
        scope=scope,
        key=transfer.key,
        etag=transfer.etag,
        created=transfer.created,
        options=transfer.options,
        offer=transfer.offer,
        length=transfer.length if transfer.length is not None else transfer.offer.length,
        whole=transfer.is_whole,
        upload=transfer.upload,
        notes=transfer.notes,
        digests=transfer.digests,
    )
