"""The official `openai` SDK against the running gateway: only the base URL changes."""

import openai
import pytest

from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record

pytestmark = pytest.mark.databases


def test_it_lists_models(sdk_client: openai.OpenAI) -> None:
    assert [model.id for model in sdk_client.models.list()] == ["demo/chat", "demo/embed"]
    assert sdk_client.models.retrieve("demo/chat").owned_by == "demo"


@pytest.mark.parametrize("model", ["demo/chat", "gpt-4o-mini"])
def test_it_completes(sdk_client: openai.OpenAI, model: str) -> None:
    response = sdk_client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=5
    )
    assert response.choices[0].message.content and response.usage
    assert only_record().prompt_tokens == response.usage.prompt_tokens


@pytest.mark.parametrize("model", ["demo/chat", "gpt-4o-mini"])
def test_it_streams_and_reports_usage_only_if_requested(sdk_client: openai.OpenAI, model: str) -> None:
    for include_usage in (False, True):
        options = {"stream_options": {"include_usage": True}} if include_usage else {}
        stream = sdk_client.chat.completions.create(  # type: ignore[call-overload]
            model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, stream=True, **options
        )
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert bool(chunks[-1].usage) == include_usage
    assert only_record(2).cost_nano > 0


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_it_embeds(sdk_client: openai.OpenAI, encoding: str) -> None:
    response = sdk_client.embeddings.create(
        model="demo/embed",
        input=["one", "two", "one"],
        encoding_format=encoding,  # type: ignore[arg-type]
    )
    first, second, third = (item.embedding for item in response.data)
    assert first == third != second
    record = only_record()
    assert (record.operation, record.prompt_tokens, record.output_tokens) == (
        "embeddings",
        response.usage.prompt_tokens,
        0,
    )
    assert record.cost_nano == record.prompt_tokens * 1000


def test_it_raises_its_own_error_classes(sdk_client: openai.OpenAI, live_gateway: LiveGateway) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk_client.chat.completions.create(model="gemini/none", messages=[{"role": "user", "content": "Hi"}])
    assert missing.value.type == "unknown_model"
    with pytest.raises(openai.AuthenticationError):
        sdk_client.with_options(api_key="sk-wrong").models.list()
    with pytest.raises(openai.APIError, match="could not be reached"):
        list(
            sdk_client.chat.completions.create(
                model="demo/chat",
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                extra_body={"demo": {"fail_after": 1, "delay_ms": 0}},
            )
        )


def test_it_does_not_retry_when_the_budget_is_exhausted(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    demo_project.budgets.create(key=key, period="day", limit_nano=1)
    sdk_client = openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=token, max_retries=3)
    with sdk_client, pytest.raises(openai.RateLimitError) as error:
        sdk_client.chat.completions.create(model="demo/chat", messages=[{"role": "user", "content": "Hi"}])
    assert error.value.code == "insufficient_quota"
    only_record(1)
