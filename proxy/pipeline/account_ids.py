"""Ids of objects in providers' accounts. Each id works only for the project that received it.

Several projects may use one account of the operator, so a project must not read what the provider stores for
another project. In such an account, a request may name an object only if the gateway saw the provider issue
the object's id to the same project. For any other id, the response is 404, whether the object exists or not.
The check applies while more than one project may use the operator's accounts. Ids are stored even while only
one project uses these accounts, because another project may get access later. They are stored before the
response that issues them ends.

Ids of responses are stored for all accounts, with the requested model of the response. A request that
retrieves, cancels or deletes a response names only its id, so the gateway finds the account by the id.

If an id cannot be stored, the client still gets the response, because the provider bills it. A later request
with the id gets a 404. If an id cannot be looked up, the request gets a 503. See docs/account-ids.md.
"""

import asyncio
import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import IntegrityError
from django.utils import timezone

from billing.ledger import UsageEntry
from billing.models import Outcome
from projects.db.executor import run_query, with_reconnect
from projects.db.health import database_health
from projects.redaction import redact
from proxy import errors
from proxy.errors import GatewayError
from proxy.formats.account_ids import FILE, ISSUED_KINDS, RESPONSE, IdReader, IssuedAccountId
from proxy.formats.codec import ClientRequest
from proxy.http.responses import Headers
from proxy.models import IssuedId
from proxy.pipeline.authenticate import Authenticated
from proxy.routing.accounts import (
    Account,
    has_other_operator_users_cache,
    operator_accounts_for,
    project_accounts_cache,
)
from proxy.routing.caller_accounts import accounts_with_key
from proxy.routing.targets import Target, UpstreamPlan

STORE_TIMEOUT_S = 5
"""Seconds that a response waits until its ids are stored.

After that, the response is sent, and the ids may still be stored.
"""
MAX_QUEUED_IDS = 10_000
"""Maximum number of ids that are queued while the database does not respond. Further ids are not stored."""
MAX_RETENTION = timedelta(days=366)
"""An expiry that a provider states is ignored if it is later than this period from now."""
TRACKED_KINDS = (*ISSUED_KINDS, FILE)
IssuedIds = dict[tuple[str, str], IssuedAccountId]

log = structlog.get_logger()


async def check(project_id: int, account: Account, plan: UpstreamPlan) -> None:
    """Raise GatewayError if a request names an object that was not issued to its project.

    Raises InvalidRequest for fields that cannot be read, and DatabaseError while the database does not
    respond.
    """
    if not account.can_be_shared or not (references := plan.references()):
        return
    if not await has_other_operator_users_cache.get(project_id):
        return
    for reference in references:
        if reference.kind not in TRACKED_KINDS:
            raise errors.not_shared(reference)
    requested = {digest(account, reference.kind, reference.id): reference for reference in references}
    known = await run_query(IssuedId.objects.known, project_id, requested)
    for key, reference in requested.items():
        if key not in known:
            raise errors.not_shared(reference) if reference.kind == FILE else errors.not_issued(reference)


async def keep_issuers(
    project_id: int, targets: tuple[Target, ...], client_request: ClientRequest
) -> tuple[Target, ...]:
    """Return the targets whose accounts issued an id that the request names; all if none is known.

    Other accounts do not have the object, even if they are used in turn. Raises InvalidRequest and
    DatabaseError.
    """
    if len(targets) < 2 or not (references := client_request.references()):
        return targets
    digests = [
        (target, digest(target.account, reference.kind, reference.id))
        for target in targets
        for reference in references
    ]
    issuers = await run_query(IssuedId.objects.issuers, project_id, {key for _, key in digests})
    issuing = {id(target) for target, key in digests if issuers.get(key) == target.account.slug}
    return tuple(target for target in targets if id(target) in issuing) or targets


