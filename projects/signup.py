"""Sign-up rules, set by GATEWAY_SIGNUP and GATEWAY_SIGNUP_DOMAINS."""

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ENV.gateway_signup in ("open", "domains"))

    def clean_email(self, email: str) -> str:
        domain = email.rpartition("@")[2].lower()
        if settings.ENV.gateway_signup == "domains" and domain not in settings.ENV.gateway_signup_domains:
            raise ValidationError("Sign-up is limited to addresses of this organisation.")
        return email
