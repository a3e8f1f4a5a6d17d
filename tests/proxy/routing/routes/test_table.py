"""Names resolve to ordered targets: by routes, credentials in turn, rules and fallbacks."""

import time
from collections import Counter

import pytest

from proxy.errors import GatewayError
from proxy.models.route_definitions import RouteDefinition, RuleDefinition, TargetDefinition
from proxy.routing import config_file
from proxy.routing.routes.builder import build_table
from tests.proxy.routing.routes.conftest import Given, account
from tests.support.operator_accounts import resolution

OPENAI, SECOND = account("openai"), account("openai-2", "openai")
ANTHROPIC, GEMINI = account("anthropic"), account("gemini")


def to(*targets: str, name: str = "smart", **fields: object) -> RouteDefinition:
    """Return a route whose targets are written as `provider/model`."""
    parts = [target.partition("/") for target in targets]
    definitions = tuple(TargetDefinition(provider, model) for provider, _, model in parts)
    return RouteDefinition(name, definitions, **fields)  # type: ignore[arg-type]


def named(*routes: RouteDefinition, model: str = "smart", own: tuple = (OPENAI, ANTHROPIC)) -> list[str]:  # type: ignore[type-arg]
    found = resolution(model, own, routes=routes)
    return [f"{target.account.slug}/{target.model}" for target in found.targets]


def test_a_route_lists_its_targets_and_then_those_of_its_fallbacks() -> None:
    route = to("openai/gpt-5.4", fallbacks=("cheap", "anthropic/claude-opus-5", "gpt-6-luna"))
    cheap = to("openai/gpt-5.4-mini", name="cheap")
    assert named(route, cheap) == [
        "openai/gpt-5.4",
        "openai/gpt-5.4-mini",
        "anthropic/claude-opus-5",
        "openai/gpt-6-luna",
    ]


def test_other_models_than_the_first_are_marked_as_substitutes() -> None:
    route = to("openai/gpt-5.4", "azure/gpt-5.4", fallbacks=("anthropic/claude-opus-5",))
    azure = account("azure", base_url="https://acme.openai.azure.com")
    found = resolution("smart", (OPENAI, ANTHROPIC, azure), routes=(route,))
    assert [target.is_substitute for target in found.targets] == [False, False, True]


def test_a_route_precedes_a_listed_model_and_a_prefix() -> None:
    for name in ("gpt-5.4", "openai/gpt-5.4"):
        assert named(to("anthropic/claude-opus-5", name=name), model=name) == ["anthropic/claude-opus-5"]


def test_a_target_keeps_the_name_of_the_route_and_its_timeout() -> None:
    route = RouteDefinition("gpt-5.4", (TargetDefinition("openai", timeout="90s"),), retry_attempts=0)
    found = resolution("gpt-5.4", (OPENAI,), routes=(route,))
    assert (found.targets[0].model, found.targets[0].timeout_s, found.retry_attempts) == ("gpt-5.4", 90, 0)


def test_credentials_of_one_provider_are_used_in_turn() -> None:
    table = build_table((), (OPENAI, SECOND), (), config_file.load())
    orders = [
        [each.slug for each in table.find("openai/gpt-5.4", None).targets[0].pool.next_order()]
        for _ in range(4)
    ]
    assert orders == [["openai", "openai-2"], ["openai-2", "openai"]] * 2


def test_a_credential_is_named_alone_and_at_another_server_is_not_mixed_in() -> None:
    elsewhere = account("eu", "openai", base_url="https://eu.example/v1")
    own = (OPENAI, SECOND, elsewhere)
    assert sorted(named(model="openai/gpt-5.4", own=own)) == ["openai-2/gpt-5.4", "openai/gpt-5.4"]
    assert named(model="openai-2/gpt-5.4", own=own) == ["openai-2/gpt-5.4"]
    assert named(model="eu/gpt-5.4", own=own) == ["eu/gpt-5.4"]


def test_a_credential_that_cannot_be_decrypted_is_left_out() -> None:
    broken = account("openai-2", "openai", secret=None)
    assert named(model="openai/gpt-5.4", own=(OPENAI, broken)) == ["openai/gpt-5.4"]
    with pytest.raises(GatewayError, match="cannot be decrypted"):
        named(model="openai/gpt-5.4", own=(broken,))


