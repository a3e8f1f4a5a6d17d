"""Errors about the path, the headers and the body of a request, and about the model that it names."""

from collections.abc import Collection

from django.conf import settings

from billing.models import Outcome
from proxy.errors.gateway_error import GatewayError, gateway_error
from proxy.formats.account_ids import ISSUED_KINDS, UPLOADED_KINDS, AccountReference
from proxy.formats.neutral import InvalidRequest
from proxy.http.content_coding import SUPPORTED_CODINGS, BodyTooLarge, CorruptBody, UnsupportedCoding
from proxy.http.request import GatewayRequest


def unknown_model(model: str, hint: str = "") -> GatewayError:
    text = f"The model {model} does not exist or this project has no access to it.{hint}"
    return gateway_error(404, Outcome.INVALID_REQUEST, "unknown_model", "model_not_found", text, "model")


INVALID_ROUTE = "invalid_route"


def invalid_route(name: str, reasons: str) -> GatewayError:
    """Return the error for a route of the project that became invalid after it was saved."""
    text = (
        f"The route {name} of this project cannot be used. {reasons} "
        "An admin of the project can change it on the Routes page."
    )
    return gateway_error(404, Outcome.INVALID_REQUEST, "unknown_model", INVALID_ROUTE, text, "model")


MAX_SHOWN_ID_LENGTH = 100


def not_issued(reference: AccountReference) -> GatewayError:
    """Return the error for an id that was not issued to the project.

    The error does not show whether another project has the id.
    """
    noun, shown = ISSUED_KINDS[reference.kind], reference.id[:MAX_SHOWN_ID_LENGTH]
    text = (
        f"{noun} with id '{shown}' not found. In the operator's account at this provider, a project can only "
        "use ids that it received from the gateway. For ids from elsewhere, use a provider credential of the "
        "project's own."
    )
    code = "previous_response_not_found" if reference.kind == "response" else f"{reference.kind}_not_found"
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", code, text, reference.param)


def not_shared(reference: AccountReference) -> GatewayError:
    """Return the error for an object whose project the gateway cannot determine."""
    noun, shown = UPLOADED_KINDS[reference.kind], reference.id[:MAX_SHOWN_ID_LENGTH]
    code = f"{reference.kind}_not_found"
    text = (
        f"The field {reference.param} names a {noun} ('{shown}') in the operator's account at this provider, "
        f"which several projects share. The gateway cannot know to which project a {noun} belongs, so it "
        "does not send the id. Send the content itself, or use a provider credential of the project's own."
    )
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", code, text, reference.param)


def unknown_route(path: str) -> GatewayError:
    text = f"Unknown path: {path[:200]}. The paths of the APIs begin with /v1/, /anthropic/v1/ or /v1beta/."
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "unknown_url", text)


def wrong_method(request: GatewayRequest, allowed: Collection[str]) -> GatewayError:
    """Return a 405, or a 426 for a WebSocket handshake. After a 426, clients such as Codex use HTTP."""
    if request.method == "GET" and request.header(b"upgrade").lower() == "websocket":
        return websockets_unsupported(allowed)
    names = ", ".join(allowed)
    text = f"{(request.method or '')[:20]} is not allowed for this URL. Use {names}."
    return gateway_error(
        405, Outcome.INVALID_REQUEST, "invalid_request", "method_not_allowed", text, headers={"allow": names}
    )


def websockets_unsupported(allowed: Collection[str]) -> GatewayError:
    text = f"This URL does not support WebSockets. Send the request with {', '.join(allowed)} over HTTP."
    headers = {"upgrade": "HTTP/1.1", "connection": "upgrade"}
    return gateway_error(
        426, Outcome.INVALID_REQUEST, "invalid_request", "websockets_unsupported", text, headers=headers
    )


def invalid_request(error: InvalidRequest) -> GatewayError:
    return gateway_error(
        400, Outcome.INVALID_REQUEST, "invalid_request", "invalid_request_error", str(error), error.param
    )


def body_too_large(limit: int) -> GatewayError:
    text = f"The request body is larger than {limit} bytes. Send a shorter request."
    return gateway_error(413, Outcome.INVALID_REQUEST, "invalid_request", "request_too_large", text)


def unreadable_body(error: BodyTooLarge | UnsupportedCoding | CorruptBody) -> GatewayError:
    match error:
        case BodyTooLarge():
            return body_too_large(settings.MAX_BODY_BYTES)
        case UnsupportedCoding():
            return unsupported_coding(str(error))
        case CorruptBody():
            return corrupt_body(error.coding)


def unsupported_coding(codings: str) -> GatewayError:
    """Return the error for a content coding that cannot be decoded.

    It names the supported codings (RFC 9110, 15.5.16).
    """
    text = (
        f"The request body has the content coding {codings[:100]}, which is not supported. "
        f"Send it without a coding, or with one of {SUPPORTED_CODINGS}."
    )
    return gateway_error(
        415,
        Outcome.INVALID_REQUEST,
        "invalid_request",
        "unsupported_content_coding",
        text,
        headers={"accept-encoding": SUPPORTED_CODINGS},
    )


def corrupt_body(coding: str) -> GatewayError:
    text = f"The request body is not valid {coding}, which its Content-Encoding states."
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "invalid_content_coding", text)


def format_not_convertible(model: str, provider: str) -> GatewayError:
    text = (
        f"{provider} serves the model {model} in a format to which requests to this URL cannot be converted. "
        "Use another model, or a URL of the provider's own format."
    )
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "unsupported_model", text, "model")
