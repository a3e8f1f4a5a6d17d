"""Ids of objects in a provider's account, found in requests and in responses."""

from typing import Any

import msgspec
import pytest

from proxy.formats.account_ids import IdReader
from proxy.formats.anthropic.account_ids import MessagesIdReader
from proxy.formats.anthropic.count_tokens import CountTokensRequest as CountMessages
from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.gemini.count_tokens import CountTokensRequest
from proxy.formats.gemini.embeddings import BatchEmbedContentsRequest, EmbedContentRequest
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.openai_chat.account_ids import ChatIdReader
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.openai_responses.passthrough import ResponsesRequest

DEPTH = 900
encode = msgspec.json.encode


def named(incoming: ClientRequest) -> set[tuple[str, str]]:
    return {(reference.kind, reference.id) for reference in incoming.references()}


def responses(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest(encode({"model": "gpt-5", "input": "Hi"} | fields))


def chat(*content: Any, **fields: Any) -> ChatRequest:
    return ChatRequest(
        encode({"model": "gpt-5", "messages": [{"role": "user", "content": list(content)}]} | fields)
    )


def messages(*content: Any, **fields: Any) -> MessagesRequest:
    body = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": list(content)}]}
    return MessagesRequest(encode(body | fields))


def gemini(*parts: Any, **fields: Any) -> GenerateContentRequest:
    return GenerateContentRequest(
        encode({"contents": [{"role": "user", "parts": list(parts)}]} | fields), "gemini-3"
    )


def part(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [fields]}


OBJECT = {"type": "object", "properties": {"file_id": {"type": "string"}}, "file_id": "none"}
FUNCTION = {"type": "function", "name": "read", "parameters": OBJECT}
CODE = {"type": "code_interpreter"}
ENCRYPTED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c",
    "name": "read",
    "arguments": '{"file_id": "x"}',
}


