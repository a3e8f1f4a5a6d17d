"""The stage `authenticate`: identify the caller, before any of the request body is read."""

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from uuid import UUID
from weakref import WeakSet

from django.conf import settings

from billing import ledger
from billing.budgets.windows import local_day
from billing.ledger import UsageEntry
from keys import authentication, tokens
from keys.auth_throttle import client_network
from keys.authentication import AuthenticationFailed, Principal
from projects.ids import uuid7
from proxy import errors, telemetry
from proxy.http.client_ip import client_ip
from proxy.http.load_shedder import load_shedder
from proxy.http.request import GatewayRequest, extract_api_key
from proxy.http.request_id import REQUEST_ID_HEADER, choose_request_id
from proxy.http.responses import Headers
from proxy.http.web_origin import may_be_rebound, may_come_from_foreign_site
from proxy.operations import Operation

PROVIDER_KEY_HEADER = b"x-gateway-provider-key"
"""Header with the caller's own key for the provider of the model."""
PROVIDER_KEY = re.compile(r"[\x21-\x7e]{1,2000}")
UNKNOWN_NETWORK = "unknown"
"""Client network of all callers whose address the server does not know."""


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A request that is not authenticated yet. `started_at` is a value of `time.perf_counter`."""

    request: GatewayRequest
    operation: Operation
    id: UUID
    request_id: str
    started_at: float

    def headers(self) -> Headers:
        """Return the headers of every response of the gateway."""
        return {REQUEST_ID_HEADER: self.request_id, "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Authenticated:
    """A request with a valid key. From this stage on, the gateway writes a usage record for it.

    `provider_key` is the caller's own key for the provider, or empty. `client_network` is set only for
    callers without a key, who all have the principal of the anonymous project.
    """

    received: Received
    principal: Principal
    created_at: datetime
    day: date
    provider_key: str = field(default="", repr=False)
    client_network: str = ""

    @property
    def is_anonymous(self) -> bool:
        return bool(self.client_network)

    def headers(self) -> Headers:
        """Return the headers of every response to an authenticated caller."""
        return {**self.received.headers(), "cache-control": "private, no-store"}

    def usage_entry(self) -> UsageEntry:
        """Return the usage record with the fields that are known at this stage."""
        return UsageEntry(
            id=self.received.id,
            project_id=self.principal.project_id,
            key_id=self.principal.key_id,
            day=self.day,
            created_at=self.created_at,
            request_id=self.received.request_id,
            operation=self.received.operation.name,
            format=self.received.operation.format,
        )


in_flight: WeakSet[Authenticated] = WeakSet()
"""Requests with a valid key that have not been settled. They are aborted if the key is revoked."""


def receive(request: GatewayRequest, operation: Operation) -> Received:
    """Record the time at which a request arrived, and choose its id."""
    telemetry.request_started(operation.api_family)
    id = uuid7()
    return Received(request, operation, id, choose_request_id(request, id), time.perf_counter())


async def authenticate(received: Received) -> Authenticated:
    """Identify the key, or the anonymous project if the operator allows callers without a key.

    Raises GatewayError if the key is missing or not valid, or the process is overloaded, and TooManyFailures
    if the client network has failed too often.
    """
    request, key = received.request, extract_api_key(received.request)
    is_anonymous = settings.ENV.allows_anonymous and not key.startswith(tokens.OWN_PREFIXES)
    try:
        if is_anonymous:
            principal = await authentication.authenticate_anonymous()
        else:
            principal = await authentication.authenticate(key, partial(client_ip, request.scope))
    except AuthenticationFailed:
        # Read and discard the body of the unauthenticated request, but still answer 413 if it is too large.
        await request.discard_body(settings.MAX_BODY_BYTES)
        raise errors.invalid_key() if key else errors.missing_key() from None
    now = ledger.current().now()
    if not load_shedder.enter(principal.project_slug):
        raise errors.overloaded()
    caller = Authenticated(
        received,
        principal,
        datetime.fromtimestamp(now, UTC),
        local_day(now, principal.timezone),
        request.header(PROVIDER_KEY_HEADER).strip() or (key if is_anonymous else ""),
        (client_network(client_ip(request.scope)) or UNKNOWN_NETWORK) if is_anonymous else "",
    )
    in_flight.add(caller)
    return caller


def authorize(caller: Authenticated) -> None:
    """Check the method, the scope of the operation, and the caller's provider key. Raises GatewayError."""
    request, operation = caller.received.request, caller.received.operation
    if operation.methods and request.method not in operation.methods:
        raise errors.wrong_method(request, operation.methods)
    if operation.scope and not caller.principal.allows(operation.scope):
        raise errors.missing_scope(operation.scope)
    if caller.is_anonymous:
        check_origin(caller)
    if caller.provider_key:
        check_provider_key(caller)


def check_origin(caller: Authenticated) -> None:
    """Raise GatewayError if a page that is not allowed may have sent the request."""
    request = caller.received.request
    origin = request.header(b"origin")
    if origin not in caller.principal.allowed_origins and may_come_from_foreign_site(origin):
        raise errors.foreign_site()
    if may_be_rebound(host := request.header(b"host")):
        raise errors.foreign_host(host)


def check_provider_key(caller: Authenticated) -> None:
    """Raise GatewayError if the project accepts no provider keys, or if the text cannot be a provider key."""
    if not caller.principal.accepts_provider_keys:
        raise errors.provider_key_not_accepted()
    key = caller.provider_key
    if not PROVIDER_KEY.fullmatch(key) or key.startswith(tokens.OWN_PREFIXES):
        raise errors.provider_key_malformed()
