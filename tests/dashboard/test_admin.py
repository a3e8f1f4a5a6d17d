from unittest.mock import ANY

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from billing.models import Budget, Period
from keys.models import ApiKey
from projects.models import Project, User
from proxy.models import Credential
from tests.support.factories import SECRET, USD, signed_in

LEDGER_WRITES = [
    "budgetwindow",
    "usagerecord",
    "dailyusage",
    "reservation",
    "staleday",
    "alert",
    "delivery",
    "webhook",
]
MODELS = [
    model
    for label in ("projects", "keys", "billing", "proxy")
    for model in apps.get_app_config(label).get_models()
]


@pytest.fixture
def operator(db: None) -> Client:
    return signed_in(User.objects.create_superuser("root@example.org"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_every_model_has_a_list_and_a_page(model: type, operator: Client, busy_project: Project) -> None:
    assert model in admin.site._registry
    options = model._meta
    listing = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    assert operator.get(listing, {"q": "a"}).status_code == 200
    row = model._default_manager.first()
    if row is not None:
        assert (
            operator.get(
                reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])
            ).status_code
            == 200
        )


@pytest.mark.parametrize("model", LEDGER_WRITES)
def test_ledger_tables_are_read_only(model: str, operator: Client) -> None:
    assert operator.get(reverse(f"admin:billing_{model}_add")).status_code == 403
    assert operator.post(reverse(f"admin:billing_{model}_change", args=["1"])).status_code in (302, 403)


def test_a_key_is_revoked_and_never_deleted(operator: Client, key: ApiKey) -> None:
    assert (
        operator.post(reverse("admin:keys_apikey_delete", args=[key.pk]), {"post": "yes"}).status_code == 403
    )
    operator.post(
        reverse("admin:keys_apikey_changelist"),
        {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"},
    )
    assert ApiKey.objects.get() == key
    operator.post(
        reverse("admin:keys_apikey_changelist"), {"action": "revoke_keys", "_selected_action": [key.pk]}
    )
    assert not ApiKey.objects.get().is_active


def test_secrets_and_digests_are_hidden(operator: Client, key: ApiKey, credential: Credential) -> None:
    pages = [
        reverse("admin:keys_apikey_change", args=[key.pk]),
        reverse("admin:proxy_credential_change", args=[credential.pk]),
    ]
    content = "".join(operator.get(page).content.decode() for page in pages)
    assert key.public_id in content
    for hidden in (key.digest, SECRET, credential.sealed_secret):
        assert hidden not in content


def test_money_is_shown_and_entered_in_dollars(operator: Client, busy_project: Project) -> None:
    budget = Budget.objects.get(period=Period.DAY)
    page = operator.get(reverse("admin:billing_budget_change", args=[budget.pk])).content.decode()
    assert 'value="10"' in page
    form = {
        "project": busy_project.pk,
        "key": budget.key_id,
        "period": "day",
        "mode": "hard",
        "limit_nano": "12.5",
        "thresholds": "",
    }
    operator.post(reverse("admin:billing_budget_change", args=[budget.pk]), form)
    budget.refresh_from_db()
    assert (budget.limit_nano, budget.thresholds) == (12 * USD + USD // 2, [])
    assert "$12.50" in operator.get(reverse("admin:billing_budget_changelist")).content.decode()
    assert "$2.00" in operator.get(reverse("admin:billing_usagerecord_changelist")).content.decode()


def test_a_budget_cannot_limit_a_key_of_another_project(operator: Client, key: ApiKey) -> None:
    other = Project.objects.create_with_owner("Other")
    form = {"project": other.pk, "key": key.pk, "period": "day", "mode": "hard", "limit_nano": "1"}
    assert (
        "belongs to another project"
        in operator.post(reverse("admin:billing_budget_add"), form).content.decode()
    )
    assert not Budget.objects.exists()


def test_only_operators_allow_use_of_operator_credentials(operator: Client, project: Project) -> None:
    none = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    form = {"name": "Acme", "slug": "acme", "timezone": "UTC", "cache_ttl_s": "3600", **none}
    form["uses_operator_credentials"] = "on"
    operator.post(reverse("admin:projects_project_change", args=[project.pk]), form)
    project.refresh_from_db()
    assert project.uses_operator_credentials


def test_an_operator_adds_a_user(operator: Client) -> None:
    form = {
        "email": "dana@example.org",
        "password1": "correct horse battery",
        "password2": "correct horse battery",
        "usable_password": "true",
    }
    assert operator.post(reverse("admin:projects_user_add"), form).status_code == 302
    assert User.objects.get(email="dana@example.org").check_password("correct horse battery")


def test_admin_requires_an_operator(alice: User) -> None:
    assert signed_in(alice).get("/admin/", follow=True).redirect_chain == [(ANY, 302)]
