"""Responses with text, by their end, citations, usage and number of choices."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    PNG_PIXEL,
    Bodies,
    anthropic_response,
    chat_response,
    chat_responses,
    gemini_response,
    gemini_responses,
    message_item,
    output_text,
    responses_response,
)

GREETING = 'Grüße, 世界 🎉\n\n"quoted"'
ENTRIES: list[dict[str, Any]] = [
    {
        "token": "Yes",
        "logprob": -0.1,
        "bytes": [89, 101, 115],
        "top_logprobs": [
            {"token": "Yes", "logprob": -0.1, "bytes": [89, 101, 115]},
            {"token": "No", "logprob": -2.5, "bytes": [78, 111]},
        ],
    },
    {
        "token": ".",
        "logprob": -0.2,
        "bytes": [46],
        "top_logprobs": [{"token": ".", "logprob": -0.2, "bytes": [46]}],
    },
]
PAGE = {"url": "https://example.org/", "title": "Example"}
SPAN = {"start_index": 0, "end_index": 6, **PAGE}
CITATIONS: dict[str, Any] = {"type": "url_citation", **SPAN}
SEARCH_CALL: dict[str, Any] = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}
GROUNDING: dict[str, Any] = {
    "webSearchQueries": ["x"],
    "groundingChunks": [{"web": {"uri": PAGE["url"], "title": PAGE["title"]}}],
}


def text(
    content: str, finish: tuple[str, str, str] = ("stop", "end_turn", "STOP"), **response: Any
) -> Bodies:
    status = response.get("status", "completed")
    return {
        "openai_chat": chat_response({"content": content}, finish[0]),
        "openai_responses": responses_response(message_item(output_text(content), status=status), **response),
        "anthropic": anthropic_response({"type": "text", "text": content}, stop=finish[1]),
        "gemini": gemini_response({"text": content}, finish=finish[2]),
    }


TEXT_RESPONSES: dict[str, Bodies] = {
    "text": text(GREETING),
    "text truncated at max tokens": text(
        "Once upon",
        ("length", "max_tokens", "MAX_TOKENS"),
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "text stopped by content filter": text(
        "Once upon",
        ("content_filter", "refusal", "SAFETY"),
        status="incomplete",
        incomplete_details={"reason": "content_filter"},
    ),
    "empty response": {
        "openai_chat": chat_response({"content": ""}),
        "openai_responses": responses_response(),
        "anthropic": anthropic_response(),
        "gemini": gemini_response(),
    },
    "stop sequence": {
        "openai_chat": chat_response({"content": "One"}, stop_reason="END"),
        "openai_responses": None,
        "anthropic": anthropic_response(
            {"type": "text", "text": "One"}, stop="stop_sequence", sequence="END"
        ),
        "gemini": gemini_response({"text": "One"}),
    },
    "refusal": {
        "openai_chat": chat_response({"refusal": "I cannot."}),
        "openai_responses": responses_response(message_item({"type": "refusal", "refusal": "I cannot."})),
        "anthropic": anthropic_response({"type": "text", "text": "I cannot."}, stop="refusal"),
        "gemini": gemini_response({"text": "I cannot."}, finish="PROHIBITED_CONTENT"),
    },
    "blocked prompt": {
        "openai_chat": chat_response({}, "content_filter"),
        "openai_responses": responses_response(
            status="incomplete", incomplete_details={"reason": "content_filter"}
        ),
        "anthropic": anthropic_response(stop="refusal"),
        "gemini": gemini_responses(promptFeedback={"blockReason": "SAFETY"}),
    },
    "other finish reason": {
        "openai_chat": chat_response({"content": "Well"}, "insufficient_system_resource"),
        "openai_responses": responses_response(
            message_item(output_text("Well"), status="incomplete"), status="cancelled"
        ),
        "anthropic": anthropic_response({"type": "text", "text": "Well"}, stop="pause_turn"),
        "gemini": gemini_response({"text": "Well"}, finish="MALFORMED_FUNCTION_CALL"),
    },
    "multiple choices": {
        "openai_chat": chat_responses(
            {"index": 0, "message": {"role": "assistant", "content": "One"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "Two and"}, "finish_reason": "length"},
        ),
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_responses(
            {"content": {"role": "model", "parts": [{"text": "One"}]}, "finishReason": "STOP", "index": 0},
            {
                "content": {"role": "model", "parts": [{"text": "Two and"}]},
                "finishReason": "MAX_TOKENS",
                "index": 1,
            },
        ),
    },
    "logprobs": {
        "openai_chat": chat_response({"content": "Yes."}, logprobs={"content": ENTRIES, "refusal": None}),
        "openai_responses": responses_response(message_item(output_text("Yes.", logprobs=ENTRIES))),
        "anthropic": None,
        "gemini": gemini_response(
            {"text": "Yes."},
            logprobsResult={
                "chosenCandidates": [
                    {"token": "Yes", "logProbability": -0.1},
                    {"token": ".", "logProbability": -0.2},
                ],
                "topCandidates": [
                    {
                        "candidates": [
                            {"token": "Yes", "logProbability": -0.1},
                            {"token": "No", "logProbability": -2.5},
                        ]
                    },
                    {"candidates": [{"token": ".", "logProbability": -0.2}]},
                ],
            },
        ),
    },
    "citations": {
        "openai_chat": chat_response(
            {
                "content": "Found.",
                "annotations": [{"type": "url_citation", "url_citation": SPAN}],
            }
        ),
        "openai_responses": responses_response(
            SEARCH_CALL, message_item(output_text("Found.", annotations=[CITATIONS]))
        ),
        "anthropic": anthropic_response(
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [
                    {"type": "web_search_result", "encrypted_content": "AAAA", "page_age": None, **PAGE}
                ],
            },
            {
                "type": "text",
                "text": "Found.",
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "cited_text": "Found",
                        "encrypted_index": "AAAA",
                        **PAGE,
                    }
                ],
            },
        ),
        "gemini": gemini_response({"text": "Found."}, groundingMetadata=GROUNDING),
    },
    "image": {
        "openai_chat": chat_response(
            {
                "content": "Here:",
                "images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_PIXEL}"}}],
            }
        ),
        "openai_responses": responses_response(
            message_item(output_text("Here:")),
            {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG_PIXEL},
        ),
        "anthropic": None,
        "gemini": gemini_response(
            {"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": PNG_PIXEL}}
        ),
    },
    "cache write usage": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": anthropic_response(
            {"type": "text", "text": "Kept."},
            cache_creation_input_tokens=18,
            cache_creation={"ephemeral_5m_input_tokens": 11, "ephemeral_1h_input_tokens": 7},
        ),
        "gemini": None,
    },
}
