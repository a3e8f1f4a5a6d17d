"""Routes over the REST API: their targets and rules are JSON, and the page's form validates them."""

import pytest

from keys.models import ApiKey
from projects.models import Project
from proxy.models import Route
from proxy.routing.routes.forms import RouteForm
from tests.support.api_client import ApiClient

PATH = "projects/acme/routes"
TARGETS = [{"provider": "openai", "model": "gpt-4o", "weight": 3, "timeout": "60s"}, {"provider": "openai"}]


@pytest.fixture(autouse=True)
def credential(project: Project) -> None:
    project.credentials.create(slug="openai", provider="openai")


def test_a_route_is_returned_as_it_was_created(owner_api: ApiClient, key: ApiKey) -> None:
    rule = {
        "keys": [key.public_id],
        "headers": {"x-tier": "gold"},
        "metadata": {"team": "search"},
        "minInputTokens": 10,
        "capabilities": ["vision"],
    }
    body = {
        "name": "smart",
        "strategy": "weighted",
        "targets": TARGETS,
        "fallbacks": ["openai/gpt-4o-mini"],
        "rule": rule,
        "retryAttempts": 0,
    }
    reply = owner_api.post(PATH, body)
    assert reply.status == 201, reply.body
    assert reply.data["targets"] == [TARGETS[0], {"provider": "openai", "model": ""}]
    assert {
        name: reply.data[name] for name in ("name", "strategy", "fallbacks", "rule", "retryAttempts")
    } == {name: body[name] for name in ("name", "strategy", "fallbacks", "rule", "retryAttempts")}
    assert owner_api.get(f"{PATH}/{reply.data['id']}").data == reply.data
    assert owner_api.get(PATH).data == [reply.data]


def test_a_change_keeps_all_other_fields(owner_api: ApiClient) -> None:
    created = owner_api.post(PATH, {"name": "smart", "targets": TARGETS, "rule": {"minInputTokens": 5}}).data
    changed = owner_api.patch(f"{PATH}/{created['id']}", {"rule": {"capabilities": ["tools"]}}).data
    assert changed == created | {"rule": {"minInputTokens": 5, "capabilities": ["tools"]}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"targets": [{"provider": "a b"}]}, "targets.0.provider"),
        ({"targets": [{"provider": "openai/gpt-4o"}]}, "targets.0.provider"),
        ({"targets": [{"provider": "openai", "model": "x weight=9"}]}, "targets.0.model"),
        ({"targets": [{"provider": "openai", "weight": 0}]}, "targets.0.weight"),
        ({"targets": [{"model": "gpt-4o"}]}, "targets.0.provider"),
        ({"targets": "openai/gpt-4o"}, "targets"),
        ({"targets": [5]}, "targets.0"),
        ({"rule": {"keys": ["unknown"]}}, "rule.keys"),
        ({"rule": {"headers": {"a:b": "c"}}}, "rule.headers"),
        ({"rule": {"headers": {"a": "b\nc: d"}}}, "rule.headers.a"),
        ({"rule": {"nothing": 1}}, "rule.nothing"),
        ({"rule": []}, "rule"),
        ({"strategy": "random"}, "strategy"),
    ],
)
def test_invalid_field_is_named(owner_api: ApiClient, change: dict[str, object], field: str) -> None:
    reply = owner_api.post(PATH, {"name": "smart", "targets": TARGETS} | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])
    assert not Route.objects.exists()


def test_a_route_that_cannot_work_is_refused_with_the_reason_of_the_page(
    owner_api: ApiClient, project: Project
) -> None:
    reply = owner_api.post(PATH, {"name": "smart", "targets": [{"provider": "nobody", "model": "x"}]})
    page = RouteForm({"name": "smart", "strategy": "ordered", "target_lines": "nobody/x"}, project=project)
    assert reply.status == 400
    assert reply.error["message"] == " ".join(map(str, page.non_field_errors()))


def test_a_changed_target_needs_a_provider_too(owner_api: ApiClient) -> None:
    created = owner_api.post(PATH, {"name": "smart", "targets": TARGETS}).data
    reply = owner_api.patch(f"{PATH}/{created['id']}", {"targets": [{"model": "gpt-4o"}]})
    assert (reply.status, list(reply.error["fields"])) == (400, ["targets.0.provider"])


def test_a_deleted_route_is_gone(owner_api: ApiClient) -> None:
    created = owner_api.post(PATH, {"name": "smart", "targets": TARGETS}).data
    assert owner_api.delete(f"{PATH}/{created['id']}").status == 200
    assert not Route.objects.exists()