@pytest.mark.parametrize(
    ("incoming", "expected"),
    [
        (responses(previous_response_id="resp_1"), {("response", "resp_1")}),
        (responses(conversation="conv_1"), {("conversation", "conv_1")}),
        (responses(conversation={"id": "conv_1"}), {("conversation", "conv_1")}),
        (responses(prompt={"id": "pmpt_1", "version": "2"}), {("prompt", "pmpt_1")}),
        (
            responses(
                prompt={"id": "pmpt_1", "variables": {"paper": {"type": "input_file", "file_id": "file-1"}}}
            ),
            {("prompt", "pmpt_1"), ("file", "file-1")},
        ),
        (responses(prompt_cache_options={"comparison_response_id": "resp_1"}), {("response", "resp_1")}),
        (responses(input=[{"type": "item_reference", "id": "msg_1"}]), {("item", "msg_1")}),
        (responses(input=[{"id": "msg_1"}]), {("item", "msg_1")}),
        (responses(input=[{"id": "msg_1", "type": None}]), {("item", "msg_1")}),
        (responses(input=[{"type": "reasoning", "id": "rs_1", "summary": []}]), {("item", "rs_1")}),
        (responses(input=[{"type": "image_generation_call", "id": "ig_1"}]), {("item", "ig_1")}),
        (
            responses(
                input=[{"type": "mcp_approval_response", "approval_request_id": "m1", "approve": True}]
            ),
            {("item", "m1")},
        ),
        (responses(input=[part(type="input_file", file_id="file-1")]), {("file", "file-1")}),
        (responses(input=[part(type="input_image", file_id="file-1")]), {("file", "file-1")}),
        (
            responses(
                input=[
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "input_file", "file_id": "file-1"}],
                    }
                ]
            ),
            {("file", "file-1")},
        ),
        (
            responses(tools=[{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}]),
            {("vector_store", "vs_1"), ("vector_store", "vs_2")},
        ),
        (responses(tools=[CODE | {"container": "cntr_1"}]), {("container", "cntr_1")}),
        (
            responses(tools=[CODE | {"container": {"type": "auto", "file_ids": ["file-1"]}}]),
            {("file", "file-1")},
        ),
        (
            responses(
                tools=[
                    {
                        "type": "shell",
                        "environment": {"type": "container_reference", "container_id": "cntr_1"},
                    }
                ]
            ),
            {("container", "cntr_1")},
        ),
        (
            responses(
                tools=[
                    {
                        "type": "shell",
                        "environment": {
                            "type": "container_auto",
                            "skills": [{"type": "skill_reference", "skill_id": "s1"}],
                        },
                    }
                ]
            ),
            {("skill", "s1")},
        ),
        (
            responses(tools=[{"type": "mcp", "server_label": "a", "tunnel_id": "tun_1"}]),
            {("tunnel", "tun_1")},
        ),
        (
            responses(tools=[{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]),
            {("file", "file-1")},
        ),
        (chat({"type": "file", "file": {"file_id": "file-1"}}), {("file", "file-1")}),
        (chat(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]), {("vector_store", "vs_1")}),
        (chat(tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}}), {("vector_store", "vs_1")}),
        (chat(audio={"format": "mp3", "voice": {"id": "voice_1"}}), {("voice", "voice_1")}),
        (
            ChatRequest(
                encode({"model": "m", "messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]})
            ),
            {("audio", "audio_1")},
        ),
        (
            messages({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
            {("file", "file_1")},
        ),
        (messages({"type": "image", "source": {"type": "file", "file_id": "file_1"}}), {("file", "file_1")}),
        (messages({"type": "container_upload", "file_id": "file_1"}), {("file", "file_1")}),
        (
            messages(
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
                }
            ),
            {("file", "file_1")},
        ),
        (messages(container="container_1"), {("container", "container_1")}),
        (messages(Container="container_1"), {("container", "container_1")}),
        (messages(container={"id": "container_1"}), {("container", "container_1")}),
        (messages(container={"skills": [{"type": "custom", "skill_id": "skill_1"}]}), {("skill", "skill_1")}),
        (messages(thread={"type": "continue", "previous_message_id": "msg_1"}), {("message", "msg_1")}),
        (messages(diagnostics={"previous_message_id": "msg_1"}), {("message", "msg_1")}),
        (messages(user_profile_id="uprof_1"), {("user_profile", "uprof_1")}),
        (CountMessages(messages(container="container_1").body), {("container", "container_1")}),
        (gemini(cachedContent="cachedContents/1"), {("cached_content", "cachedContents/1")}),
        (gemini(cached_content="cachedContents/1"), {("cached_content", "cachedContents/1")}),
        (gemini({"fileData": {"fileUri": "files/abc"}}), {("stored_file", "files/abc")}),
        (gemini({"file_data": {"file_uri": "files/abc"}}), {("stored_file", "files/abc")}),
        (
            gemini(
                {
                    "functionResponse": {
                        "name": "f",
                        "response": {},
                        "parts": [{"fileData": {"fileUri": "files/abc"}}],
                    }
                }
            ),
            {("stored_file", "files/abc")},
        ),
        (
            gemini(systemInstruction={"parts": [{"fileData": {"fileUri": "files/abc"}}]}),
            {("stored_file", "files/abc")},
        ),
        (gemini(tools=[{"fileSearch": {"fileSearchStoreNames": ["s/1"]}}]), {("file_search_store", "s/1")}),
        (gemini(tools={"file_search": {"file_search_store_names": ["s/1"]}}), {("file_search_store", "s/1")}),
        (gemini(tools=[{"retrieval": {"vertexAiSearch": {"datastore": "d"}}}]), {("data_store", "d")}),
        (
            gemini(tools=[{"retrieval": {"vertexRagStore": {"ragResources": [{"ragCorpus": "c"}]}}}]),
            {("rag_corpus", "c")},
        ),
        (
            CountTokensRequest(
                encode({"generateContentRequest": {"cachedContent": "c/1", "contents": []}}), "m"
            ),
            {("cached_content", "c/1")},
        ),
        (
            EmbedContentRequest(
                encode({"content": {"parts": [{"fileData": {"fileUri": "files/abc"}}]}}), "m"
            ),
            {("stored_file", "files/abc")},
        ),
        (
            BatchEmbedContentsRequest(
                encode({"requests": [{"content": {"parts": [{"fileData": {"fileUri": "files/abc"}}]}}]}), "m"
            ),
            {("stored_file", "files/abc")},
        ),
    ],
)
def test_request_names_objects_of_the_account(
    incoming: ClientRequest, expected: set[tuple[str, str]]
) -> None:
    assert named(incoming) == expected


@pytest.mark.parametrize(
    "incoming",
    [
        responses(previous_response_id=None, conversation=None, prompt=None, metadata={"file_id": "mine"}),
        responses(
            tools=[FUNCTION],
            input=[CALL, ENCRYPTED, {"id": "msg_1", "role": "assistant", "content": "Hello"}],
        ),
        responses(input=[{"type": "reasoning", "id": "rs_gateway1", "summary": []}]),
        responses(tools=[{"type": "mcp", "server_label": "mail", "connector_id": "connector_gmail"}]),
        responses(
            tools=[{"type": "shell", "environment": {"skills": [{"skill_id": "openai-spreadsheets"}]}}]
        ),
        chat(
            tools=[{"type": "function", "function": {"name": "read", "parameters": OBJECT}}],
            functions=[OBJECT],
        ),
        chat(
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            audio={"voice": "alloy", "format": "wav"},
        ),
        messages({"type": "text", "text": "Hi"}, tools=[{"name": "read", "input_schema": OBJECT}]),
        messages(
            {"type": "tool_use", "id": "t", "name": "read", "input": {"file_id": "mine", "container": "mine"}}
        ),
        messages(
            container={"skills": [{"type": "anthropic", "skill_id": "pptx"}]}, metadata={"user_id": "u"}
        ),
        gemini({"functionCall": {"name": "read", "args": {"fileUri": "files/mine"}}}),
        gemini({"functionResponse": {"name": "read", "response": {"fileUri": "files/mine"}}}),
        gemini({"text": "Hi"}, tools=[{"functionDeclarations": [{"name": "read", "parameters": OBJECT}]}]),
        CreateCompletionRequest(encode({"model": "m", "prompt": "resp_1"})),
        CreateEmbeddingRequest(encode({"model": "m", "input": "resp_1"})),
    ],
)
def test_other_fields_do_not_name_objects(incoming: ClientRequest) -> None:
    assert named(incoming) == set()


@pytest.mark.parametrize(
    ("uri", "is_public"),
    [
        ("https://example.org/paper.pdf", True),
        ("http://example.org/files/paper.pdf", True),
        ("https://www.youtube.com/watch?v=abc", True),
        ("https://storage.googleapis.com/public/paper.pdf", True),
        ("https://generativelanguage.googleapis.com/v1beta/files/abc", False),
        ("HTTPS://GenerativeLanguage.googleapis.com./v1beta/files/abc", False),
        ("https://user@generativelanguage.googleapis.com:443/v1beta/files/abc", False),
        ("https://gateway.example/v1beta/files/abc-1", False),
        ("https://gateway.example/v1beta/files/abc:download?alt=media", False),
        ("https://us-central1-aiplatform.googleapis.com/v1/x", False),
        ("files/abc", False),
        ("  files/abc", False),
        ("gs://bucket/paper.pdf", False),
        ("https://[", False),
        ("https:", False),
    ],
)
def test_public_urls_do_not_name_files_of_the_account(uri: str, is_public: bool) -> None:
    assert (named(gemini({"fileData": {"fileUri": uri}})) == set()) is is_public


def test_json_of_any_depth_is_searched() -> None:
    deep = b'{"a":' * DEPTH + b'{"vector_store_ids":["vs_1"]}' + b"}" * DEPTH
    body = b'{"model":"m","input":"Hi","tools":[' + deep + b"]}"
    assert named(ResponsesRequest(body)) == {("vector_store", "vs_1")}


# Answers ------------------------------------------------------------------------------------------

VICTIM = {"file_id": "file_victim", "container_id": "cntr_victim", "id": "victim"}
CITED = [
    {"type": "container_file_citation", "container_id": "cntr_2", "file_id": "cfile_1"},
    {"type": "file_citation", "file_id": "file_victim"},
]
OUTPUT = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
    {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "cntr_1"},
    {
        "type": "mcp_list_tools",
        "id": "mcpl_1",
        "tools": [{"input_schema": VICTIM, "annotations": VICTIM} | VICTIM],
    },
    {
        "type": "message",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "Hi", "annotations": CITED}],
    },
]
RESPONSE = {"id": "resp_1", "object": "response", "output": OUTPUT}
BY_CODE = {("container", "cntr_1"), ("container", "cntr_2"), ("file", "cfile_1")}
LOOKED_UP = {("item", "ci_1"), ("item", "mcpl_1")}
STORED = {("response", "resp_1"), ("item", "rs_1"), ("item", "msg_1")}


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode({"type": kind} | fields))


