"""Requests about instructions, turns and settings."""

from typing import Any

from tests.formats.golden.words import SCHEMA, USER, Bodies, assistant, chat, claude, google, responses, turn, user

HELLO: dict[str, Any] = {"role": "assistant", "content": "Hello!"}
BYE: dict[str, Any] = {"role": "user", "content": "Bye"}
GEMINI_TURNS = (turn("user", {"text": "Hi"}), turn("model", {"text": "Hello!"}), turn("user", {"text": "Bye"}))
FORMAT = {"name": "city", "schema": SCHEMA, "strict": True}

CONVERSATIONS: dict[str, Bodies] = {
    "plain": {"openai_chat": chat(), "openai_responses": responses(), "anthropic": claude(), "gemini": google()},
    "streamed": {
        "openai_chat": chat(stream=True, stream_options={"include_usage": True}),
        "openai_responses": responses(stream=True),
        "anthropic": claude(stream=True),
        "gemini": None,  # says it in the address
    },
    "instructions": {
        "openai_chat": chat({"role": "system", "content": "Be terse."}, {"role": "developer", "content": "In French."}, USER),
        "openai_responses": responses({"role": "developer", "content": "In French."}, USER, instructions="Be terse."),
        "anthropic": claude(system=[{"type": "text", "text": "Be terse."}, {"type": "text", "text": "In French."}]),
        "gemini": google(systemInstruction={"parts": [{"text": "Be terse."}, {"text": "In French."}]}),
    },
    "instructions in the middle": {
        "openai_chat": chat(USER, HELLO, {"role": "developer", "content": "Be terse."}, BYE),
        "openai_responses": responses(USER, HELLO, {"role": "developer", "content": "Be terse."}, BYE),
        "anthropic": claude(USER, HELLO, {"role": "system", "content": "Be terse."}, BYE),
        "gemini": None,
    },
    "turns": {
        "openai_chat": chat(USER, HELLO, BYE),
        "openai_responses": responses(USER, HELLO, BYE),
        "anthropic": claude(USER, HELLO, BYE),
        "gemini": google(*GEMINI_TURNS),
    },
    "an answer to be continued": {
        "openai_chat": chat(USER, HELLO),
        "openai_responses": responses(USER, HELLO),
        "anthropic": claude(USER, HELLO),
        "gemini": google(*GEMINI_TURNS[:2]),
    },
    "a refusal in the history": {
        "openai_chat": chat(USER, {"role": "assistant", "content": None, "refusal": "I cannot."}, BYE),
        "openai_responses": responses(USER, assistant({"type": "refusal", "refusal": "I cannot."}), BYE),
        "anthropic": None,
        "gemini": None,
    },
    "sampling": {
        "openai_chat": chat(temperature=0.5, top_p=0.9),
        "openai_responses": responses(temperature=0.5, top_p=0.9),
        "anthropic": claude(temperature=0.5, top_p=0.9),
        "gemini": google(config={"temperature": 0.5, "topP": 0.9}),
    },
    "a temperature above one": {
        "openai_chat": chat(temperature=1.5),
        "openai_responses": responses(temperature=1.5),
        "anthropic": None,
        "gemini": google(config={"temperature": 1.5}),
    },
    "top k": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": claude(top_k=5),
        "gemini": google(config={"topK": 5}),
    },
    "stop sequences": {
        "openai_chat": chat(stop=["END", "\n\n"]),
        "openai_responses": None,
        "anthropic": claude(stop_sequences=["END", "\n\n"]),
        "gemini": google(config={"stopSequences": ["END", "\n\n"]}),
    },
    "seed and penalties": {
        "openai_chat": chat(seed=7, presence_penalty=0.5, frequency_penalty=-0.5),
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(config={"seed": 7, "presencePenalty": 0.5, "frequencyPenalty": -0.5}),
    },
    "several answers": {
        "openai_chat": chat(n=2),
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(config={"candidateCount": 2}),
    },
    "token probabilities": {
        "openai_chat": chat(logprobs=True, top_logprobs=2),
        "openai_responses": responses(include=["message.output_text.logprobs"], top_logprobs=2),
        "anthropic": None,
        "gemini": google(config={"responseLogprobs": True, "logprobs": 2}),
    },
    "a user's name": {
        "openai_chat": chat(user="u1"),
        "openai_responses": responses(user="u1"),
        "anthropic": claude(metadata={"user_id": "u1"}),
        "gemini": None,
    },
    "settings of one vendor": {
        "openai_chat": chat(logit_bias={"50256": -100}, service_tier="flex"),
        "openai_responses": responses(truncation="auto", metadata={"a": "b"}, text={"verbosity": "low"}),
        "anthropic": claude(service_tier="auto", context_management={"edits": []}),
        "gemini": google(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]),
    },
    "an answer in JSON": {
        "openai_chat": chat(user({"type": "text", "text": "As JSON"}), response_format={"type": "json_object"}),
        "openai_responses": responses(user({"type": "input_text", "text": "As JSON"}), text={"format": {"type": "json_object"}}),
        "anthropic": None,
        "gemini": google(turn("user", {"text": "As JSON"}), config={"responseMimeType": "application/json"}),
    },
    "an answer by a schema": {
        "openai_chat": chat(response_format={"type": "json_schema", "json_schema": FORMAT}),
        "openai_responses": responses(text={"format": {"type": "json_schema", **FORMAT}}),
        "anthropic": claude(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        "gemini": google(config={"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}),
    },
    "a schema in Google's words": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": google(
            config={
                "responseMimeType": "application/json",
                "responseSchema": {
                    "type": "OBJECT",
                    "properties": {"city": {"type": "STRING", "nullable": True}, "size": {"type": "INTEGER", "minimum": 0}},
                    "required": ["city"],
                    "propertyOrdering": ["city", "size"],
                },
            }
        ),
    },
}
