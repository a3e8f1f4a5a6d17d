"""Names of fields in other letters: refused if they spell a field that the gateway reads, at any depth that it reads."""

import json
from typing import Any

import pytest

from proxy.formats.anthropic.relay import AnthropicCall, CountTokensCall
from proxy.formats.completions import CompletionsCall
from proxy.formats.gemini import GeminiCall
from proxy.formats.gemini.embeddings import BatchEmbedCall, EmbedCall
from proxy.formats.gemini.embeddings import CountTokensCall as GeminiCountTokensCall
from proxy.formats.neutral import BadRequest
from proxy.formats.openai_chat.relay import ChatCall
from proxy.formats.openai_embeddings import EmbeddingsCall
from proxy.formats.openai_responses.relay import ResponsesCall

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
CONTENT: dict[str, Any] = {"role": "user", "parts": [{"text": "Hi"}]}
ASKED: dict[type, dict[str, Any]] = {
    ChatCall: {"model": "m", "messages": MESSAGES},
    ResponsesCall: {"model": "m", "input": "Hi"},
    CompletionsCall: {"model": "m", "prompt": "Hi"},
    EmbeddingsCall: {"model": "m", "input": "Hi"},
    AnthropicCall: {"model": "m", "messages": MESSAGES, "max_tokens": 9},
    CountTokensCall: {"model": "m", "messages": MESSAGES},
    GeminiCall: {"contents": [CONTENT]},
    EmbedCall: {"content": CONTENT},
    BatchEmbedCall: {"requests": [{"content": CONTENT}]},
    GeminiCountTokensCall: {"contents": [CONTENT]},
}


def read(kind: type, fields: dict[str, Any]) -> Any:
    return kind(json.dumps(ASKED[kind] | fields).encode(), "m")


def said(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def shown(part: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [part]}]}


