"""Answers in words: whole, cut off, refused, blocked, cited, counted, several at once."""

from typing import Any

from tests.formats.golden.words import (
    PIXEL,
    Bodies,
    chat_answer,
    chat_answers,
    claude_answer,
    google_answer,
    google_answers,
    message_item,
    output_text,
    responses_answer,
)

GREETING = 'Grüße, 世界 🎉\n\n"quoted"'
ENTRIES: list[dict[str, Any]] = [
    {
        "token": "Yes",
        "logprob": -0.1,
        "bytes": [89, 101, 115],
        "top_logprobs": [{"token": "Yes", "logprob": -0.1, "bytes": [89, 101, 115]}, {"token": "No", "logprob": -2.5, "bytes": [78, 111]}],
    },
    {"token": ".", "logprob": -0.2, "bytes": [46], "top_logprobs": [{"token": ".", "logprob": -0.2, "bytes": [46]}]},
]
PAGE = {"url": "https://example.org/", "title": "Example"}
PLACE = {"start_index": 0, "end_index": 6, **PAGE}
CITED: dict[str, Any] = {"type": "url_citation", **PLACE}
SEARCH: dict[str, Any] = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
GROUNDS: dict[str, Any] = {"webSearchQueries": ["x"], "groundingChunks": [{"web": {"uri": PAGE["url"], "title": PAGE["title"]}}]}


def text(words: str, finish: tuple[str, str, str] = ("stop", "end_turn", "STOP"), **response: Any) -> Bodies:
    status = response.get("status", "completed")
    return {
        "openai_chat": chat_answer({"content": words}, finish[0]),
        "openai_responses": responses_answer(message_item(output_text(words), status=status), **response),
        "anthropic": claude_answer({"type": "text", "text": words}, stop=finish[1]),
        "gemini": google_answer({"text": words}, finish=finish[2]),
    }


WORDS: dict[str, Bodies] = {
    "text": text(GREETING),
    "text that is cut off": text(
        "Once upon", ("length", "max_tokens", "MAX_TOKENS"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}
    ),
    "text that is filtered": text(
        "Once upon", ("content_filter", "refusal", "SAFETY"), status="incomplete", incomplete_details={"reason": "content_filter"}
    ),
    "nothing": {
        "openai_chat": chat_answer({"content": ""}),
        "openai_responses": responses_answer(),
        "anthropic": claude_answer(),
        "gemini": google_answer(),
    },
    "a stop sequence": {
        "openai_chat": chat_answer({"content": "One"}, stop_reason="END"),
        "openai_responses": None,
        "anthropic": claude_answer({"type": "text", "text": "One"}, stop="stop_sequence", sequence="END"),
        "gemini": google_answer({"text": "One"}),
    },
    "a refusal": {
        "openai_chat": chat_answer({"refusal": "I cannot."}),
        "openai_responses": responses_answer(message_item({"type": "refusal", "refusal": "I cannot."})),
        "anthropic": claude_answer({"type": "text", "text": "I cannot."}, stop="refusal"),
        "gemini": google_answer({"text": "I cannot."}, finish="PROHIBITED_CONTENT"),
    },
    "a prompt that is blocked": {
        "openai_chat": chat_answer({}, "content_filter"),
        "openai_responses": responses_answer(status="incomplete", incomplete_details={"reason": "content_filter"}),
        "anthropic": claude_answer(stop="refusal"),
        "gemini": google_answers(promptFeedback={"blockReason": "SAFETY"}),
    },
    "an end of another kind": {
        "openai_chat": chat_answer({"content": "Well"}, "insufficient_system_resource"),
        "openai_responses": responses_answer(message_item(output_text("Well"), status="incomplete"), status="cancelled"),
        "anthropic": claude_answer({"type": "text", "text": "Well"}, stop="pause_turn"),
        "gemini": google_answer({"text": "Well"}, finish="MALFORMED_FUNCTION_CALL"),
    },
    "several answers": {
        "openai_chat": chat_answers(
            {"index": 0, "message": {"role": "assistant", "content": "One"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "Two and"}, "finish_reason": "length"},
        ),
        "openai_responses": None,
        "anthropic": None,
        "gemini": google_answers(
            {"content": {"role": "model", "parts": [{"text": "One"}]}, "finishReason": "STOP", "index": 0},
            {"content": {"role": "model", "parts": [{"text": "Two and"}]}, "finishReason": "MAX_TOKENS", "index": 1},
        ),
    },
    "token probabilities": {
        "openai_chat": chat_answer({"content": "Yes."}, logprobs={"content": ENTRIES, "refusal": None}),
        "openai_responses": responses_answer(message_item(output_text("Yes.", logprobs=ENTRIES))),
        "anthropic": None,
        "gemini": google_answer(
            {"text": "Yes."},
            logprobsResult={
                "chosenCandidates": [{"token": "Yes", "logProbability": -0.1}, {"token": ".", "logProbability": -0.2}],
                "topCandidates": [
                    {"candidates": [{"token": "Yes", "logProbability": -0.1}, {"token": "No", "logProbability": -2.5}]},
                    {"candidates": [{"token": ".", "logProbability": -0.2}]},
                ],
            },
        ),
    },
    "sources": {
        "openai_chat": chat_answer(
            {
                "content": "Found.",
                "annotations": [{"type": "url_citation", "url_citation": PLACE}],
            }
        ),
        "openai_responses": responses_answer(SEARCH, message_item(output_text("Found.", annotations=[CITED]))),
        "anthropic": claude_answer(
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [{"type": "web_search_result", "encrypted_content": "AAAA", "page_age": None, **PAGE}],
            },
            {
                "type": "text",
                "text": "Found.",
                "citations": [{"type": "web_search_result_location", "cited_text": "Found", "encrypted_index": "AAAA", **PAGE}],
            },
        ),
        "gemini": google_answer({"text": "Found."}, groundingMetadata=GROUNDS),
    },
    "a picture": {
        "openai_chat": chat_answer(
            {"content": "Here:", "images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
        ),
        "openai_responses": responses_answer(
            message_item(output_text("Here:")),
            {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PIXEL},
        ),
        "anthropic": None,
        "gemini": google_answer({"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}),
    },
    "a cache that is written": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": claude_answer(
            {"type": "text", "text": "Kept."},
            cache_creation_input_tokens=18,
            cache_creation={"ephemeral_5m_input_tokens": 11, "ephemeral_1h_input_tokens": 7},
        ),
        "gemini": None,
    },
}
