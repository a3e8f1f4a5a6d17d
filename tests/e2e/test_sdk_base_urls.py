"""Official SDKs reach the gateway with every common form of its base URL."""

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from openai.types.chat import ChatCompletionMessageParam

from tests.support.live_gateway import LiveGateway
from tests.support.upstream_server import LocalUpstream

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "base", ["/v1", "/v1/", "", "/", "/openai/v1", "/openai", "/v1beta/openai/", "/v1/v1"]
)
def test_openai_sdk(live_gateway: LiveGateway, token: str, base: str) -> None:
    with openai.OpenAI(base_url=live_gateway.url + base, api_key=token, max_retries=0) as client:
        answer = client.chat.completions.create(model="demo/chat", messages=MESSAGES)
        assert answer.choices[0].message.content
        assert client.responses.create(model="demo/chat", input="Hi").output_text
        assert len(client.embeddings.create(model="demo/embed", input="Hi").data) == 1
        assert "demo/chat" in [model.id for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="Unknown path"):
            client.files.list()


@pytest.mark.parametrize("endpoint", ["", "/"])
@pytest.mark.parametrize("deployment", [None, "demo/chat"])
def test_azure_sdk(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str, endpoint: str, deployment: str | None
) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=live_gateway.url + endpoint,
        azure_deployment=deployment,
        api_key=token,
        api_version="2024-10-21",
        max_retries=0,
    ) as client:
        answer = client.chat.completions.create(model="demo/chat", messages=MESSAGES)
        assert answer.choices[0].message.content
        assert client.responses.create(model="demo/chat", input="Hi").output_text
        if deployment is None:
            assert len(client.embeddings.create(model="demo/embed", input="Hi").data) == 1
            assert client.completions.create(model="openai/m", prompt="Hi").id
        with pytest.raises(openai.NotFoundError, match="Unknown path"):
            client.images.generate(model="demo/chat", prompt="Hi")


@pytest.mark.parametrize("base", ["", "/", "/v1", "/anthropic", "/anthropic/", "/anthropic/v1"])
def test_anthropic_sdk(live_gateway: LiveGateway, token: str, base: str) -> None:
    with anthropic.Anthropic(base_url=live_gateway.url + base, api_key=token, max_retries=0) as client:
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]
        assert client.messages.create(model="demo/chat", max_tokens=5, messages=messages).content
        assert client.messages.count_tokens(model="demo/chat", messages=messages).input_tokens
        with pytest.raises(anthropic.NotFoundError, match="Unknown path") as failure:
            client.messages.batches.list()
        assert failure.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


@pytest.mark.parametrize("version", ["v1beta", "v1", "v1alpha"])
@pytest.mark.parametrize("base", ["", "/", "/gemini", "/gemini/", "/v1beta", "/v1"])
def test_google_sdk(live_gateway: LiveGateway, token: str, base: str, version: str) -> None:
    options = types.HttpOptions(base_url=live_gateway.url + base, api_version=version)
    with genai.Client(api_key=token, http_options=options) as client:
        assert client.models.generate_content(model="demo/chat", contents="Hi").text
        assert client.models.embed_content(model="demo/embed", contents="Hi").embeddings
        with pytest.raises(genai.errors.ClientError, match="Unknown path"):
            client.files.list()
