"""A model is served until its retirement day, and its successor from then on."""

import datetime as dt

import pytest

from billing.pricing import bundled_price
from billing.pricing.retirements import CHECKED, RETIREMENTS, current_model
from proxy.models.route_definitions import RouteDefinition, TargetDefinition
from proxy.routing.accounts import Account
from tests.proxy.routing.routes.conftest import account
from tests.support.operator_accounts import resolution

LAST_DAY = dt.date(2027, 1, 13)
RETIREMENT = "x-gateway-model-retirement"
REDIRECT = "x-gateway-redirected-from"


def test_a_named_model_is_served_until_its_day_and_says_when_it_ends() -> None:
    found = resolution("gpt-4o-mini", (account("openai"),), today=LAST_DAY)
    assert found.targets[0].model == "gpt-4o-mini"
    assert found.headers == {RETIREMENT: "2027-01-14; successor=gpt-6-luna"}


def test_a_retired_model_is_redirected_and_says_so() -> None:
    found = resolution("openai/gpt-4o-mini", (account("openai"),), today=LAST_DAY + dt.timedelta(days=1))
    assert (found.targets[0].model, found.headers[REDIRECT]) == ("gpt-6-luna", "gpt-4o-mini")
    assert found.targets[0].price == bundled_price("openai", "gpt-6-luna")


def test_a_route_with_a_retired_name_redirects_to_another_model() -> None:
    route = RouteDefinition("gpt-3.5-turbo", (TargetDefinition("openai", "gpt-6-sol"),))
    found = resolution("gpt-3.5-turbo", (account("openai"),), routes=(route,))
    assert found.targets[0].model == "gpt-6-sol"
    assert found.headers[REDIRECT] == "gpt-3.5-turbo"
    assert found.headers[RETIREMENT].endswith("; successor=gpt-6-sol")


def test_a_retired_target_of_a_route_is_redirected() -> None:
    route = RouteDefinition("smart", (TargetDefinition("anthropic", "claude-3-5-sonnet-20241022"),))
    found = resolution("smart", (account("anthropic"),), routes=(route,))
    assert found.targets[0].model == "claude-sonnet-4-6"
    assert found.headers[REDIRECT] == "claude-3-5-sonnet-20241022"


def test_a_model_without_a_date_has_no_header() -> None:
    assert resolution("gpt-6-luna", (account("openai"),)).headers == {}


@pytest.mark.parametrize(
    "elsewhere",
    [
        account("azure", base_url="https://acme.openai.azure.com"),
        account("compatible", base_url="http://127.0.0.1:1/v1"),
        account("openai", base_url="https://gateway.example/v1"),
        account("openrouter"),
    ],
    ids=lambda account: account.slug,
)
def test_deployments_and_other_servers_are_never_redirected(elsewhere: Account) -> None:
    found = resolution(f"{elsewhere.slug}/gpt-3.5-turbo", (elsewhere,))
    assert (found.targets[0].model, found.headers) == ("gpt-3.5-turbo", {})


def test_a_regional_endpoint_of_the_vendor_redirects() -> None:
    eu = account("openai", base_url="https://eu.api.openai.com/v1")
    assert resolution("openai/gpt-3.5-turbo", (eu,)).targets[0].model == "gpt-5.6-terra"


def test_every_successor_has_a_price_and_outlives_the_release() -> None:
    for row in RETIREMENTS:
        served = current_model(row, row.models[0], row.date)
        if row.successor:
            assert bundled_price(row.provider_id, row.successor), row
            assert current_model(row, row.models[0], CHECKED) in (row.models[0], row.successor), row
            assert served != row.models[0]


def test_a_model_without_a_successor_stays_as_it_is() -> None:
    found = resolution("babbage-002", (account("openai"),))
    assert (found.targets[0].model, found.headers) == ("babbage-002", {RETIREMENT: "2026-09-28"})


@pytest.mark.parametrize(
    ("provider", "name", "successor"),
    [
        ("openai", "gpt-4-turbo", "gpt-5.6-sol"),
        ("openai", "gpt-3.5-turbo", "gpt-5.6-terra"),
        ("openai", "gpt-4", "gpt-5.6-sol"),
        ("anthropic", "claude-3.5-sonnet", "claude-sonnet-4-6"),
        ("anthropic", "claude-3-5-sonnet-20241022", "claude-sonnet-4-6"),
        ("anthropic", "claude-3-opus", "claude-opus-4-8"),
        ("anthropic", "claude-3-haiku", "claude-haiku-4-5"),
        ("gemini", "gemini-1.5-pro", "gemini-3.8-flash"),
        ("gemini", "gemini-2.0-flash-exp", "gemini-3.6-flash"),
    ],
)
def test_names_that_people_still_use_lead_to_living_models(provider: str, name: str, successor: str) -> None:
    found = resolution(name, (account(provider),), today=CHECKED + dt.timedelta(days=1))
    assert (found.targets[0].model, found.headers[REDIRECT]) == (successor, name)
    assert found.targets[0].price is not None


def test_no_model_has_two_retirement_days() -> None:
    names = [(row.provider_id, model) for row in RETIREMENTS for model in row.models]
    assert len(names) == len(set(names))
