"""Convert the errors of providers for clients: redact keys, and tell when to try again."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from msgspec.structs import replace

from projects.redaction import ELLIPSIS, redact_bytes
from proxy import errors
from proxy.formats.neutral import ApiError
from proxy.http.responses import Headers
from proxy.routing.accounts import Account
from proxy.routing.targets import Candidate
from proxy.upstream.response import UpstreamResponse

UPSTREAM_STATUS = "upstream_status"
"""Error code in the usage record of a request whose client got the provider's error unchanged."""
PROVIDER_AUTH_ERROR = "provider_auth_error"
MIN_RECOGNIZABLE_LENGTH = 8
RETRY_AFTER, RETRY_AFTER_MS = "retry-after", "retry-after-ms"


@dataclass(frozen=True, slots=True)
class RelayedError:
    """A provider's error response as the client gets it.

    `recorded_status` is the status in the usage record. It differs from `status` if the error is reported in
    a stream, whose status is 200. `kind` is that of `ApiError`.
    """

    status: int
    headers: Headers
    body: bytes
    code: str
    recorded_status: int
    kind: str


def relay(candidate: Candidate, response: UpstreamResponse, body: bytes, request_id: str) -> RelayedError:
    """Return a provider's error for the client. It is unchanged if the client can act on it."""
    plan = candidate.plan
    parsed = plan.parse_error(response.status, body)
    error = with_retry_delay(for_client(parsed, candidate.target.account), response.headers)
    headers = error_headers(error, response.headers)
    if plan.passes_error(parsed, body) and not is_refused_key(parsed, candidate.target.account):
        body = redact_body(body, candidate.target.account)
        return RelayedError(response.status, headers, body, UPSTREAM_STATUS, response.status, error.kind)
    rendered = plan.render_error(error, request_id)
    headers["content-type"] = rendered.content_type
    return RelayedError(rendered.status, headers, rendered.body, error.code, error.status, error.kind)


def is_refused_key(error: ApiError, account: Account) -> bool:
    """Return whether the provider rejected an API key that is not the caller's own."""
    return error.kind == "auth" and not account.is_callers


def redact_body(body: bytes, account: Account) -> bytes:
    """Redact API keys in a provider's error, and the account's own key even if it has no known prefix."""
    if secret := recognizable_secret(account):
        body = body.replace(secret.encode(), ELLIPSIS.encode())
    return redact_bytes(body)


def redact_message(error: ApiError, account: Account) -> ApiError:
    """Redact API keys in a provider's parsed error, and the account's own key in its message."""
    if secret := recognizable_secret(account):
        error = replace(error, message=error.message.replace(secret, ELLIPSIS))
    return errors.without_keys(error)


def recognizable_secret(account: Account) -> str:
    """Return the account's key, or an empty string if a text may contain it by chance."""
    secret = account.secret or ""
    return secret if len(secret) >= MIN_RECOGNIZABLE_LENGTH else ""


def for_client(error: ApiError, account: Account) -> ApiError:
    """Return a provider's error without API keys.

    If the provider rejected the gateway's key, the status becomes 502. A client would take a 401 or 403 for a
    rejection of its gateway key, and some clients would ask their user for another key.
    """
    error = redact_message(error, account)
    if not is_refused_key(error, account):
        return error
    name = account.provider.name
    text = (
        f"{name} refused the API key that the gateway uses for it (credential {account.slug}) with status "
        f"{error.status}: {error.message.rstrip('.')}. Your gateway API key was accepted. Ask the owner of "
        f"the credential to check it."
    )
    refused = ApiError(kind="server_error", code=PROVIDER_AUTH_ERROR, message=text, status=502)
    return errors.without_keys(refused)


def error_headers(error: ApiError, upstream_headers: Mapping[str, str]) -> Headers:
    """Return the headers with the type of the error, and when to try again."""
    return {errors.ERROR_TYPE_HEADER: error.kind, **retry_headers(error, upstream_headers)}


def retry_headers(error: ApiError, upstream_headers: Mapping[str, str]) -> Headers:
    """Return the headers that say when to try again.

    The provider states the delay in a header or in the error. `retry-after` has whole seconds: a fraction is
    rounded up, because not all clients can parse one.
    """
    if error.code == PROVIDER_AUTH_ERROR:
        return {"x-should-retry": "false"}
    seconds = retry_after_s(error, upstream_headers)
    if seconds is None:
        return {}
    headers = {RETRY_AFTER: str(math.ceil(seconds))}
    if RETRY_AFTER_MS not in upstream_headers and seconds != int(seconds):
        headers[RETRY_AFTER_MS] = str(math.ceil(seconds * 1000))
    return headers


def retry_after_s(error: ApiError, upstream_headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the provider accepts the request.

    The result is None if the provider states no delay, or states a date.
    """
    for name, divisor in ((RETRY_AFTER, 1), (RETRY_AFTER_MS, 1000)):
        try:
            seconds = float(upstream_headers.get(name, "")) / divisor
        except ValueError:
            continue
        if 0 <= seconds < math.inf:
            return seconds
    return None if RETRY_AFTER in upstream_headers else error.retry_after_s


def retry_delay_s(error: ApiError, upstream_headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which the gateway may call the provider again.

    If the provider states a date, it is converted to seconds. `retry_after_s` does not convert it, because
    the client gets it unchanged.
    """
    seconds = retry_after_s(error, upstream_headers)
    return seconds_until(upstream_headers.get(RETRY_AFTER, "")) if seconds is None else seconds


def seconds_until(http_date: str) -> float | None:
    """Return the seconds until a date of RFC 9110, section 5.6.7, or None if it is not a date."""
    try:
        return max(0.0, parsedate_to_datetime(http_date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def with_retry_delay(error: ApiError, upstream_headers: Mapping[str, str]) -> ApiError:
    """Return the error with the delay that the provider states in a header.

    Some formats state the delay in the body.
    """
    return replace(error, retry_after_s=retry_after_s(error, upstream_headers))