@pytest.mark.parametrize(
    ("kind", "fields", "param", "own"),
    [
        (GeminiCall, {"GenerationConfig": {"maxOutputTokens": 9}}, "GenerationConfig", "generationConfig"),
        (GeminiCall, {"generationconfig": {}}, "generationconfig", "generationConfig"),
        (GeminiCall, {"Generation_Config": {}}, "Generation_Config", "generation_config"),
        (GeminiCall, {"Contents": []}, "Contents", "contents"),
        (GeminiCall, {"CachedContent": "x"}, "CachedContent", "cachedContent"),
        (GeminiCall, {"SystemInstruction": CONTENT}, "SystemInstruction", "systemInstruction"),
        (GeminiCall, {"ServiceTier": "priority"}, "ServiceTier", "serviceTier"),
        (GeminiCall, {"generationConfig": {"MaxOutputTokens": 9}}, "generationConfig.MaxOutputTokens", "maxOutputTokens"),
        (GeminiCall, {"generationConfig": {"maxoutputtokens": 9}}, "generationConfig.maxoutputtokens", "maxOutputTokens"),
        (GeminiCall, {"generation_config": {"Candidate_Count": 9}}, "generation_config.Candidate_Count", "candidate_count"),
        (GeminiCall, {"generationConfig": {"CandidateCount": 9}}, "generationConfig.CandidateCount", "candidateCount"),
        (GeminiCall, {"generationConfig": {"maxOutputToken\u017f": 9}}, "generationConfig.maxOutputToken\u017f", "maxOutputTokens"),
        (GeminiCall, {"tools": [{"GoogleSearch": {}}]}, "tools.GoogleSearch", "googleSearch"),
        (GeminiCall, {"tools": {"FunctionDeclarations": []}}, "tools.FunctionDeclarations", "functionDeclarations"),
        (GeminiCall, shown({"FileData": {"fileUri": "x"}}), "FileData", "fileData"),
        (GeminiCall, shown({"fileData": {"FileUri": "x"}}), "FileUri", "fileUri"),
        (GeminiCall, {"contents": [{"Parts": [{"text": "Hi"}]}]}, "Parts", "parts"),
        (EmbedCall, {"Content": CONTENT}, "Content", "content"),
        (EmbedCall, {"OutputDimensionality": 9}, "OutputDimensionality", "outputDimensionality"),
        (BatchEmbedCall, {"Requests": []}, "Requests", "requests"),
        (BatchEmbedCall, {"requests": [{"content": CONTENT, "Content": CONTENT}]}, "requests.Content", "content"),
        (GeminiCountTokensCall, {"GenerateContentRequest": {}}, "GenerateContentRequest", "generateContentRequest"),
        (ChatCall, {"Max_Tokens": 9}, "Max_Tokens", "max_tokens"),
        (ChatCall, {"N": 9}, "N", "n"),
        (ChatCall, {"Web_Search_Options": {}}, "Web_Search_Options", "web_search_options"),
        (ChatCall, {"tools": [{"Type": "openrouter:web_search"}]}, "tools.Type", "type"),
        (ChatCall, {"stream_options": {"Include_Usage": False}}, "stream_options.Include_Usage", "include_usage"),
        (ChatCall, said({"type": "file", "file": {"File_ID": "file-1"}}), "File_ID", "file_id"),
        (ChatCall, {"messages": [{"role": "user", "Content": "Hi"}]}, "Content", "content"),
        (CompletionsCall, {"Best_Of": 9}, "Best_Of", "best_of"),
        (EmbeddingsCall, {"Input": "x"}, "Input", "input"),
        (ResponsesCall, {"Max_Output_Tokens": 9}, "Max_Output_Tokens", "max_output_tokens"),
        (ResponsesCall, {"Prompt": {"id": "pmpt_1"}}, "Prompt", "prompt"),
        (ResponsesCall, {"tools": [{"Type": "web_search"}]}, "tools.Type", "type"),
        (ResponsesCall, {"tools": [{"type": "image_generation", "SVG": {"model": "dear"}}]}, "tools.SVG", "svg"),
        (ResponsesCall, {"tools": [{"type": "shell", "environment": {"Memory_Limit": "4g"}}]}, "tools.Memory_Limit", "memory_limit"),
        (ResponsesCall, {"input": [{"role": "user", "content": [{"type": "input_file", "File_URL": "x"}]}]}, "File_URL", "file_url"),
        (AnthropicCall, {"Max_Tokens": 9}, "Max_Tokens", "max_tokens"),
        (AnthropicCall, {"Speed": "fast"}, "Speed", "speed"),
        (AnthropicCall, {"MCP_Servers": [{}]}, "MCP_Servers", "mcp_servers"),
        (AnthropicCall, {"thread": {"Type": "continue"}}, "thread.Type", "type"),
        (AnthropicCall, {"tools": [{"type": "web_search_20260209", "Max_Uses": 99}]}, "tools.Max_Uses", "max_uses"),
        (AnthropicCall, said({"type": "document", "Source": {"type": "url", "url": "x"}}), "Source", "source"),
        (CountTokensCall, {"System": "x"}, "System", "system"),
    ],
)  # fmt: skip
def test_a_field_in_other_letters_is_refused(kind: type, fields: dict[str, Any], param: str, own: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read(kind, fields)
    assert (refusal.value.param, str(refusal.value)) == (param, f"The field {param} is written {own}.")


FREE: dict[str, Any] = {"Type": "x", "Text": "y", "File_ID": "z", "MaxOutputTokens": 1, "Parts": [], "Name": "n"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (GeminiCall, shown({"functionCall": {"name": "f", "args": FREE}})),
        (GeminiCall, shown({"functionResponse": {"name": "f", "response": FREE}})),
        (GeminiCall, {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": FREE}}]}]}),
        (GeminiCall, {"generationConfig": {"responseSchema": {"properties": FREE}, "Temperature": 1}}),
        (GeminiCall, {"labels": FREE}),
        (ChatCall, {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": FREE}}]}]}),
        (ChatCall, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": FREE}}}], "metadata": FREE}),
        (ChatCall, {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": FREE}}}}),
        (ResponsesCall, {"tools": [{"type": "function", "name": "f", "parameters": {"properties": FREE}}]}),
        (ResponsesCall, {"tools": [{"type": "mcp", "server_url": "x", "headers": FREE}]}),
        (ResponsesCall, {"input": [{"type": "function_call", "name": "f", "call_id": "1", "arguments": FREE}]}),
        (AnthropicCall, {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": FREE}]}]}),
        (AnthropicCall, {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": FREE}}], "metadata": FREE}),
    ],
)
def test_names_of_the_clients_own_pass(kind: type, fields: dict[str, Any]) -> None:
    """Arguments and results of calls, schemas, labels, headers: nothing there is a field of the format."""
    assert read(kind, fields).call.input_bound > 0
