"""W3C Trace Context: the trace of a client continues in the calls to providers.

Source: w3.org/TR/trace-context. `tracestate` is not sent on, because it contains values of the client's own
tracing system, which providers need not see.
"""

import re
import secrets

from proxy.http.request import GatewayRequest

TRACEPARENT_HEADER = "traceparent"
TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
"""A trace id or a span id of zeros is invalid, and so is version ff. Later versions may append fields."""
KNOWN_FLAGS = 0b11
"""The flags that the specification defines: `sampled` and `random-trace-id`."""


def parse(request: GatewayRequest) -> re.Match[str] | None:
    """Return the parts of the client's `traceparent`; None if it is absent or malformed."""
    given = request.header(b"traceparent")
    match = TRACEPARENT.fullmatch(given) if given else None
    return None if match and match["version"] == "00" and match["rest"] else match


def trace_id(request: GatewayRequest) -> str:
    """Return the id of the client's trace; empty if the client sent none."""
    match = parse(request)
    return match["trace_id"] if match else ""


def upstream_headers(request: GatewayRequest) -> dict[str, str]:
    """Return the `traceparent` of one call to a provider, which has a span id of its own.

    The result is empty if the client sent no valid one.
    """
    match = parse(request)
    if not match:
        return {}
    flags = int(match["flags"], 16) & KNOWN_FLAGS
    return {TRACEPARENT_HEADER: f"00-{match['trace_id']}-{secrets.token_hex(8)}-{flags:02x}"}
