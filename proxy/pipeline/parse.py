"""The stage `parse`: read and parse the client's request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.conf import settings

from billing.ledger import UsageEntry
from projects.redaction import redact
from proxy.cache import controls
from proxy.cache.controls import BodyControls
from proxy.formats.codec import ClientRequest
from proxy.formats.json_body import BOM, guard_recursion, replace_fields
from proxy.formats.metadata import LOG_HEADER, NO_METADATA, TAGS_HEADER, RequestMetadata, read_metadata
from proxy.http.responses import Headers
from proxy.pipeline.authenticate import Authenticated

TAGS_HEADER_NAME, LOG_HEADER_NAME = TAGS_HEADER.encode(), LOG_HEADER.encode()
R_co = TypeVar("R_co", bound=ClientRequest, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Parsed(Generic[R_co]):
    """A client's request in its own format, without the fields that control the response cache.

    `url_params` are the parameters in its URL.
    """

    caller: Authenticated
    client_request: R_co
    url_params: Mapping[str, Any]
    metadata: RequestMetadata = NO_METADATA
    cache_controls: BodyControls = controls.NO_FIELDS

    def headers(self) -> Headers:
        """Return the headers of a response to the caller."""
        return self.caller.headers()

    def usage_entry(self) -> UsageEntry:
        """Return the usage record with the model, the settings and the tags of the client."""
        entry, facts = self.caller.usage_entry(), self.client_request.facts
        entry.requested_model, entry.streamed = redact(facts.model), facts.stream
        if tags := self.metadata.tags:
            entry.metadata = {redact(name): redact(value) for name, value in tags.items()}
        return entry


async def parse(
    caller: Authenticated, parse_body: Callable[..., R_co], url_params: Mapping[str, Any]
) -> Parsed[R_co]:
    """Read and parse the body, without a byte order mark (RFC 8259, section 8.1).

    Raises InvalidRequest, UnsupportedCoding, CorruptBody, BodyTooLarge or ClientDisconnected.
    """
    request = caller.received.request
    body = (await request.read_body(settings.MAX_BODY_BYTES)).removeprefix(BOM)
    client_request = guard_recursion(parse_body, body, **url_params)
    tags_header = request.raw_headers.get(TAGS_HEADER_NAME, b"")
    metadata = read_metadata(client_request.fields, tags_header, request.header(LOG_HEADER_NAME))
    if controls.FIELDS.isdisjoint(client_request.fields):
        return Parsed(caller, client_request, url_params, metadata)
    cache_controls = controls.read_fields(client_request.fields)
    # The provider must not get these fields, and they must not count as unknown fields of the request.
    client_request = guard_recursion(parse_body, replace_fields(body, {}, controls.FIELDS), **url_params)
    return Parsed(caller, client_request, url_params, metadata, cache_controls)