def issued(reader: IdReader, *events: bytes) -> set[tuple[str, str]]:
    for one in events:
        reader.read_event(one)
    return set(reader.issued)


@pytest.mark.parametrize(
    ("keeps", "expected"), [(True, BY_CODE | LOOKED_UP | STORED), (False, BY_CODE | LOOKED_UP)]
)
def test_response_issues_only_ids_that_a_client_cannot_plant(
    keeps: bool, expected: set[tuple[str, str]]
) -> None:
    reader = ResponsesIdReader(can_be_named=keeps)
    reader.read_response(encode(RESPONSE))
    assert set(reader.issued) == expected
    assert (
        issued(ResponsesIdReader(can_be_named=keeps), event("response.completed", response=RESPONSE))
        == expected
    )
    created = event("response.created", response={"id": "resp_1", "output": []})
    items = [event("response.output_item.done", item=item) for item in OUTPUT]
    assert issued(ResponsesIdReader(can_be_named=keeps), created, *items) == expected


def test_conversation_items_are_kept_without_a_limit() -> None:
    reader = ResponsesIdReader(can_be_named=True)
    reader.read_response(encode(RESPONSE | {"conversation": {"id": "conv_1"}}))
    assert (
        reader.issued["conversation", "conv_1"].kept_s is None
        and reader.issued["item", "msg_1"].kept_s is None
    )
    assert reader.issued["response", "resp_1"].kept_s == 30 * 24 * 3600


