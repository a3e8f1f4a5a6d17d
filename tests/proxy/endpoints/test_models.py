"""Models that `GET /v1/models/<name>` finds."""

import httpx
import pytest

pytestmark = pytest.mark.databases


@pytest.mark.parametrize("model", ["no-such-model", "anything/else", "demo/nothing"])
def test_unknown_model_is_a_404_despite_a_default_account(gateway: httpx.Client, model: str) -> None:
    response = gateway.get(f"/v1/models/{model}")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "unknown_model")


@pytest.mark.parametrize(
    ("model", "owner"),
    [
        ("demo/chat", "demo"),
        ("demo/embed", "demo"),
        ("gpt-4o-mini", "openai"),
        ("openai/my-own-model", "openai"),
    ],
)
def test_listed_priced_and_prefixed_names_are_found(gateway: httpx.Client, model: str, owner: str) -> None:
    response = gateway.get(f"/v1/models/{model}").json()
    assert (response["id"], response["owned_by"]) == (model, owner)
