"""Ids of objects in accounts that several projects share: each works only for the project it was issued to.

In an account of the operator, one project must not read what a provider keeps for another. So a request may
name an object there only if the gateway saw the provider issue its id to the same project. For any other id
the answer is 404, whether the object exists or not. Ids are stored before the answer that issues them ends,
in all accounts of the operator: a second project may get access to an account later.

If an id cannot be stored, the client gets the answer all the same, since it has been billed: a later
request that names the id gets 404. If an id cannot be looked up, the request gets 503. See
docs/account-ids.md.
"""

import asyncio
import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import structlog
from django.db import IntegrityError
from django.utils import timezone

from projects.db.executor import run_query, with_reconnect
from projects.db.health import database_health
from proxy import errors
from proxy.formats.account_ids import FILE, ISSUED_KINDS, IdReader, IssuedAccountId
from proxy.formats.codec import ClientRequest
from proxy.models import IssuedId
from proxy.pipeline.exchange import Exchange
from proxy.routing.accounts import Account
from proxy.routing.resolve import Target

STORE_TIMEOUT_S = 5
"""How long an answer waits for its ids to be stored. They may still be stored after that."""
MAX_WAITING = 10_000
"""Ids that wait to be stored while the database does not answer; ids beyond that are lost."""
LONGEST_KEPT = timedelta(days=366)
"""A provider that states an expiry beyond this is not believed."""
LOOKED_UP = (*ISSUED_KINDS, FILE)

log = structlog.get_logger()


async def check(exchange: Exchange, incoming: ClientRequest, target: Target) -> None:
    """Raise GatewayError if the request names an object that was not issued to its project.

    Raises BadRequest for fields that cannot be read, and DatabaseError while the database does not answer.
    """
    if not target.account.is_shared or not (references := incoming.references()):
        return
    assert exchange.principal is not None
    for reference in references:
        if reference.kind not in LOOKED_UP:
            raise errors.not_shared(reference)
    wanted = {digest(target.account, reference.kind, reference.id): reference for reference in references}
    known = await run_query(IssuedId.objects.known, exchange.principal.project_id, wanted)
    for key, reference in wanted.items():
        if key not in known:
            raise errors.not_shared(reference) if reference.kind == FILE else errors.not_issued(reference)


def digest(account: Account, kind: str, id: str) -> str:
    """Return what is stored of an id. Ids are long and random: nobody can guess one from its digest."""
    named = f"{account.identity}\0{kind}\0{id}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


class Recorder:
    """Stores the ids that one answer issues; `reader` is None where no id is of use later."""

    def __init__(self, exchange: Exchange, incoming: ClientRequest, target: Target) -> None:
        self.exchange, self.account = exchange, target.account
        self.reader: IdReader | None = incoming.id_reader() if target.account.is_shared else None
        self.stored: dict[tuple[str, str], IssuedAccountId] = {}

    async def read_answer(self, body: bytes) -> None:
        if self.reader is not None:
            self.reader.read_answer(body)
            await self.store()

    async def store(self) -> None:
        """Return when the ids are stored that the answer has issued so far. A failure is logged.

        Nobody waits while the database is known to be away: answers must not be late for what will fail.
        """
        if (storing := self.begin()) is None:
            return
        try:
            async with asyncio.timeout(0 if database_health.is_down else STORE_TIMEOUT_S):
                await asyncio.wrap_future(storing)
        except Exception as error:
            log.error(
                "issued_ids_not_stored",
                request_id=self.exchange.request_id,
                account=self.account.slug,
                reason=f"{type(error).__name__}: {error}",
            )

    def begin(self) -> "Future[None] | None":
        """Start to store what has not been stored, without waiting for it; None if there is nothing."""
        if self.reader is None or self.reader.issued == self.stored:
            return None
        assert self.exchange.principal is not None
        project_id = self.exchange.principal.project_id
        self.stored = dict(self.reader.issued)
        return writer.submit([row(project_id, self.account, issued) for issued in self.stored.values()])


def row(project_id: int, account: Account, issued: IssuedAccountId) -> IssuedId:
    key, until = digest(account, issued.kind, issued.id), expiry(issued)
    return IssuedId(
        project_id=project_id, account=account.slug, kind=issued.kind, digest=key, expires_at=until
    )


def expiry(issued: IssuedAccountId) -> datetime | None:
    now = timezone.now()
    if issued.until is not None and now.timestamp() < issued.until < (now + LONGEST_KEPT).timestamp():
        return datetime.fromtimestamp(issued.until, UTC)
    return None if issued.kept_s is None else now + timedelta(seconds=issued.kept_s)


class Writer:
    """Stores ids in a thread of its own, off the event loop: SQLite takes one writer at a time.

    While one transaction runs, ids of other answers gather for the next: many answers cost few transactions.
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="issued-ids")
        self.lock = threading.Lock()
        self.waiting: list[tuple[list[IssuedId], Future[None]]] = []

    def submit(self, rows: list[IssuedId]) -> "Future[None]":
        """Return a future that ends when the rows are stored, or with the database's error."""
        future: Future[None] = Future()
        with self.lock:
            if sum(len(waiting) for waiting, _ in self.waiting) + len(rows) > MAX_WAITING:
                future.set_exception(TooManyWaiting("too many ids wait to be stored"))
                return future
            self.waiting.append((rows, future))
        self.executor.submit(self.write)
        return future

    def write(self) -> None:
        with self.lock:
            batch, self.waiting = self.waiting, []
        if not batch:
            return
        try:
            keep(rows for rows, _ in batch)
        except IntegrityError:
            # A project was deleted meanwhile: its ids must not take those of others with them.
            for rows, future in batch:
                settle(future, write_alone(rows))
        except Exception as error:
            for _, future in batch:
                settle(future, error)
        else:
            for _, future in batch:
                settle(future, None)


class TooManyWaiting(Exception):
    """The database has not answered for so long that more ids would fill the memory."""


def keep(parts: Iterable[list[IssuedId]]) -> None:
    rows = [row for rows in parts for row in rows]
    with_reconnect(IssuedId.objects.keep, rows)


def write_alone(rows: list[IssuedId]) -> Exception | None:
    try:
        keep([rows])
    except Exception as error:
        return error
    return None


def settle(future: "Future[None]", error: Exception | None) -> None:
    """End a future, unless the request has stopped waiting and cancelled it."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


writer = Writer()
