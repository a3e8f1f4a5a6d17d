"""Embeddings for clients of one format from providers of another."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from google import genai
from google.genai import types

from keys.models import ApiKey
from projects.models import Project
from proxy.formats.gemini.embeddings import BatchEmbedContentsRequest, EmbedContentRequest
from proxy.formats.neutral import InvalidRequest, InvalidUpstreamResponse, UnsupportedFeature, Usage
from proxy.formats.openai_chat import embeddings
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream


@pytest.fixture
def key(demo_project: Project, upstream: LocalUpstream) -> str:
    credential = Credential(project=demo_project, slug="other", provider="compatible", base_url=upstream.url)
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(demo_project, "sdk")[1]


@pytest.fixture
def embeds(upstream: LocalUpstream) -> None:
    """Serve a provider that returns vectors out of order; the first text gets [0.0, 0.5]."""

    async def respond(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        data = [
            {"object": "embedding", "index": index, "embedding": [float(index), 0.5]}
            for index in range(len(body["input"]))
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return web.json_response(
            {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}
        )

    upstream.handler = respond


def google(live_gateway: LiveGateway, key: str) -> genai.Client:
    options = types.HttpOptions(
        base_url=live_gateway.url, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
def gemini(live_gateway: LiveGateway, key: str) -> Iterator[genai.Client]:
    with google(live_gateway, key) as client:
        yield client


def sent(upstream: LocalUpstream) -> Any:
    (call,) = upstream.requests
    assert call.path == "/v1/embeddings"
    return json.loads(call.body)


def test_google_sdk_gets_vectors_of_an_openai_provider(
    gemini: genai.Client, upstream: LocalUpstream, embeds: None
) -> None:
    config = types.EmbedContentConfig(output_dimensionality=2, task_type="RETRIEVAL_QUERY")
    response = gemini.models.embed_content(model="other/m", contents=["Hi", "Grüße"], config=config)
    assert [embedding.values for embedding in response.embeddings or []] == [[0.0, 0.5], [1.0, 0.5]]
    assert sent(upstream) == {"model": "m", "input": ["Hi", "Grüße"], "dimensions": 2}
    assert response.sdk_http_response is not None and response.sdk_http_response.headers is not None
    assert response.sdk_http_response.headers["x-gateway-dropped"] == "taskType"
    record = only_record()
    assert (record.operation, record.outcome, record.prompt_tokens, record.output_tokens) == (
        "embed_batch",
        "ok",
        7,
        0,
    )
    assert not record.estimated


def test_each_content_gets_one_vector(
    live_gateway: LiveGateway, upstream: LocalUpstream, key: str, embeds: None
) -> None:
    request_body = {"content": {"parts": [{"text": "Hi "}, {"text": "there"}]}}
    url = f"{live_gateway.url}/gemini/v1beta/models/other/m:embedContent"
    response = httpx.post(url, json=request_body, headers={"x-goog-api-key": key})
    assert response.json() == {"embedding": {"values": [0.0, 0.5]}, "usageMetadata": {"promptTokenCount": 7}}
    assert sent(upstream) == {"model": "m", "input": ["Hi there"]}
    assert "x-gateway-dropped" not in response.headers
    assert only_record().operation == "embed"


def test_error_uses_google_error_format(gemini: genai.Client, upstream: LocalUpstream) -> None:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(
            {"error": {"message": "No such model.", "code": "model_not_found"}}, status=404
        )

    upstream.handler = respond
    with pytest.raises(genai.errors.ClientError, match="NOT_FOUND") as rejected:
        gemini.models.embed_content(model="other/m", contents="Hi")
    assert rejected.value.message == "No such model."
    assert only_record().outcome == "upstream_error"


def test_non_text_input_is_rejected_in_google_error_format(
    gemini: genai.Client, upstream: LocalUpstream
) -> None:
    image_part = types.Part.from_bytes(data=b"x", mime_type="image/png")
    with pytest.raises(genai.errors.ClientError, match="INVALID_ARGUMENT"):
        gemini.models.embed_content(model="other/m", contents=[types.Content(parts=[image_part])])
    assert upstream.requests == []


def test_demo_embeddings_for_google_sdk_stay_within_the_reservation(
    live_gateway: LiveGateway, token: str
) -> None:
    with google(live_gateway, token) as client:
        response = client.models.embed_content(model="demo/embed", contents=["Hi", "Hi", "Ho"])
        first, second, third = [embedding.values for embedding in response.embeddings or []]
    assert first == second != third
    record = only_record()
    assert record.prompt_tokens == 6 and not record.estimated


def test_fewer_vectors_than_texts_is_an_invalid_response(
    gemini: genai.Client, upstream: LocalUpstream
) -> None:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"data": [{"index": 0, "embedding": [0.5]}]})

    upstream.handler = respond
    with pytest.raises(genai.errors.ServerError, match="1 embeddings for 2 texts"):
        gemini.models.embed_content(model="other/m", contents=["Hi", "Ho"])


def test_settings_are_read_in_both_spellings() -> None:
    call = EmbedContentRequest(
        b'{"content": {"parts": [{"text": "x"}]}, "output_dimensionality": 8,'
        b' "title": "T", "taskType": null}',
        "m",
    )
    assert (call.texts(), call.dimensions(), call.unsupported_settings()) == (["x"], 8, ["title"])


def one(text: str, **more: Any) -> dict[str, Any]:
    return {"content": {"parts": [{"text": text}]}, **more}


@pytest.mark.parametrize(
    ("requests", "error"),
    [
        ([one("x", outputDimensionality=8), one("y")], UnsupportedFeature),
        ([one("x", outputDimensionality=0)], InvalidRequest),
        ([{"content": {"parts": []}}], UnsupportedFeature),
        ([{"content": {"parts": [{"text": 7}]}}], UnsupportedFeature),
        ([{"content": {}}], UnsupportedFeature),
    ],
)
def test_unconvertible_embedding_settings_are_rejected(
    requests: list[dict[str, Any]], error: type[InvalidRequest]
) -> None:
    call = BatchEmbedContentsRequest(json.dumps({"requests": requests}).encode(), "m")
    with pytest.raises(error):
        call.texts(), call.dimensions()


def test_base64_vectors_are_decoded() -> None:
    vectors, usage = embeddings.parse_embed_response(
        b'{"data": [{"embedding": "AAAAPwAAgD8="}], "usage": {"prompt_tokens": 3}}'
    )
    assert (vectors, usage) == ([[0.5, 1.0]], Usage(input=3))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"data": []}',
        b'{"data": [{"embedding": "A"}]}',
        b'{"data": [{"embedding": "AAAAAAAA"}]}',
    ],
)
def test_response_without_vectors_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidUpstreamResponse):
        embeddings.parse_embed_response(body)
