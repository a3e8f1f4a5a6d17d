"""Field names are rejected if they differ only in case from a field that the gateway reads."""

import json
from typing import Any

import pytest

from proxy.formats.anthropic.count_tokens import CountTokensRequest
from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.gemini import GenerateContentRequest
from proxy.formats.gemini.count_tokens import CountTokensRequest as GeminiCountTokensRequest
from proxy.formats.gemini.embeddings import BatchEmbedContentsRequest, EmbedContentRequest
from proxy.formats.neutral import InvalidRequest
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
CONTENT: dict[str, Any] = {"role": "user", "parts": [{"text": "Hi"}]}
ASKED: dict[type, dict[str, Any]] = {
    ChatRequest: {"model": "m", "messages": MESSAGES},
    ResponsesRequest: {"model": "m", "input": "Hi"},
    CreateCompletionRequest: {"model": "m", "prompt": "Hi"},
    CreateEmbeddingRequest: {"model": "m", "input": "Hi"},
    MessagesRequest: {"model": "m", "messages": MESSAGES, "max_tokens": 9},
    CountTokensRequest: {"model": "m", "messages": MESSAGES},
    GenerateContentRequest: {"contents": [CONTENT]},
    EmbedContentRequest: {"content": CONTENT},
    BatchEmbedContentsRequest: {"requests": [{"content": CONTENT}]},
    GeminiCountTokensRequest: {"contents": [CONTENT]},
}


def read(kind: type, fields: dict[str, Any]) -> Any:
    return kind(json.dumps(ASKED[kind] | fields).encode(), "m")


def messages_with(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def contents_with(part: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [part]}]}


