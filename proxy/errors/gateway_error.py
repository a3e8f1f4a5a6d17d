"""The error that the gateway sends, and the kinds of it that other modules build on."""

from msgspec.structs import replace

from billing.models import Outcome
from projects.redaction import redact
from proxy.formats.neutral import ApiError

ERROR_TYPE_HEADER = "x-gateway-error-type"
"""Header of every error with its type: one of the seven kinds of `ApiError`."""

SERVER_ERROR = "server_error"


class GatewayError(Exception):
    """An error that the gateway sends to the client in the client's format.

    `outcome` is stored in the usage record and counted in the metrics. `headers` are sent with the response.
    """

    def __init__(self, outcome: Outcome, api_error: ApiError, headers: dict[str, str] | None = None) -> None:
        api_error = without_keys(api_error)
        super().__init__(api_error.message)
        self.status, self.outcome, self.api_error, self.headers = (
            api_error.status,
            outcome,
            api_error,
            headers or {},
        )


def without_keys(error: ApiError) -> ApiError:
    """Redact API keys in the texts of an error, which may repeat data of the client or the provider."""
    param = error.param and redact(error.param)
    return replace(error, message=redact(error.message), code=redact(error.code), param=param)


def gateway_error(
    status: int,
    outcome: Outcome,
    kind: str,
    code: str,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> GatewayError:
    return GatewayError(
        outcome, ApiError(kind=kind, code=code, message=message, param=param, status=status), headers
    )


def unauthenticated(message: str) -> GatewayError:
    headers = {"www-authenticate": "Bearer"}
    return gateway_error(401, Outcome.UNAUTHENTICATED, "auth", "invalid_api_key", message, headers=headers)


def rate_limited(message: str, headers: dict[str, str]) -> GatewayError:
    return gateway_error(
        429, Outcome.RATE_LIMITED, "rate_limit", "rate_limit_exceeded", message, headers=headers
    )


def unavailable(code: str, message: str, headers: dict[str, str] | None = None) -> GatewayError:
    return gateway_error(503, Outcome.UNAVAILABLE, "server_error", code, message, headers=headers)