def digest(account: Account, kind: str, id: str) -> str:
    """Return the digest under which an id is stored.

    Ids are long and random, so an id cannot be guessed from its digest.
    """
    name = f"{account.id_namespace}\0{kind}\0{id}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class LocatedResponse:
    """A request about a stored response, and the account in which the response is stored.

    `model` is the requested model of the response. It is empty for responses that earlier versions of the
    gateway stored.
    """

    caller: Authenticated
    account: Account
    id: str
    digest: str
    model: str

    def headers(self) -> Headers:
        """Return the caller's headers, and the headers that name the provider and model of the response."""
        served = {"x-gateway-provider": self.account.slug, "x-gateway-model": self.model}
        return {**self.caller.headers(), **{name: value for name, value in served.items() if value}}

    def usage_entry(self) -> UsageEntry:
        """Return the usage record. It has no requested model, because the request runs no model."""
        entry = self.caller.usage_entry()
        entry.provider, entry.provider_model = self.account.slug, redact(self.model)
        return entry


async def locate(caller: Authenticated, id: str) -> LocatedResponse:
    """Return the account of a response that was issued to the caller's project.

    Raises GatewayError if there is none, or if the key may not use the model of the response, and
    DatabaseError.
    """
    principal = caller.principal
    by_digest = accounts_by_digest(await accounts_of(caller), id)
    issued = await run_query(IssuedId.objects.find, principal.project_id, list(by_digest))
    if issued is None:
        raise response_not_found(id)
    if issued.model and not principal.allows_model(issued.model):
        raise errors.model_not_allowed(issued.model)
    account = best_match(by_digest[issued.digest], issued.account, issued.model)
    if account.secret is None:
        raise errors.credential_unreadable()
    return LocatedResponse(caller, account, id, issued.digest, issued.model)


async def accounts_of(caller: Authenticated) -> tuple[Account, ...]:
    """Return the accounts in which a caller may have stored responses."""
    principal = caller.principal
    if caller.provider_key:
        return await accounts_with_key(principal, caller.provider_key, is_anonymous=caller.is_anonymous)
    own = await project_accounts_cache.get(principal.project_id)
    return (*own, *operator_accounts_for(principal))


def accounts_by_digest(accounts: Iterable[Account], id: str) -> dict[str, list[Account]]:
    """Return the accounts by the digest that this response id has in each of them."""
    by_digest: defaultdict[str, list[Account]] = defaultdict(list)
    for account in accounts:
        by_digest[digest(account, RESPONSE, id)].append(account)
    return by_digest


def best_match(accounts: list[Account], slug: str, model: str) -> Account:
    """Return the best account: preferably one named `slug`, and among equals one that serves the model.

    Several routes of the operator to one URL are accounts with the same digest. They may differ in their
    keys.
    """
    return max(accounts, key=lambda account: (account.slug == slug, model in account.models))


def response_not_found(id: str) -> GatewayError:
    """Return the error for a response that is not found.

    It is the same for an id of another project and for an id that does not exist. It begins with the message
    that OpenAI sends for an unknown response.
    """
    text = (
        f"Response with id '{id[: errors.MAX_SHOWN_ID_LENGTH]}' not found. A project can use only responses "
        "that it created through the gateway, that are stored (store is not false), and whose model is "
        "served by the Responses API."
    )
    return errors.gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "response_not_found", text)