@pytest.mark.parametrize(
    ("kind", "fields", "param", "own"),
    [
        (
            GenerateContentRequest,
            {"GenerationConfig": {"maxOutputTokens": 9}},
            "GenerationConfig",
            "generationConfig",
        ),
        (GenerateContentRequest, {"generationconfig": {}}, "generationconfig", "generationConfig"),
        (GenerateContentRequest, {"Generation_Config": {}}, "Generation_Config", "generation_config"),
        (GenerateContentRequest, {"Contents": []}, "Contents", "contents"),
        (GenerateContentRequest, {"CachedContent": "x"}, "CachedContent", "cachedContent"),
        (GenerateContentRequest, {"SystemInstruction": CONTENT}, "SystemInstruction", "systemInstruction"),
        (GenerateContentRequest, {"ServiceTier": "priority"}, "ServiceTier", "serviceTier"),
        (
            GenerateContentRequest,
            {"generationConfig": {"MaxOutputTokens": 9}},
            "generationConfig.MaxOutputTokens",
            "maxOutputTokens",
        ),
        (
            GenerateContentRequest,
            {"generationConfig": {"maxoutputtokens": 9}},
            "generationConfig.maxoutputtokens",
            "maxOutputTokens",
        ),
        (
            GenerateContentRequest,
            {"generation_config": {"Candidate_Count": 9}},
            "generation_config.Candidate_Count",
            "candidate_count",
        ),
        (
            GenerateContentRequest,
            {"generationConfig": {"CandidateCount": 9}},
            "generationConfig.CandidateCount",
            "candidateCount",
        ),
        (
            GenerateContentRequest,
            {"generationConfig": {"maxOutputToken\u017f": 9}},
            "generationConfig.maxOutputToken\u017f",
            "maxOutputTokens",
        ),
        (GenerateContentRequest, {"tools": [{"GoogleSearch": {}}]}, "tools.GoogleSearch", "googleSearch"),
        (
            GenerateContentRequest,
            {"tools": {"FunctionDeclarations": []}},
            "tools.FunctionDeclarations",
            "functionDeclarations",
        ),
        (GenerateContentRequest, contents_with({"FileData": {"fileUri": "x"}}), "FileData", "fileData"),
        (GenerateContentRequest, contents_with({"fileData": {"FileUri": "x"}}), "FileUri", "fileUri"),
        (GenerateContentRequest, {"contents": [{"Parts": [{"text": "Hi"}]}]}, "Parts", "parts"),
        (EmbedContentRequest, {"Content": CONTENT}, "Content", "content"),
        (EmbedContentRequest, {"OutputDimensionality": 9}, "OutputDimensionality", "outputDimensionality"),
        (BatchEmbedContentsRequest, {"Requests": []}, "Requests", "requests"),
        (
            BatchEmbedContentsRequest,
            {"requests": [{"content": CONTENT, "Content": CONTENT}]},
            "requests.Content",
            "content",
        ),
        (
            GeminiCountTokensRequest,
            {"GenerateContentRequest": {}},
            "GenerateContentRequest",
            "generateContentRequest",
        ),
        (ChatRequest, {"Max_Tokens": 9}, "Max_Tokens", "max_tokens"),
        (ChatRequest, {"N": 9}, "N", "n"),
        (ChatRequest, {"Web_Search_Options": {}}, "Web_Search_Options", "web_search_options"),
        (ChatRequest, {"tools": [{"Type": "openrouter:web_search"}]}, "tools.Type", "type"),
        (
            ChatRequest,
            {"stream_options": {"Include_Usage": False}},
            "stream_options.Include_Usage",
            "include_usage",
        ),
        (ChatRequest, messages_with({"type": "file", "file": {"File_ID": "file-1"}}), "File_ID", "file_id"),
        (ChatRequest, {"messages": [{"role": "user", "Content": "Hi"}]}, "Content", "content"),
        (CreateCompletionRequest, {"Best_Of": 9}, "Best_Of", "best_of"),
        (CreateEmbeddingRequest, {"Input": "x"}, "Input", "input"),
        (ResponsesRequest, {"Max_Output_Tokens": 9}, "Max_Output_Tokens", "max_output_tokens"),
        (ResponsesRequest, {"Prompt": {"id": "pmpt_1"}}, "Prompt", "prompt"),
        (ResponsesRequest, {"tools": [{"Type": "web_search"}]}, "tools.Type", "type"),
        (
            ResponsesRequest,
            {"tools": [{"type": "image_generation", "SVG": {"model": "dear"}}]},
            "tools.SVG",
            "svg",
        ),
        (
            ResponsesRequest,
            {"tools": [{"type": "shell", "environment": {"Memory_Limit": "4g"}}]},
            "tools.Memory_Limit",
            "memory_limit",
        ),
        (
            ResponsesRequest,
            {"input": [{"role": "user", "content": [{"type": "input_file", "File_URL": "x"}]}]},
            "File_URL",
            "file_url",
        ),
        (MessagesRequest, {"Max_Tokens": 9}, "Max_Tokens", "max_tokens"),
        (MessagesRequest, {"Speed": "fast"}, "Speed", "speed"),
        (MessagesRequest, {"MCP_Servers": [{}]}, "MCP_Servers", "mcp_servers"),
        (MessagesRequest, {"thread": {"Type": "continue"}}, "thread.Type", "type"),
        (
            MessagesRequest,
            {"tools": [{"type": "web_search_20260209", "Max_Uses": 99}]},
            "tools.Max_Uses",
            "max_uses",
        ),
        (
            MessagesRequest,
            messages_with({"type": "document", "Source": {"type": "url", "url": "x"}}),
            "Source",
            "source",
        ),
        (CountTokensRequest, {"System": "x"}, "System", "system"),
    ],
)
def test_field_in_another_case_is_rejected(kind: type, fields: dict[str, Any], param: str, own: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read(kind, fields)
    assert (rejected.value.param, str(rejected.value)) == (param, f"The field {param} must be written {own}.")


FREE: dict[str, Any] = {
    "Type": "x",
    "Text": "y",
    "File_ID": "z",
    "MaxOutputTokens": 1,
    "Parts": [],
    "Name": "n",
}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (GenerateContentRequest, contents_with({"functionCall": {"name": "f", "args": FREE}})),
        (GenerateContentRequest, contents_with({"functionResponse": {"name": "f", "response": FREE}})),
        (
            GenerateContentRequest,
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": FREE}}]}]},
        ),
        (
            GenerateContentRequest,
            {"generationConfig": {"responseSchema": {"properties": FREE}, "Temperature": 1}},
        ),
        (GenerateContentRequest, {"labels": FREE}),
        (
            ChatRequest,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": FREE}}],
                    }
                ]
            },
        ),
        (
            ChatRequest,
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"properties": FREE}}}
                ],
                "metadata": FREE,
            },
        ),
        (
            ChatRequest,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"properties": FREE}},
                }
            },
        ),
        (
            ResponsesRequest,
            {"tools": [{"type": "function", "name": "f", "parameters": {"properties": FREE}}]},
        ),
        (ResponsesRequest, {"tools": [{"type": "mcp", "server_url": "x", "headers": FREE}]}),
        (
            ResponsesRequest,
            {"input": [{"type": "function_call", "name": "f", "call_id": "1", "arguments": FREE}]},
        ),
        (
            MessagesRequest,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "1", "name": "f", "input": FREE}],
                    }
                ]
            },
        ),
        (
            MessagesRequest,
            {
                "tools": [{"name": "f", "input_schema": {"type": "object", "properties": FREE}}],
                "metadata": FREE,
            },
        ),
    ],
)
def test_client_defined_names_are_accepted(kind: type, fields: dict[str, Any]) -> None:
    """Arguments and results of calls, schemas, labels and headers contain names that the client defines."""
    assert read(kind, fields).facts.max_input_tokens > 0
