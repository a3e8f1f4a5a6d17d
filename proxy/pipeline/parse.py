"""Second stage: read and parse the client's request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.conf import settings

from billing.ledger import UsageEntry
from projects.redaction import redact
from proxy.formats.codec import ClientRequest
from proxy.formats.json_body import BOM, guard_recursion
from proxy.formats.metadata import LOG_HEADER, NO_METADATA, TAGS_HEADER, RequestMetadata, read_metadata
from proxy.http.responses import Headers
from proxy.pipeline.authenticate import Authenticated

TAGS_HEADER_NAME, LOG_HEADER_NAME = TAGS_HEADER.encode(), LOG_HEADER.encode()
R_co = TypeVar("R_co", bound=ClientRequest, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Parsed(Generic[R_co]):
    """A client's request in its own format. `url_params` are the parameters in its URL."""

    caller: Authenticated
    client_request: R_co
    url_params: Mapping[str, Any]
    metadata: RequestMetadata = NO_METADATA

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
    return Parsed(caller, client_request, url_params, metadata)