class Recorder:
    """Stores the ids that a response issues.

    `reader` is None if the response issues no ids that later requests may use. `model` is the requested model
    of the response.
    """

    def __init__(
        self, project_id: int, request_id: str, account: Account, reader: IdReader | None, model: str
    ) -> None:
        self.project_id, self.request_id, self.account, self.model = project_id, request_id, account, model
        can_be_used = reader is not None and (account.can_be_shared or reader.issues_responses)
        self.reader = reader if can_be_used else None
        self.stored: IssuedIds = {}

    @property
    def response_id(self) -> str:
        """Return the id of the response.

        The result is empty if the id is not known yet, or if later requests cannot name the response.
        """
        issued = self.reader.issued if self.reader is not None else {}
        return next((id for kind, id in issued if kind == RESPONSE), "")

    async def read_response(self, body: bytes) -> None:
        """Store the ids of a non-streaming response."""
        if self.reader is not None:
            self.reader.read_response(body)
            await self.store()

    async def store(self) -> None:
        """Store the ids that the response has issued so far, and wait until they are stored.

        A failure is logged.

        If the database is known to be down, this does not wait, so that a write that will fail delays no
        response.
        """
        if (storing := self.begin()) is None:
            return
        try:
            async with asyncio.timeout(0 if database_health.is_down else STORE_TIMEOUT_S):
                await asyncio.wrap_future(storing)
        except Exception as error:
            log.error(
                "issued_ids_not_stored",
                message="Ids that a provider issued could not be stored. Requests that name them get a 404.",
                request_id=self.request_id,
                account=self.account.slug,
                reason=f"{type(error).__name__}: {error}",
            )

    def begin(self) -> "Future[None] | None":
        """Start to store new ids, and return a future without waiting; None if there are no new ids."""
        if self.reader is None or (issued := self.usable(self.reader.issued)) == self.stored:
            return None
        self.stored = issued
        return writer.submit([self.row(each) for each in issued.values()])

    def usable(self, issued: IssuedIds) -> IssuedIds:
        """Return a copy of the issued ids without those that are never looked up.

        In a project's account, only ids of responses are looked up.
        """
        is_checked = self.account.can_be_shared
        return {key: each for key, each in issued.items() if is_checked or each.kind == RESPONSE}

    def row(self, issued: IssuedAccountId) -> IssuedId:
        return IssuedId(
            project_id=self.project_id,
            account=self.account.slug,
            kind=issued.kind,
            digest=digest(self.account, issued.kind, issued.id),
            model=self.model if issued.kind == RESPONSE else "",
            expires_at=expiry(issued),
        )


def expiry(issued: IssuedAccountId) -> datetime | None:
    now = timezone.now()
    if issued.until is not None and now.timestamp() < issued.until < (now + MAX_RETENTION).timestamp():
        return datetime.fromtimestamp(issued.until, UTC)
    return None if issued.kept_s is None else now + timedelta(seconds=issued.kept_s)


class Writer:
    """Stores ids in a separate thread, because SQLite allows one writer at a time.

    While one transaction runs, the ids of other responses are queued for the next transaction, so that many
    responses need few transactions.
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="issued-ids")
        self.lock = threading.Lock()
        self.queue: list[tuple[list[IssuedId], Future[None]]] = []

    def submit(self, rows: list[IssuedId]) -> "Future[None]":
        """Queue rows. Return a future that ends when they are stored, or with the database's error."""
        future: Future[None] = Future()
        with self.lock:
            if sum(len(queued) for queued, _ in self.queue) + len(rows) > MAX_QUEUED_IDS:
                future.set_exception(QueueFull("too many ids are queued"))
                return future
            self.queue.append((rows, future))
        self.executor.submit(self.write)
        return future

    def write(self) -> None:
        """Store all queued ids in one transaction."""
        with self.lock:
            batch, self.queue = self.queue, []
        if not batch:
            return
        try:
            save(rows for rows, _ in batch)
        except IntegrityError:
            # If a project was deleted in the meantime, its ids must not prevent the storage of other
            # projects' ids.
            for rows, future in batch:
                resolve_future(future, write_separately(rows))
        except Exception as error:
            for _, future in batch:
                resolve_future(future, error)
        else:
            for _, future in batch:
                resolve_future(future, None)


class QueueFull(Exception):
    """Too many ids are queued, because the database has not responded.

    More of them would exhaust the memory.
    """


def save(parts: Iterable[list[IssuedId]]) -> None:
    rows = [row for rows in parts for row in rows]
    with_reconnect(IssuedId.objects.store, rows)


def write_separately(rows: list[IssuedId]) -> Exception | None:
    try:
        save([rows])
    except Exception as error:
        return error
    return None


def resolve_future(future: "Future[None]", error: Exception | None) -> None:
    """Resolve a future, unless its request has stopped waiting and cancelled it."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


writer = Writer()