def test_the_first_route_whose_rule_matches_serves_a_request(given: Given) -> None:
    for_key = to("openai/gpt-5.4-mini", rule=RuleDefinition(keys=("key1",)))
    for_all = to("anthropic/claude-opus-5")
    for key, served in (("key1", "gpt-5.4-mini"), ("key2", "claude-opus-5")):
        found = resolution("smart", (OPENAI, ANTHROPIC), routes=(for_all, for_key), given=given(key))
        assert found.targets[0].model == served


def test_a_name_with_an_unknown_prefix_goes_to_no_provider_by_its_rest() -> None:
    own = (OPENAI, ANTHROPIC, GEMINI)
    for rest in ("claude-opus-4-5", "gpt-5.4", "gemini-3.8-flash"):
        with pytest.raises(GatewayError, match=f"b4 is neither .* Call the model as {rest} or") as error:
            named(model=f"b4/{rest}", own=own)
        assert (error.value.status, error.value.api_error.code) == (404, "model_not_found")


def test_a_model_of_anthropic_does_not_go_to_google_alone() -> None:
    assert named(model="claude-opus-4-5", own=(GEMINI, ANTHROPIC)) == ["anthropic/claude-opus-4-5"]
    with pytest.raises(GatewayError):
        named(model="claude-opus-4-5", own=(OPENAI, GEMINI))


def test_a_request_that_meets_no_rule_gets_the_reason(given: Given) -> None:
    with pytest.raises(GatewayError, match="routes have rules") as error:
        resolution(
            "smart",
            (OPENAI, ANTHROPIC),
            routes=(to("openai/x", rule=RuleDefinition(keys=("other",))),),
            given=given(),
        )
    assert error.value.status == 404


def test_a_route_without_credentials_is_named_in_the_error() -> None:
    with pytest.raises(GatewayError, match="The route smart of this project cannot be used") as error:
        named(to("gemini/gemini-3.8-flash"))
    assert (error.value.status, error.value.api_error.code) == (404, "invalid_route")
    assert "needs a credential for Google Gemini" in str(error.value)


def test_what_is_left_of_a_route_serves_requests() -> None:
    assert named(to("gemini/x", "openai/y")) == ["openai/y"]
    assert named(to("gemini/x", fallbacks=("missing", "anthropic/z"))) == ["anthropic/z"]


def test_fallbacks_that_loop_end() -> None:
    first, second = to("openai/a", name="a", fallbacks=("b",)), to("openai/b", name="b", fallbacks=("a",))
    assert named(first, second, model="a") == ["openai/a", "openai/b"]


def test_only_routes_that_lead_into_a_loop_are_searched_for_one() -> None:
    """Routes of a long chain are not searched. A search from each of them would take quadratic time."""
    chain = [to("openai/x", name=f"m{number}", fallbacks=(f"m{number + 1}",)) for number in range(999)]
    loop = [to("openai/a", name="a", fallbacks=("b",)), to("openai/b", name="b", fallbacks=("a", "m0"))]
    before = to("openai/c", name="c", fallbacks=("a",))
    table = build_table(
        [*chain, *loop, before, to("openai/x", name="m999")], (OPENAI,), (), config_file.load()
    )
    assert table.names_before_loops == {"a", "b", "c"}
    problems = {name: table.routes[name][0].problems for name in ("a", "b", "c", "m0")}
    assert problems == {
        "a": ("Its fallbacks loop: a → b → a.",),
        "b": ("Its fallbacks loop: b → a → b.",),
        "c": (),
        "m0": (),
    }


def test_a_lookup_among_many_routes_takes_as_long_as_in_one() -> None:
    """Compare the best of many lookups. The table is built before."""

    def best(count: int) -> float:
        routes = [to("openai/x", name=f"m{number}") for number in range(count)]
        table = build_table(routes, (OPENAI,), (), config_file.load())
        times = []
        for _ in range(200):
            started_at = time.perf_counter()
            table.find("m0", None)
            times.append(time.perf_counter() - started_at)
        return min(times)

    assert best(1000) < 5 * best(1) + 1e-5


def test_weights_decide_how_often_a_target_is_first() -> None:
    targets = (TargetDefinition("openai", "a", 9), TargetDefinition("openai", "b", 1))
    route = RouteDefinition("smart", targets, strategy="weighted")
    first = Counter(named(route)[0] for _ in range(400))
    assert 320 < first["openai/a"] < 395
