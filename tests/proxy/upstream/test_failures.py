"""Classes of failures, by the errors that vendors send."""

from typing import Any

import msgspec
import pytest

from proxy.formats.registry import CODECS
from proxy.upstream.failures import FailureClass, classify

RETRY, CREDENTIAL, MODEL = FailureClass.RETRY, FailureClass.CREDENTIAL, FailureClass.MODEL
TARGET, FINAL = FailureClass.TARGET, FailureClass.FINAL


def openai(message: str, code: str | None = None, type: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": type, "code": code, "param": None}}


def anthropic(message: str, type: str = "invalid_request_error") -> Any:
    return {"type": "error", "error": {"type": type, "message": message}}


def gemini(code: int, message: str, status: str, **details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status, "details": [details]}}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
ERRORS: list[tuple[FailureClass, str, int, Any]] = [
    (RETRY, "openai_chat", 500, openai("The server had an error", type="server_error")),
    (RETRY, "openai_chat", 408, openai("Timeout")),
    (RETRY, "openai_chat", 409, openai("Conflict")),
    (RETRY, "openai_chat", 429, openai("Rate limit reached for gpt-4o", "rate_limit_exceeded")),
    (RETRY, "openai_responses", 503, openai("Overloaded", "server_error")),
    (RETRY, "anthropic", 529, anthropic("Overloaded", "overloaded_error")),
    (RETRY, "anthropic", 429, anthropic("This request would exceed your rate limit", "rate_limit_error")),
    (RETRY, "gemini", 503, gemini(503, "The model is overloaded.", "UNAVAILABLE")),
    (RETRY, "gemini", 429, gemini(429, QUOTA, "RESOURCE_EXHAUSTED", retryDelay="3s")),
    (CREDENTIAL, "openai_chat", 429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    (CREDENTIAL, "openai_responses", 429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    (CREDENTIAL, "openai_chat", 429, openai("No credits", "credit_balance_exhausted", "insufficient_quota")),
    (CREDENTIAL, "openai_chat", 429, openai("Your account is not active", "billing_not_active")),
    (CREDENTIAL, "openai_chat", 401, openai("Incorrect API key provided: sk-x", "invalid_api_key")),
    (CREDENTIAL, "openai_chat", 402, openai("Insufficient Balance")),
    (CREDENTIAL, "openai_chat", 403, openai("Your team has used all available credits or reached its limit")),
    (CREDENTIAL, "openai_chat", 400, openai("make sure your account is in good standing.", "Arrearage")),
    (
        CREDENTIAL,
        "openai_chat",
        429,
        openai(
            "Your account org-1 is suspended due to insufficient balance", type="exceeded_current_quota_error"
        ),
    ),
    (CREDENTIAL, "anthropic", 400, anthropic("Your credit balance is too low to access the Anthropic API.")),
    (CREDENTIAL, "anthropic", 400, anthropic("You have reached your specified API usage limits.")),
    (CREDENTIAL, "anthropic", 400, anthropic("You have reached your specified workspace API usage limits.")),
    (CREDENTIAL, "anthropic", 400, anthropic("This organization has been disabled.")),
    (CREDENTIAL, "anthropic", 401, anthropic("invalid x-api-key", "authentication_error")),
    (CREDENTIAL, "anthropic", 402, anthropic("There is an issue with billing", "billing_error")),
    (
        CREDENTIAL,
        "gemini",
        400,
        gemini(400, "API key not valid.", "INVALID_ARGUMENT"),
    ),
    (CREDENTIAL, "gemini", 403, gemini(403, "Your API key was reported as leaked.", "PERMISSION_DENIED")),
    (CREDENTIAL, "gemini", 403, gemini(403, "Consumer 'c' has been suspended.", "PERMISSION_DENIED")),
    (CREDENTIAL, "gemini", 429, gemini(429, "Your prepayment credits are depleted.", "RESOURCE_EXHAUSTED")),
    (MODEL, "openai_chat", 404, openai("The model `m` does not exist", "model_not_found")),
    (MODEL, "openai_chat", 403, openai("Project `p` does not have access to model `m`", "model_not_found")),
    (MODEL, "openai_chat", 401, openai("Missing scopes: model.request")),
    (MODEL, "openai_chat", 404, openai("No endpoints found for m/n.")),
    (MODEL, "openai_chat", 400, openai("m is not a valid model ID")),
    (
        MODEL,
        "openai_chat",
        404,
        openai("The API deployment does not exist", "DeploymentNotFound"),
    ),
    (MODEL, "anthropic", 404, anthropic("model: claude-x", "not_found_error")),
    (MODEL, "gemini", 404, gemini(404, "models/m is not found for API version v1beta", "NOT_FOUND")),
    (TARGET, "openai_chat", 403, openai("Country, region, or territory not supported")),
    (
        FINAL,
        "openai_chat",
        400,
        openai("'temperature' does not support 0.2 with this model."),
    ),
    (FINAL, "openai_chat", 404, openai("No such file: file-1")),
    (FINAL, "openai_chat", 422, openai("messages is missing")),
    (FINAL, "anthropic", 400, anthropic("max_tokens: 9 > 8, which is the maximum allowed number for model")),
    (FINAL, "anthropic", 413, anthropic("Request exceeds the maximum size", "request_too_large")),
    (FINAL, "gemini", 400, gemini(400, "Invalid JSON payload received.", "INVALID_ARGUMENT")),
    (FailureClass.CONTEXT_LENGTH, "anthropic", 400, anthropic("prompt is too long: 9 tokens > 8 maximum")),
    (
        FailureClass.CONTEXT_LENGTH,
        "openai_chat",
        400,
        openai("maximum context length is 8 tokens"),
    ),
]


@pytest.mark.parametrize(("expected", "format", "status", "body"), ERRORS)
def test_errors_of_vendors_have_classes(expected: FailureClass, format: str, status: int, body: Any) -> None:
    assert classify(CODECS[format].parse_error(status, msgspec.json.encode(body))) is expected
