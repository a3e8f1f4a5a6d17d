"""Classes of providers' failures: they decide whether a call is repeated, and where."""

import re
from enum import Enum

from proxy.formats.neutral import ApiError
from proxy.formats.provider_errors import CONTEXT_LENGTH_CODE


class FailureClass(Enum):
    """Classes of failures, by what they say about the next call.

    `RETRY`: the same call may succeed. `CREDENTIAL`: the credential is out of credit or revoked. `MODEL`: the
    credential has no access to the model. `CONTEXT_LENGTH`: the prompt is too long for the model. `TARGET`:
    another target may succeed, but not this one. `FINAL`: every target would fail in the same way.
    """

    RETRY = "retry"
    CREDENTIAL = "credential"
    MODEL = "model"
    CONTEXT_LENGTH = "context_length"
    TARGET = "target"
    FINAL = "final"


RETRYABLE_STATUSES = (408, 409, 429)
CREDENTIAL_CODES = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "billing_not_active",
    "organization_usage_limit_exceeded",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "enforced_spend_limit_reached",
    "account_deactivated",
    "invalid_api_key",
    "exceeded_current_quota_error",
    "arrearage",
    "accountoverdueerror",
)
"""Codes of credentials that are out of credit or revoked.

Sources: developers.openai.com/api/docs/guides/error-codes, platform.claude.com/docs/en/api/errors,
platform.moonshot.ai/docs/api/error, help.aliyun.com/zh/model-studio/error-code (Arrearage).
"""
CREDENTIAL_TEXTS = re.compile(
    "|".join(
        (
            "credit balance is (?:too low|depleted)",  # Anthropic (status 400), Google
            "prepayment credits are depleted",  # Google (status 429)
            r"reached your (?:specified )?(?:\w+ )?api usage limits",  # Anthropic (status 400 or 429)
            "(?:organization|account) (?:has been|is) (?:disabled|restricted|suspended|deactivated)",
            r"account \S+ is suspended",  # Moonshot (status 429)
            "account is not active",  # OpenAI, Moonshot
            "insufficient (?:account )?(?:balance|credits?)",  # DeepSeek, OpenRouter, Zhipu (also status 429)
            "used all available credits|reached its monthly spending limit",  # xAI (status 403 or 429)
            "api key was reported as leaked",  # Google (status 403)
            "api key (?:not valid|expired)|api_key_invalid|invalid api key|incorrect api key",
            "has been suspended",  # Google: Consumer '...' has been suspended
            "billing to be enabled|billing_disabled|service_disabled",  # Google (status 403)
            r"account is in good \S+",  # Alibaba (status 400)
        )
    ),
    re.IGNORECASE,
)
"""Texts of credentials that are out of credit or revoked.

Anthropic and Google have no code for them, and use the statuses 400, 403 and 429.
"""
CREDENTIAL_STATUSES = (400, 403, 412, 429)
"""Statuses, in addition to 401 and 402, that may mean that a credential is out of credit or revoked."""
MODEL_CODES = ("model_not_found", "deploymentnotfound", "invalid_model", "model_not_available")
MODEL_TEXTS = re.compile(
    "|".join(
        (
            "does not have access to (?:the )?model",  # OpenAI (status 403), xAI
            "don't have access to the model",  # Bedrock (status 403)
            "missing scopes",  # OpenAI: a restricted key (status 401 or 403)
            "no endpoints found",  # OpenRouter (status 404)
            "deployment for this resource does not exist",  # Azure (status 404)
            r"models?\b.{0,200}\b(?:not found|does not exist)",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
"""Texts of credentials that have no access to the requested model."""
MODEL_STATUSES = (401, 403, 404)
INVALID_MODEL_TEXT = re.compile(r"invalid model\b|\S+ is not a valid model id", re.IGNORECASE)
"""The start of the texts of Mistral and OpenRouter, whose status is 400."""


def classify(error: ApiError) -> FailureClass:
    """Return the class of an error that a provider reported. `error.status` decides if nothing else does."""
    if error.code == CONTEXT_LENGTH_CODE:
        return FailureClass.CONTEXT_LENGTH
    if lacks_model(error):
        return FailureClass.MODEL
    if is_unusable_credential(error):
        return FailureClass.CREDENTIAL
    if error.status in RETRYABLE_STATUSES or error.status >= 500:
        return FailureClass.RETRY
    # A 403 must not make the gateway skip a shared account, because a client can cause a 403.
    return FailureClass.TARGET if error.status == 403 and error.kind == "auth" else FailureClass.FINAL


def lacks_model(error: ApiError) -> bool:
    """Return whether a credential has no access to the requested model, or the model does not exist there."""
    if error.kind == "unknown_model" or error.code.lower() in MODEL_CODES:
        return True
    if error.status == 400:
        return bool(INVALID_MODEL_TEXT.match(error.message))
    return error.status in MODEL_STATUSES and bool(MODEL_TEXTS.search(error.message))


def is_unusable_credential(error: ApiError) -> bool:
    """Return whether a credential is out of credit or revoked."""
    if error.status in {401, 402} or error.code.lower() in CREDENTIAL_CODES:
        return True
    return error.status in CREDENTIAL_STATUSES and bool(CREDENTIAL_TEXTS.search(error.message))
