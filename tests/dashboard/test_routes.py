"""Pages of routes."""

import datetime as dt

import pytest
from django.http import HttpResponse
from django.urls import reverse

from keys.models import ApiKey
from projects.models import Project, User
from proxy.models import Credential, Route
from proxy.routing.accounts import load_accounts
from proxy.routing.health.published import Problem, PublishedHealth
from proxy.routing.health.target_health import health
from proxy.routing.routes import forms, model_life
from proxy.routing.targets import Target
from tests.support.factories import signed_in

FORM = {"name": "smart", "target_lines": "openai/gpt-6-luna", "strategy": "ordered"}


def create(user: User, project: Project, **fields: object) -> HttpResponse:
    address = reverse("route-new", args=[project.slug])
    return signed_in(user).post(address, {**FORM, **fields})  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def release_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pages show the models of one day."""
    monkeypatch.setattr(model_life, "today", lambda: dt.date(2026, 12, 1))


def listing(user: User, project: Project) -> str:
    return signed_in(user).get(reverse("route-list", args=[project.slug])).content.decode()


def test_a_saved_route_has_all_that_the_form_says(
    project: Project, credential: Credential, key: ApiKey, alice: User
) -> None:
    fields = {
        "target_lines": "openai/gpt-6-luna weight=3 timeout=30s\nopenai/gpt-6-sol",
        "fallback_lines": "demo/chat",
        "strategy": "weighted",
        "rule_keys": key.public_id,
        "rule_headers": "x-tier: gold",
        "rule_metadata": "team: search",
        "min_input_tokens": "100",
        "capabilities": ["vision"],
        "retry_attempts": "0",
        "retries_context_length": "on",
    }
    assert create(alice, project, **fields).status_code == 302
    route = Route.objects.get()
    definition = route.definition()
    assert [(each.model, each.weight, each.timeout_s) for each in definition.targets] == [
        ("gpt-6-luna", 3, 30),
        ("gpt-6-sol", 1, None),
    ]
    assert (definition.fallbacks, definition.strategy, definition.retry_attempts) == (
        ("demo/chat",),
        "weighted",
        0,
    )
    assert definition.retries_context_length and definition.retry_delay_ms is None
    rule = definition.rule
    assert (rule.keys, rule.headers, rule.metadata) == (
        (key.public_id,),
        {"x-tier": "gold"},
        {"team": "search"},
    )
    assert (rule.min_input_tokens, rule.max_input_tokens, rule.capabilities) == (100, None, ("vision",))
    page = listing(alice, project)
    for text in ("openai/gpt-6-luna", "weight 3", "header x-tier: gold", "needs vision", "demo/chat"):
        assert text in page
    assert "invalid" not in page


def test_the_edit_form_shows_and_keeps_what_was_saved(
    project: Project, credential: Credential, alice: User
) -> None:
    lines = "openai/gpt-6-luna weight=3 timeout=30s"
    create(alice, project, target_lines=lines, rule_headers="x-tier: gold")
    route = Route.objects.get()
    address = reverse("route-edit", args=[project.slug, route.pk])
    page = signed_in(alice).get(address).content.decode()
    assert lines in page and "x-tier: gold" in page
    changed = {**FORM, "target_lines": lines, "rule_headers": "x-tier: gold", "name": "clever"}
    assert signed_in(alice).post(address, changed).status_code == 302
    route.refresh_from_db()
    assert (route.name, route.rule) == ("clever", {"headers": {"x-tier": "gold"}})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "This field is required."),
        ({"target_lines": ""}, "It has no target."),
        ({"target_lines": "gemini/gemini-3.8-flash"}, "needs a credential for Google Gemini"),
        ({"target_lines": "nobody/x"}, "needs a credential for nobody"),
        ({"target_lines": "openai/x colour=red"}, "is not weight=NUMBER or timeout=DURATION"),
        ({"target_lines": "openai/x weight=many"}, "is not a number"),
        ({"target_lines": "openai/x weight=0"}, "&gt;= 1"),
        ({"target_lines": "openai/x timeout=soon"}, "is not a duration such as 90s"),
        ({"target_lines": "\n".join(f"openai/{n}" for n in range(17))}, "at most 16 targets"),
        ({"target_lines": "openai/gpt-6-luna\nopenai/text-embedding-3-small"}, "mixes embedding models"),
        ({"strategy": "fastest"}, "Select a valid choice"),
        ({"fallback_lines": "smart"}, "Its fallbacks loop: smart → smart."),
        ({"fallback_lines": "gemini/x"}, "The fallback gemini/x cannot be used"),
        ({"fallback_lines": "\n".join(f"openai/{n}" for n in range(17))}, "at most 16 fallbacks"),
        ({"rule_keys": "nobody"}, "no API key nobody"),
        ({"rule_headers": "x-tier"}, "is not written as name: value"),
        ({"rule_headers": "x-ä: a"}, "is not the name of a header"),
        ({"min_input_tokens": "9", "max_input_tokens": "8"}, "min_input_tokens is more than max_input"),
        ({"name": "sk-gw_aaaa"}, "looks like an API key"),
        ({"min_input_tokens": "-1"}, "greater than or equal to 0"),
        ({"retry_attempts": "11"}, "&lt;= 10"),
        ({"retry_delay_ms": "60001"}, "&lt;= 60000"),
    ],
)
def test_a_route_that_cannot_work_is_refused_with_the_reason(
    project: Project, credential: Credential, alice: User, fields: dict[str, str], reason: str
) -> None:
    response = create(alice, project, **fields)
    assert response.status_code == 200 and reason in response.content.decode()
    assert not Route.objects.exists()


def test_routes_that_loop_over_each_other_are_refused(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project)
    create(alice, project, name="second", fallback_lines="smart")
    route = Route.objects.get(name="smart")
    address = reverse("route-edit", args=[project.slug, route.pk])
    page = signed_in(alice).post(address, {**FORM, "fallback_lines": "second"}).content.decode()
    assert "Its fallbacks loop: smart → second → smart." in page
    route.refresh_from_db()
    assert route.fallbacks == []


def test_two_routes_with_a_name_need_different_rules(
    project: Project, credential: Credential, alice: User
) -> None:
    assert create(alice, project).status_code == 302
    assert "already has a route with this name" in create(alice, project).content.decode()
    assert create(alice, project, rule_headers="x-tier: gold").status_code == 302


def test_the_number_of_routes_is_limited(
    project: Project, credential: Credential, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MAX_ROUTES", 1)
    assert create(alice, project).status_code == 302
    assert "at most 1 routes" in create(alice, project, name="second").content.decode()


def test_a_route_that_lost_its_credential_is_shown_as_invalid(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project)
    assert "badge--danger" not in listing(alice, project)
    credential.delete()
    page = listing(alice, project)
    assert "badge--danger" in page and "It needs a credential for OpenAI." in page


def test_a_route_whose_key_was_deleted_is_shown_as_invalid(
    project: Project, credential: Credential, key: ApiKey, alice: User
) -> None:
    create(alice, project, rule_keys=key.public_id)
    key.delete()
    assert f"Its rule names the API key {key.public_id}, which was deleted." in listing(alice, project)


def test_a_retiring_target_is_named_with_its_day(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project, target_lines="openai/gpt-4o-mini\nopenai/gpt-3.5-turbo")
    page = listing(alice, project)
    assert "retired, served by gpt-5.6-terra" in page


def test_a_target_that_fails_is_shown_with_the_state_of_its_breaker(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project)
    account = load_accounts(project.pk)[0]
    known = health.of(project.pk, Target(account, "gpt-6-luna", None))
    known.breaker.open(health.clock() + 60)
    page = listing(alice, project)
    assert "failing" in page and "openai fails, and its circuit breaker is open." in page
    known.breaker.close()
    known.credential.is_usable, known.credential.reason = False, "You have no credit."
    assert "The provider rejects openai: You have no credit." in listing(alice, project)


def test_a_row_shows_what_other_processes_have_published(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project)
    (account,) = load_accounts(project.pk)
    unknown = health.look_up(project.pk, account, "gpt-6-luna")
    problem = Problem(health.clock() + 60, "You have no credit.")
    health.take_over(PublishedHealth({unknown.id: problem}))
    assert "openai fails, and its circuit breaker is open." in listing(alice, project)
    health.take_over(PublishedHealth({}, {unknown.credential_id: problem}))
    assert "The provider rejects openai: You have no credit." in listing(alice, project)
    health.take_over(PublishedHealth({}, {}, {unknown.id: problem}))
    assert "openai has no access to this model: You have no credit." in listing(alice, project)


def test_delete_asks_for_confirmation(project: Project, credential: Credential, alice: User) -> None:
    create(alice, project)
    address = reverse("route-delete", args=[project.slug, Route.objects.get().pk])
    assert "Delete this route?" in signed_in(alice).get(address).content.decode()
    assert signed_in(alice).post(address).status_code == 302
    assert not Route.objects.exists()


def test_members_see_routes_but_cannot_change_them(
    project: Project, credential: Credential, alice: User, bob: User
) -> None:
    create(alice, project)
    page = listing(bob, project)
    assert "smart" in page and "Edit" not in page and "New route" not in page
    assert create(bob, project, name="other").status_code == 403


def test_routes_of_another_project_are_hidden(
    project: Project, credential: Credential, alice: User, charlie: User
) -> None:
    create(alice, project)
    other = Project.objects.create_with_owner("Charlie's", owner=charlie)
    assert "smart" not in listing(charlie, other)


def test_the_models_page_lists_what_models_can_do(
    project: Project, credential: Credential, alice: User
) -> None:
    create(alice, project)
    page = signed_in(alice).get(reverse("model-list", args=[project.slug])).content.decode()
    for text in (
        "smart",
        "gpt-4o-mini",
        "demo/chat",
        "128,000",
        "16,384",
        "2027-01-14",
        "gpt-6-sol",
        "$0.15",
    ):
        assert text in page
    assert "gpt-3.5-turbo" not in page