def test_audio_is_kept_until_the_reported_expiry() -> None:
    reader, streamed = ChatIdReader(), ChatIdReader()
    reader.read_response(
        encode({"choices": [{"message": {"audio": {"id": "audio_1", "expires_at": 1_900_000_000}}}]})
    )
    for audio in ({"id": "audio_1"}, {"data": "AAAA"}, {"expires_at": 1_900_000_000}):
        streamed.read_event(b"data: %s\n\n" % encode({"choices": [{"delta": {"audio": audio}}]}))
    assert reader.issued == streamed.issued
    assert reader.issued["audio", "audio_1"].until == 1_900_000_000


BLOCKS = [
    {
        "type": "bash_code_execution_tool_result",
        "content": {"content": [{"type": "bash_code_execution_output", "file_id": "file_1"}]},
    },
    {
        "type": "mcp_tool_result",
        "content": {"content": [{"type": "code_execution_output", "file_id": "file_victim"}]},
    },
    {"type": "tool_use", "input": VICTIM},
]
MESSAGE = {
    "id": "msg_1",
    "container": {"id": "container_1", "expires_at": "2027-01-01T00:00:00Z"},
    "content": BLOCKS,
}


@pytest.mark.parametrize("keeps", [True, False])
def test_message_issues_its_container_and_code_files(keeps: bool) -> None:
    expected = {("container", "container_1"), ("file", "file_1")} | (
        {("message", "msg_1")} if keeps else set()
    )
    reader = MessagesIdReader(keeps_messages=keeps)
    reader.read_response(encode(MESSAGE))
    assert set(reader.issued) == expected
    started = event("message_start", message=MESSAGE | {"container": None, "content": []})
    blocks = [
        event("content_block_start", index=index, content_block=block) for index, block in enumerate(BLOCKS)
    ]
    ended = event("message_delta", delta={"stop_reason": "end_turn", "container": MESSAGE["container"]})
    assert issued(MessagesIdReader(keeps_messages=keeps), started, *blocks, ended) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"output":{},"id":[]}', b'{"output":[1,{"id":{}}]}', b'{"choices":1}'],
)
def test_unreadable_response_issues_nothing(body: bytes) -> None:
    readers: list[IdReader] = [
        ResponsesIdReader(can_be_named=True),
        ChatIdReader(),
        MessagesIdReader(keeps_messages=True),
    ]
    for reader in readers:
        reader.read_response(body)
        reader.read_event(b"data: %s\n\n" % body)
        assert reader.issued == {}
