"""allauth's forms for accounts, with labels in the style of the other pages."""

from typing import Any

from allauth.account import forms

from projects.signup import check_domain

LABELS = {
    "Email": "E-mail address",
    "Current Password": "Current password",
    "New Password": "New password",
    "New Password (again)": "New password (again)",
}


class Relabelled:
    """Mixin that replaces the labels of a form of allauth."""

    fields: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.label = LABELS.get(str(field.label), field.label)


class AddEmailForm(Relabelled, forms.AddEmailForm):  # type: ignore[misc]
    def clean_email(self) -> str:
        """Check the domain of the new address, as at sign-up."""
        check_domain(self.cleaned_data["email"])
        email: str = super().clean_email()
        return email


class ChangePasswordForm(Relabelled, forms.ChangePasswordForm):  # type: ignore[misc]
    pass


class LoginForm(Relabelled, forms.LoginForm):  # type: ignore[misc]
    pass


class ResetPasswordForm(Relabelled, forms.ResetPasswordForm):  # type: ignore[misc]
    pass


class ResetPasswordKeyForm(Relabelled, forms.ResetPasswordKeyForm):  # type: ignore[misc]
    pass


class SignupForm(Relabelled, forms.SignupForm):  # type: ignore[misc]
    def clean_email(self) -> str:
        check_domain(self.cleaned_data["email"])
        email: str = super().clean_email()
        return email
