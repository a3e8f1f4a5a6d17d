"""Adapter of allauth: sign-up (GATEWAY_SIGNUP, GATEWAY_SIGNUP_DOMAINS) and error messages."""

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages = DefaultAccountAdapter.error_messages | {
        "cannot_remove_primary_email": "You cannot remove your primary address.",
        "duplicate_email": "Your account already has this address.",
        "email_password_mismatch": "The e-mail address or the password is wrong.",
        "email_taken": "An account with this address already exists.",
        "max_email_addresses": "An account can have at most %d addresses.",
        "too_many_login_attempts": "Too many failed attempts to sign in. Try again later.",
        "unverified_primary_email": "Confirm the address before you make it the primary one.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ENV.signup_mode in ("open", "domains"))


def check_domain(email: str) -> None:
    """Raise ValidationError if GATEWAY_SIGNUP=domains does not allow a new address."""
    domain = email.rpartition("@")[2].lower()
    if settings.ENV.signup_mode == "domains" and domain not in settings.ENV.gateway_signup_domains:
        raise ValidationError("Use an e-mail address at a domain that the operator allows.")
