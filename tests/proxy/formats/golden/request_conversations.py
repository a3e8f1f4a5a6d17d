"""Requests with instructions, turns and settings."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    SCHEMA,
    USER,
    Bodies,
    anthropic_request,
    assistant,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)

HELLO: dict[str, Any] = {"role": "assistant", "content": "Hello!"}
BYE: dict[str, Any] = {"role": "user", "content": "Bye"}
GEMINI_TURNS = (
    turn("user", {"text": "Hi"}),
    turn("model", {"text": "Hello!"}),
    turn("user", {"text": "Bye"}),
)
FORMAT = {"name": "city", "schema": SCHEMA, "strict": True}

CONVERSATIONS: dict[str, Bodies] = {
    "minimal request": {
        "openai_chat": openai_chat_request(),
        "openai_responses": openai_responses_request(),
        "anthropic": anthropic_request(),
        "gemini": gemini_request(),
    },
    "streaming request": {
        "openai_chat": openai_chat_request(stream=True, stream_options={"include_usage": True}),
        "openai_responses": openai_responses_request(stream=True),
        "anthropic": anthropic_request(stream=True),
        "gemini": None,  # The URL of Gemini's requests says whether they stream.
    },
    "system instructions": {
        "openai_chat": openai_chat_request(
            {"role": "system", "content": "Be terse."}, {"role": "developer", "content": "In French."}, USER
        ),
        "openai_responses": openai_responses_request(
            {"role": "developer", "content": "In French."}, USER, instructions="Be terse."
        ),
        "anthropic": anthropic_request(
            system=[{"type": "text", "text": "Be terse."}, {"type": "text", "text": "In French."}]
        ),
        "gemini": gemini_request(
            systemInstruction={"parts": [{"text": "Be terse."}, {"text": "In French."}]}
        ),
    },
    "system message mid-conversation": {
        "openai_chat": openai_chat_request(USER, HELLO, {"role": "developer", "content": "Be terse."}, BYE),
        "openai_responses": openai_responses_request(
            USER, HELLO, {"role": "developer", "content": "Be terse."}, BYE
        ),
        "anthropic": anthropic_request(USER, HELLO, {"role": "system", "content": "Be terse."}, BYE),
        "gemini": None,
    },
    "multiple turns": {
        "openai_chat": openai_chat_request(USER, HELLO, BYE),
        "openai_responses": openai_responses_request(USER, HELLO, BYE),
        "anthropic": anthropic_request(USER, HELLO, BYE),
        "gemini": gemini_request(*GEMINI_TURNS),
    },
    "assistant prefill": {
        "openai_chat": openai_chat_request(USER, HELLO),
        "openai_responses": openai_responses_request(USER, HELLO),
        "anthropic": anthropic_request(USER, HELLO),
        "gemini": gemini_request(*GEMINI_TURNS[:2]),
    },
    "refusal in history": {
        "openai_chat": openai_chat_request(
            USER, {"role": "assistant", "content": None, "refusal": "I cannot."}, BYE
        ),
        "openai_responses": openai_responses_request(
            USER, assistant({"type": "refusal", "refusal": "I cannot."}), BYE
        ),
        "anthropic": None,
        "gemini": None,
    },
    "sampling parameters": {
        "openai_chat": openai_chat_request(temperature=0.5, top_p=0.9),
        "openai_responses": openai_responses_request(temperature=0.5, top_p=0.9),
        "anthropic": anthropic_request(temperature=0.5, top_p=0.9),
        "gemini": gemini_request(config={"temperature": 0.5, "topP": 0.9}),
    },
    "temperature above 1": {
        "openai_chat": openai_chat_request(temperature=1.5),
        "openai_responses": openai_responses_request(temperature=1.5),
        "anthropic": None,
        "gemini": gemini_request(config={"temperature": 1.5}),
    },
    "top_k": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": anthropic_request(top_k=5),
        "gemini": gemini_request(config={"topK": 5}),
    },
    "stop sequences": {
        "openai_chat": openai_chat_request(stop=["END", "\n\n"]),
        "openai_responses": None,
        "anthropic": anthropic_request(stop_sequences=["END", "\n\n"]),
        "gemini": gemini_request(config={"stopSequences": ["END", "\n\n"]}),
    },
    "seed and penalties": {
        "openai_chat": openai_chat_request(seed=7, presence_penalty=0.5, frequency_penalty=-0.5),
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(config={"seed": 7, "presencePenalty": 0.5, "frequencyPenalty": -0.5}),
    },
    "multiple choices": {
        "openai_chat": openai_chat_request(n=2),
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(config={"candidateCount": 2}),
    },
    "logprobs": {
        "openai_chat": openai_chat_request(logprobs=True, top_logprobs=2),
        "openai_responses": openai_responses_request(
            include=["message.output_text.logprobs"], top_logprobs=2
        ),
        "anthropic": None,
        "gemini": gemini_request(config={"responseLogprobs": True, "logprobs": 2}),
    },
    "message author name": {
        "openai_chat": openai_chat_request(user="u1"),
        "openai_responses": openai_responses_request(user="u1"),
        "anthropic": anthropic_request(metadata={"user_id": "u1"}),
        "gemini": None,
    },
    "vendor-specific settings": {
        "openai_chat": openai_chat_request(logit_bias={"50256": -100}, service_tier="flex"),
        "openai_responses": openai_responses_request(
            truncation="auto", metadata={"a": "b"}, text={"verbosity": "low"}
        ),
        "anthropic": anthropic_request(service_tier="auto", context_management={"edits": []}),
        "gemini": gemini_request(
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
        ),
    },
    "JSON mode": {
        "openai_chat": openai_chat_request(
            user({"type": "text", "text": "As JSON"}), response_format={"type": "json_object"}
        ),
        "openai_responses": openai_responses_request(
            user({"type": "input_text", "text": "As JSON"}), text={"format": {"type": "json_object"}}
        ),
        "anthropic": None,
        "gemini": gemini_request(
            turn("user", {"text": "As JSON"}), config={"responseMimeType": "application/json"}
        ),
    },
    "structured output": {
        "openai_chat": openai_chat_request(response_format={"type": "json_schema", "json_schema": FORMAT}),
        "openai_responses": openai_responses_request(text={"format": {"type": "json_schema", **FORMAT}}),
        "anthropic": anthropic_request(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        "gemini": gemini_request(
            config={"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
        ),
    },
    "structured output with Google schema": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(
            config={
                "responseMimeType": "application/json",
                "responseSchema": {
                    "type": "OBJECT",
                    "properties": {
                        "city": {"type": "STRING", "nullable": True},
                        "size": {"type": "INTEGER", "minimum": 0},
                    },
                    "required": ["city"],
                    "propertyOrdering": ["city", "size"],
                },
            }
        ),
    },
}
