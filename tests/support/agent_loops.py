"""Agent loops with the Python SDKs: send tool results until the model writes a final text."""

from typing import Any

from google import genai
from google.genai import types

from tests.support.strict_provider.agent_script import TOOL_OUTPUT

MAX_TURNS = 6
QUESTION = "What is the weather?"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FUNCTION: dict[str, Any] = {
    "name": "get_weather",
    "description": "Returns the weather of a city.",
    "parameters": SCHEMA,
}

Json = dict[str, Any]


def chat_completions_loop(client: Any, model: str, streamed: bool) -> str:
    """Return the final text. If the server returns reasoning, send it back, as agents do."""
    messages: list[Json] = [{"role": "user", "content": QUESTION}]
    request: Json = {"model": model, "tools": [{"type": "function", "function": FUNCTION}]}
    for _ in range(MAX_TURNS):
        message = chat_message(client, streamed, messages=messages, **request)
        calls = message.tool_calls or []
        if not calls:
            return str(message.content)
        messages.append(chat_history(message))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": TOOL_OUTPUT} for call in calls]
    raise AssertionError(f"no final text after {MAX_TURNS} turns")


def chat_message(client: Any, streamed: bool, **request: Any) -> Any:
    if not streamed:
        return client.chat.completions.create(**request).choices[0].message
    with client.chat.completions.stream(**request) as stream:
        return stream.get_final_completion().choices[0].message


def chat_history(message: Any) -> Json:
    """Return the message in the form in which the next request repeats it."""
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in message.tool_calls
    ]
    reasoning = getattr(message, "reasoning_content", None)
    shown = {"reasoning_content": reasoning} if reasoning else {}
    return {"role": "assistant", "content": message.content, "tool_calls": calls, **shown}


def responses_loop(client: Any, model: str, streamed: bool, stored: bool) -> str:
    """Return the final text. Send all items back, or only the response's id if responses are stored."""
    request: Json = {
        "model": model,
        "tools": [{"type": "function", **FUNCTION, "strict": False}],
        "reasoning": {"summary": "auto"},
        "store": stored,
        "include": [] if stored else ["reasoning.encrypted_content"],
    }
    items: list[Json] = [{"role": "user", "content": QUESTION}]
    for _ in range(MAX_TURNS):
        response = final_response(client, streamed, input=items, **request)
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return str(response.output_text)
        outputs = [
            {"type": "function_call_output", "call_id": call.call_id, "output": TOOL_OUTPUT} for call in calls
        ]
        if stored:
            items, request["previous_response_id"] = outputs, response.id
        else:
            items = [*items, *(item.model_dump(exclude_none=True) for item in response.output), *outputs]
    raise AssertionError(f"no final text after {MAX_TURNS} turns")


def final_response(client: Any, streamed: bool, **request: Any) -> Any:
    if not streamed:
        return client.responses.create(**request)
    with client.responses.stream(**request) as stream:
        return stream.get_final_response()


def messages_loop(client: Any, model: str, streamed: bool) -> str:
    """Return the final text of a client that requests thinking."""
    messages: list[Json] = [{"role": "user", "content": QUESTION}]
    request: Json = {
        "model": model,
        "max_tokens": 8000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
    }
    for _ in range(MAX_TURNS):
        message = anthropic_message(client, streamed, messages=messages, **request)
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            return "".join(block.text for block in message.content if block.type == "text")
        content = [block.model_dump(exclude_none=True) for block in message.content]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": TOOL_OUTPUT} for call in calls]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    raise AssertionError(f"no final text after {MAX_TURNS} turns")


def anthropic_message(client: Any, streamed: bool, **request: Any) -> Any:
    if not streamed:
        return client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        return stream.get_final_message()


def get_weather(city: str) -> dict[str, str]:
    """Return the weather of a city."""
    return {"city": city, "weather": TOOL_OUTPUT}


def google_chat(client: genai.Client, model: str, streamed: bool) -> list[str]:
    """Return the final texts of two questions in one chat. The SDK handles the history and the tool calls."""
    config = types.GenerateContentConfig(
        tools=[get_weather],
        system_instruction="Be brief.",
        thinking_config=types.ThinkingConfig(include_thoughts=True),
    )
    chat = client.chats.create(model=model, config=config)

    def send(question: str) -> str:
        if streamed:
            return "".join(chunk.text or "" for chunk in chat.send_message_stream(question))
        return chat.send_message(question).text or ""

    return [send(QUESTION), send("And now?")]
