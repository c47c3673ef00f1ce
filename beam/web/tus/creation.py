"""New uploads of tus 1.0.0: empty ones, ones that begin with their first part, and ones that are joined from others."""

import secrets
from urllib.parse import quote

from attrs import evolve
from zope.interface import implementer

from beam.body import Body
from beam.broker import Broker
from beam.errors import BadRequest, BeamError, Removed, Reserved, TooLarge
from beam.options import send_options
from beam.peers import ISender, News
from beam.pump import Pump
from beam.transfer import State, Transfer
from beam.web.fields import GOOD_KEY, checked_key
from beam.web.offer import offer_of
from beam.web.own import OWN
from beam.web.part import CheckedPart, PartUpload
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.tus.fields import FOLDER, announced_length, check_type, checksum_of, metadata_of
from beam.web.tus.reply import TusReply
from beam.web.upload import body_of

METADATA, CONCAT = "metadata", "concat"  # notes of a transfer: the fields as they were sent


def create(request: StreamingRequest, scope: Scope, query: dict[str, list[str]]) -> None:
    """Answer POST.

    :raises BeamError: the refusal.
    """
    policy, broker = scope.policy, scope.broker
    concat = request.field("upload-concat") or ""
    sources = sources_of(broker, concat)
    if sources and (request.field("upload-length") or request.field("upload-defer-length")):
        raise BadRequest("An upload that is joined from others has their length; leave out Upload-Length.")
    length = sum(each.spool.head for each in sources) if sources else announced_length(request)
    if request.length != 0:
        check_type(request)
    if length is not None and (request.length or 0) > length:
        raise TooLarge(f"The part ends behind the {length} bytes of the file; send what it has.")
    metadata = request.field("upload-metadata") or ""
    said = metadata_of(metadata)
    options = send_options({"resume": [""], **query}, policy, scope.stores)
    name = secrets.token_hex(16)
    if concat != "partial":
        key = checked_key(said.get("key") or secrets.token_hex(8), policy.keys)
        if OWN[policy.pages].has(key):
            raise Reserved(f"This key is reserved; choose another: {GOOD_KEY}.")
    elif scope.stores[options.store]:
        key = f"{FOLDER}/{name}"  # nobody can ask for it
        options = evolve(options, ttl=policy.upload_ttl)  # the others may take as long
    else:
        raise BadRequest("Uploads are joined where files are kept; name a disk store with ?store=.")
    checksum = checksum_of(request)
    headers = {"location": f"{scope.prefix}/{FOLDER}/{name}"}
    if concat != "partial":
        headers["content-location"] = f"{scope.prefix}/{quote(key)}"
    creation = Creation(request, broker, headers)
    notes = {METADATA: metadata, CONCAT: concat}
    transfer = broker.send(key, options, length, creation, upload=name, notes=notes)
    kind = said.get("filetype") or said.get("type")
    broker.offer(transfer, offer_of(request, policy, transfer, length, said.get("filename"), kind, ""))
    if transfer.outcome is not None:
        return
    if sources:
        creation.join(transfer, sources)
    elif request.length == 0 or length == 0:
        creation.save(transfer)
    else:
        reply = TusReply(request, 201, headers, broker.save(transfer))
        checked = CheckedPart(request, scope, transfer, reply, checksum) if checksum else None
        part = checked or PartUpload(request, scope, transfer, reply)
        part.is_first = True
        try:
            part.go_on(0, length)
        except BeamError as error:  # the sender does not hear the name, and cannot go on
            creation.cut(error)
            broker.fail(transfer, error)
            raise


def sources_of(broker: Broker, concat: str) -> list[Transfer]:
    """The uploads that are to be joined to one, if that is what ``Upload-Concat`` says.

    :raises BadRequest: it is malformed, or names one that is not there, or not whole.
    """
    if concat in ("", "partial"):
        return []
    kind, _, urls = concat.partition(";")
    sources = []
    for url in urls.split():
        source = broker.rendezvous.upload(url.rpartition("/")[2])
        if source is None or source.notes.get(CONCAT) != "partial" or source.state is not State.KEPT or source.outcome:
            raise BadRequest("Upload-Concat names what is no partial upload, or not whole; finish it first.")
        sources.append(source)
    if kind != "final" or not sources:
        raise BadRequest("Upload-Concat is partial, or final; and the uploads to join, with spaces between.")
    return sources


@implementer(ISender)
class Creation:
    """Stands for the sender of a new upload until that has an answer.

    :param headers: of the answer.
    """

    def __init__(self, request: StreamingRequest, broker: Broker, headers: dict[str, str]) -> None:
        self._request = request
        self._broker = broker
        self._reply = TusReply(request, 201, headers)
        self._answered = False
        self._sources: list[Transfer] = []
        self._body: Body | None = None
        self._pump: Pump | None = None  # from the source that is being read

    def save(self, transfer: Transfer) -> None:
        """Answer when the upload is written down."""

        def saved(_: None) -> None:
            if transfer.outcome is None and not self._answered:
                self._answered = True
                if transfer.length != 0:
                    self._broker.lost(transfer, self)
                self._reply.parted(transfer)

        saving = self._broker.save(transfer)
        if transfer.length == 0:
            self._broker.whole(transfer, {})  # at once: a receiver of nothing has it all as soon as its head comes
        saving.addCallback(saved)

    def join(self, transfer: Transfer, sources: list[Transfer]) -> None:
        """Fill the upload from ``sources``, and answer when it is whole."""
        self._sources = sources
        self._body = transfer.body = body_of(transfer, self._broker.policy, {})
        remaining = iter(sources)

        def next_one(error: BeamError | None) -> None:
            if transfer.outcome is not None:
                return
            source = next(remaining, None)
            if error is not None:
                self._broker.fail(transfer, error)
            elif source is not None:
                self._pump = Pump(source.spool.open(0, True), body, next_one)
                self._pump.start()
            else:
                self._broker.whole(transfer, body.end())

        body = self._body
        next_one(None)

    def heard(self, news: News) -> None:
        """Nothing is said before the end."""

    def transfer_ended(self, transfer: Transfer) -> None:
        if self._pump is not None:
            self._pump.stop()
        if not self._answered:
            self._answered = True
            self._reply.end(transfer)
        if transfer.error is None:
            for source in self._sources:
                self._broker.fail(source, Removed("This upload was joined to another."))

    def was_held(self) -> bool:
        return False

    def moved(self) -> int:
        return 0 if self._body is None else self._body.received

    def peer_gone(self) -> bool:
        return False

    def cut(self, error: BeamError) -> None:
        """A part comes: its reply is the answer, unless others were joined here."""
        self._answered = True
        if self._pump is not None:
            self._pump.stop()
            self._reply.dismiss(error)
