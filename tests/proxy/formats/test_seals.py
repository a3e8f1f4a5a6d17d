"""Seals contain thinking of another vendor, survive every client, and never reach a vendor."""

import base64
import json
from typing import Any

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Origin, Thinking
from proxy.formats.registry import CODECS
from proxy.formats.seals import PREFIX, parse_thinking, seal, unseal

THOUGHT = Thinking(text="Hm, „Grüße“ ??>>~~", signature="EqQBsig/+==", origin="anthropic")
REDACTED = Thinking(redacted="EmwKblob", origin="anthropic")
VENDORS_OWN = [
    "EqQBCkYICBgCKkD",
    "EmwKAhgBEgy",
    "gAAAAABpXr",
    "CpYBAdHtim827fQ",
    "Gateway",
    "",
    "a#b",
    "c2ln",
]


@pytest.mark.parametrize("parts", [(), (THOUGHT,), (REDACTED,), (THOUGHT, REDACTED)])
def test_it_returns_what_was_sealed(parts: tuple[Thinking, ...]) -> None:
    assert unseal(seal(*parts)) == parts


@pytest.mark.parametrize("signature", VENDORS_OWN)
def test_a_vendors_own_signature_is_not_a_seal(signature: str) -> None:
    assert unseal(signature) is None


def test_googles_sdks_keep_a_seal_and_its_prefix() -> None:
    """The SDKs decode the field and encode it again, in either base64 alphabet, with or without padding."""
    sealed = seal(THOUGHT)
    assert base64.b64encode(base64.b64decode(sealed, validate=True)).decode() == sealed
    for encoded in (
        base64.urlsafe_b64encode(base64.b64decode(sealed)).decode(),
        sealed.replace("+", "-").replace("/", "_").rstrip("="),
    ):
        assert encoded.startswith(PREFIX) and unseal(encoded) == (THOUGHT,)


def test_a_seal_is_opened_as_often_as_it_was_sealed() -> None:
    twice = seal(Thinking(signature=seal(THOUGHT), origin="gemini"))
    thrice = seal(Thinking(text="lost", redacted=twice, origin="openai_chat"))
    assert unseal(twice) == unseal(thrice) == (THOUGHT,)
    assert unseal(seal(Thinking(text="kept", signature="gemini#anthropic#sig", origin="gemini"))) == (
        Thinking(text="kept", signature="sig", origin="anthropic"),
    )


@pytest.mark.parametrize("cut", [PREFIX, f"{PREFIX}!", seal(THOUGHT)[:-8], f"{PREFIX}bnVsbA=="])
def test_a_damaged_seal_holds_no_thinking_and_is_still_a_seal(cut: str) -> None:
    assert unseal(cut) == ()
    assert parse_thinking("Hm", cut, "anthropic") == (Thinking(text="Hm"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anthropic#sig", Thinking(signature="sig", origin="anthropic")),
        ("gemini#anthropic#sig", Thinking(signature="sig", origin="anthropic")),
        ("openai_chat#", Thinking(origin="openai_chat")),
        ("anthropic#redacted#blob", Thinking(redacted="blob", origin="anthropic")),
    ],
)
def test_seals_of_earlier_versions_are_read(text: str, expected: Thinking) -> None:
    encoded = base64.b64encode(text.encode()).decode()
    assert unseal(text) == unseal(encoded) == unseal(encoded.rstrip("=")) == (expected,)


def test_many_nested_seals_do_not_exhaust_the_stack() -> None:
    assert unseal("gemini#" * 100_000 + "sig") == (Thinking(signature="sig", origin="gemini"),)


# Requests that are passed through -----------------------------------------------------------------


def passed(
    format: Origin, body: dict[str, Any], model: str = "m", provider: str = ""
) -> tuple[Any, tuple[str, ...]]:
    """Return a body without its seals, and the dropped settings."""
    data = json.dumps(body).encode()
    destination = Destination(provider, format, model)
    changed, dropped = CODECS[format].without_seals(data, json.loads(data), destination)
    return json.loads(changed), dropped


def messages_history(*blocks: Any) -> dict[str, Any]:
    content = [*blocks, {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    return {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]}


def thinking_block(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


CLAUDE = Destination("anthropic", "anthropic", "claude-sonnet-4-5")
FOREIGN = Thinking(text="Hm", signature="gAAA", origin="openai_responses")
OWN_BODIES: dict[Origin, dict[str, Any]] = {
    "anthropic": messages_history(
        thinking_block("Hm", "EqQBsig"), {"type": "redacted_thinking", "data": "E"}
    ),
    "openai_responses": {
        "input": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
            {"type": "item_reference", "id": "msg_gateway1"},
        ]
    },
    "openai_chat": {
        "messages": [
            {
                "role": "assistant",
                "reasoning_content": "Hm",
                "reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}],
                "tool_calls": [{"id": "a", "extra_content": {"google": {"thought_signature": "CpYB"}}}],
            }
        ]
    },
    "gemini": {
        "contents": [
            {
                "role": "model",
                "parts": [
                    {"text": "Hm", "thought": True, "thoughtSignature": "CpYB"},
                    {"functionCall": {"name": "f"}, "thoughtSignature": "skip_thought_signature_validator"},
                ],
            }
        ]
    },
}


@pytest.mark.parametrize("format", OWN_BODIES)
def test_a_body_without_seals_passes_unchanged(format: Origin) -> None:
    body = json.dumps(OWN_BODIES[format], indent=3).encode()
    for model in ("m", "claude-sonnet-4-5", "gpt-5.2", "google/gemini-3-pro-preview"):
        destination = Destination("compatible", format, model)
        assert CODECS[format].without_seals(body, OWN_BODIES[format], destination) == (body, ())


@pytest.mark.parametrize("format", CODECS)
@pytest.mark.parametrize("value", [None, "a", 1, {}, [1, None, "a", [], {"role": "assistant"}]])
def test_fields_of_other_types_pass_unchanged(format: Origin, value: Any) -> None:
    """Requests without a conversation may have any fields."""
    names = {"openai_chat": "messages", "openai_responses": "input", "gemini": "contents"}
    if format in names:
        body = {names[format]: value, "generateContentRequest": value, "thinking": value}
        assert passed(format, body)[0] == body


def test_text_about_seals_passes_unchanged() -> None:
    body = {"messages": [{"role": "user", "content": f"What is {seal(THOUGHT)}, or anthropic#sig?"}]}
    data = json.dumps(body).encode()
    for format, codec in CODECS.items():
        wanted = {"contents": [{"parts": [{"text": seal(THOUGHT)}]}]} if format == "gemini" else body
        sent = json.dumps(wanted).encode() if format == "gemini" else data
        assert codec.without_seals(sent, wanted, Destination("", format, "m")) == (sent, ())


@pytest.mark.parametrize(
    "blocks",
    [
        [thinking_block("Hm", seal(Thinking(signature="gAAA", origin="openai_responses")))],
        [thinking_block("Hm", "openai_chat#"), thinking_block("", "gemini#anthropic_")],
        [{"type": "redacted_thinking", "data": seal(Thinking(redacted="x", origin="openai_chat"))}],
    ],
)
def test_claude_gets_no_sealed_thinking(blocks: list[Any]) -> None:
    sent, dropped = passed("anthropic", messages_history(*blocks), "claude-sonnet-4-5")
    assert (sent, dropped) == (messages_history(), ())


def test_claude_gets_its_own_thinking_back() -> None:
    own = seal(Thinking(signature=seal(Thinking(signature="EqQB", origin="anthropic")), origin="gemini"))
    redacted = {"type": "redacted_thinking", "data": seal(REDACTED)}
    sent, _ = passed("anthropic", messages_history(thinking_block("Hm", own), redacted))
    assert sent == messages_history(
        thinking_block("Hm", "EqQB"), {"type": "redacted_thinking", "data": "EmwKblob"}
    )


def test_claude_gets_no_unsigned_thinking_and_other_servers_do() -> None:
    body = messages_history(thinking_block("Hm", ""))
    assert passed("anthropic", body, "claude-opus-4-6")[0] == messages_history()
    assert passed("anthropic", body, "glm-4.7")[0] == body


def test_a_server_that_requires_thinking_keeps_its_text() -> None:
    body = messages_history(thinking_block("Hm", seal(Thinking(origin="openai_chat"))))
    assert passed("anthropic", body, "deepseek-reasoner")[0] == messages_history(thinking_block("Hm", ""))


DEEPSEEK_SIGNATURE = "91cfbb94-554b-4136-8e21-fa02280d56ed"


def test_claude_gets_no_signature_of_another_server_of_its_api() -> None:
    blocks = [thinking_block("Hm", DEEPSEEK_SIGNATURE), thinking_block("So", "EqQBsig")]
    body = messages_history(*blocks)
    assert passed("anthropic", body, "claude-sonnet-4-5")[0] == messages_history(blocks[1])
    assert passed("anthropic", body, "deepseek-v4-pro")[0] == body
    sealed = seal(Thinking(text="Hm", signature=DEEPSEEK_SIGNATURE, origin="anthropic"))
    assert (
        passed("anthropic", messages_history(thinking_block("Hm", sealed)), "claude-x")[0]
        == messages_history()
    )


def test_a_server_that_requires_thinking_gets_no_redacted_thinking() -> None:
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    expected = messages_history(thinking_block(" ", ""), call)
    assert passed("anthropic", messages_history(redacted, call), "kimi-k2.5")[0] == expected
    assert passed("anthropic", messages_history(redacted, call), "glm-5")[0] == messages_history(
        redacted, call
    )


def test_a_message_of_nothing_but_sealed_thinking_is_left_out() -> None:
    sealed = {"role": "assistant", "content": [thinking_block("Hm", seal(FOREIGN))]}
    user = {"role": "user", "content": "a"}
    assert passed("anthropic", {"messages": [user, sealed, user]})[0] == {"messages": [user, user]}


def claude_loop(*blocks: Any, call_id: str, **fields: Any) -> dict[str, Any]:
    call = {"type": "tool_use", "id": call_id, "name": "f", "input": {"a": 1e2}}
    result = {"type": "tool_result", "tool_use_id": call_id, "content": "r"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [*blocks, call]},
        {"role": "user", "content": [result]},
    ]
    return {"messages": messages, "thinking": {"type": "enabled", "budget_tokens": 2000}, **fields}


CLEAR = {"type": "clear_thinking_20251015", "keep": "all"}
CLEAR_TOOLS = {"type": "clear_tool_uses_20250919"}


def test_thinking_is_dropped_in_a_tool_loop_that_began_without_claude() -> None:
    body = claude_loop(
        thinking_block("Hm", seal(FOREIGN)),
        call_id="call_1",
        context_management={"edits": [CLEAR, CLEAR_TOOLS]},
    )
    sent, dropped = passed("anthropic", body)
    without = claude_loop(call_id="call_1", context_management={"edits": [CLEAR_TOOLS]})
    del without["thinking"]
    assert (sent, dropped) == (without, ("thinking",))
    assert passed("anthropic", claude_loop(call_id="call_1"))[1] == ("thinking",)


def test_thinking_stays_in_claudes_own_tool_loop() -> None:
    for body in (
        claude_loop(call_id="toolu_1"),
        claude_loop(thinking_block("Hm", "EqQB"), call_id="call_1"),
        claude_loop(thinking_block("Hm", seal(FOREIGN)), call_id="a", thinking={"type": "adaptive"}),
    ):
        assert "thinking" in passed("anthropic", body)[0]


def test_other_bytes_of_a_changed_body_stay() -> None:
    kept = b'{"type" : "tool_use","id":"toolu_1","name":"f","input":{"a":1e2,"b":"\\u00fc"}}'
    block = json.dumps(thinking_block("Hm", seal(FOREIGN))).encode()
    body = b'{"temperature":1.0, "messages":[ {"role":"assistant","content":[%b, %b]}]}' % (block, kept)
    changed, _ = CODECS["anthropic"].without_seals(body, json.loads(body), CLAUDE)
    assert kept in changed and b'"temperature":1.0' in changed


def test_openai_gets_no_sealed_reasoning_and_no_ids_of_the_gateway() -> None:
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "anthropic#EqQBxx"},
        {
            "type": "reasoning",
            "id": "rs_gateway2",
            "summary": [],
            "encrypted_content": seal(FOREIGN, THOUGHT),
        },
        {"type": "reasoning", "id": "rs_gateway3", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "reasoning", "id": "rs_gateway4", "summary": [], "encrypted_content": seal(THOUGHT)},
        {**text, "id": "msg_gateway5"},
        {**call, "id": "fc_gateway6"},
    ]
    own = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    assert passed("openai_responses", {"input": items})[0] == {"input": [own, text, call]}


def test_an_image_of_another_vendor_becomes_one_in_a_message() -> None:
    image = {"type": "image_generation_call", "id": "ig_gateway1", "status": "completed", "result": "iVBORw"}
    (item,) = passed("openai_responses", {"input": [image]})[0]["input"]
    part = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw", "detail": "auto"}
    assert item == {"type": "message", "role": "user", "content": [part]}


def chat_message(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": "b", **fields}]}


def entry(sealed: str) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": sealed, "index": 0}


def test_a_compatible_server_gets_thinking_without_seals() -> None:
    own = Thinking(text="Hm", signature='{"type":"reasoning.text","signature":"s"}', origin="openai_chat")
    body = chat_message(reasoning_content="Hm", reasoning_details=[entry(seal(THOUGHT)), entry(seal(own))])
    restored = [{"type": "reasoning.text", "signature": "s", "text": "Hm"}]
    assert passed("openai_chat", body)[0] == chat_message(reasoning_content="Hm", reasoning_details=restored)
    body = chat_message(reasoning_content="Hm", reasoning_signature="anthropic#sig")
    assert passed("openai_chat", body)[0] == chat_message(reasoning_content="Hm")


def test_strict_servers_get_no_thinking_of_a_converted_response() -> None:
    body = chat_message(reasoning_content="Hm", reasoning_details=[entry(seal(THOUGHT))])
    assert passed("openai_chat", body, "gpt-4o", "openai")[0] == chat_message()
    assert passed("openai_chat", body, "kimi-k2", "groq")[0] == chat_message()
    unsealed = chat_message(
        reasoning_content="Hm", reasoning_details=[{"type": "reasoning.text", "text": "Hm"}]
    )
    assert passed("openai_chat", unsealed, "gpt-4o", "openai")[0] == chat_message()
    assert passed("openai_chat", unsealed, "deepseek-reasoner", "openai")[0] == unsealed


@pytest.mark.parametrize("provider", ["groq", "mistral", "cerebras", "azure"])
def test_strict_servers_get_no_thinking_without_a_seal_either(provider: str) -> None:
    raw = {"google": {"thought_signature": "CpYB"}}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = chat_message(reasoning_content="Hm", tool_calls=[{**call, "extra_content": raw}])
    assert passed("openai_chat", body, "m", provider)[0] == chat_message(tool_calls=[call])
    assert passed("openai_chat", body, "m", "openrouter")[0] == body


@pytest.mark.parametrize("provider", ["groq", "mistral", "cerebras", "fireworks"])
def test_strict_servers_get_no_empty_fields_of_responses(provider: str) -> None:
    body = chat_message(refusal=None, annotations=[], audio=None)
    assert passed("openai_chat", body, "m", provider)[0] == chat_message()
    assert passed("openai_chat", body, "m", "compatible")[0] == body
    refused = {"messages": [{"role": "assistant", "content": None, "refusal": "No."}]}
    answered = {"messages": [{"role": "assistant", "content": "No."}]}
    assert passed("openai_chat", refused, "m", provider)[0] == answered


def test_only_googles_server_gets_the_signature_of_a_call() -> None:
    sealed = seal(Thinking(signature="CpYB", origin="gemini"))
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = chat_message(tool_calls=[{**call, "extra_content": {"google": {"thought_signature": sealed}}}])
    assert passed("openai_chat", body, "llama")[0] == chat_message(tool_calls=[call])
    raw = {"google": {"thought_signature": "CpYB"}}
    google = passed("openai_chat", body, "gemini-2.5-pro")[0]
    assert google == chat_message(tool_calls=[{**call, "extra_content": raw}])
    assert passed("openai_chat", google, "m")[0] == google
    assert passed("openai_chat", google, "gpt-4o", "openai")[0] == chat_message(tool_calls=[call])


def test_a_server_that_requires_thinking_gets_a_placeholder() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    thought, unknown = (
        {"role": "assistant", "reasoning_content": "Hm"},
        {"role": "assistant", "tool_calls": [call]},
    )
    body = {"messages": [thought, unknown]}
    sent = passed("openai_chat", body, "kimi-k2-thinking")[0]
    assert sent == {"messages": [thought, {**unknown, "reasoning_content": " "}]}
    assert passed("openai_chat", body, "llama")[0] == body


@pytest.mark.parametrize(
    ("model", "settings", "required"),
    [
        ("deepseek-v4-pro", {}, True),
        ("deepseek-v4-pro", {"thinking": {"type": "disabled"}}, False),
        ("kimi-k2.5", {"reasoning_effort": "none"}, False),
        ("deepseek-chat", {}, False),
        ("deepseek-v3.2", {"thinking": {"type": "enabled"}}, True),
        ("gpt-4o", {"reasoning_effort": "low"}, False),
    ],
)
def test_a_model_requires_thinking_if_it_thinks(model: str, settings: dict[str, Any], required: bool) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    added = {"reasoning_content": " "} if required else {}
    sent = passed("openai_chat", chat_message(tool_calls=[call]) | settings, model)[0]
    assert sent == chat_message(tool_calls=[call], **added) | settings
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    if "reasoning_effort" not in settings:
        sent = passed("anthropic", messages_history(block) | settings, model)[0]
        before = [thinking_block(" ", "")] if required else []
        assert sent == messages_history(*before, block) | settings


def test_gemini_3_gets_a_signature_on_the_first_call() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    skipped = {**call, "extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
    body = chat_message(tool_calls=[call, call])
    assert passed("openai_chat", body, "gemini-3-pro")[0] == chat_message(tool_calls=[skipped, call])
    assert passed("openai_chat", body, "gemini-2.5-pro")[0] == body
    details = [{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}]
    routed = chat_message(tool_calls=[call], reasoning_details=details)
    assert passed("openai_chat", routed, "google/gemini-3-pro")[0] == routed


def gemini_parts(*parts: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": list(parts)}]}


CALL = {"functionCall": {"name": "f", "args": {}}}


@pytest.mark.parametrize("field", ["thoughtSignature", "thought_signature"])
@pytest.mark.parametrize(
    "foreign", [seal(THOUGHT), seal(), base64.urlsafe_b64encode(b"anthropic#EqQB").decode(), "openai_chat#"]
)
def test_gemini_gets_no_seals_and_its_text_stays(field: str, foreign: str) -> None:
    sealed = {field: foreign}
    thought, empty = {"text": "Hm", "thought": True, **sealed}, {"text": "", **sealed}
    body = gemini_parts(thought, empty, {"text": "b", **sealed}, {**CALL, **sealed})
    assert passed("gemini", body, "gemini-2.5-pro")[0] == gemini_parts({"text": "b"}, CALL)
    skipped = {**CALL, field: "skip_thought_signature_validator"}
    assert passed("gemini", body, "gemini-3-pro-preview")[0] == gemini_parts({"text": "b"}, skipped)
    counted = {"generateContentRequest": {"model": "models/m", **body}}
    expected = {"generateContentRequest": {"model": "models/m", **gemini_parts({"text": "b"}, CALL)}}
    assert passed("gemini", counted)[0] == expected


def test_gemini_gets_its_own_signature_back() -> None:
    sealed = seal(THOUGHT, Thinking(signature="CpYB", origin="gemini"))
    sent = passed("gemini", gemini_parts({**CALL, "thoughtSignature": sealed}), "gemini-3-pro-preview")[0]
    assert sent == gemini_parts({**CALL, "thoughtSignature": "CpYB"})


def test_a_content_of_nothing_but_sealed_thoughts_is_left_out() -> None:
    sealed = {"role": "model", "parts": [{"text": "Hm", "thought": True, "thoughtSignature": seal(THOUGHT)}]}
    user = {"role": "user", "parts": [{"text": "a"}]}
    assert passed("gemini", {"contents": [user, sealed, user]})[0] == {"contents": [user, user]}


def test_gemini_gets_no_seal_in_an_object_in_place_of_a_list() -> None:
    part = {"text": "Hm", "thoughtSignature": seal(THOUGHT)}
    content = {"role": "model", "parts": part}
    cleaned = {"role": "model", "parts": [{"text": "Hm"}]}
    user = {"role": "user", "parts": {"text": "a"}}
    assert passed("gemini", {"contents": [user, content]})[0] == {"contents": [user, cleaned]}
    assert passed("gemini", {"contents": content})[0] == {"contents": [cleaned]}


def test_claude_gets_no_citations_of_another_vendor() -> None:
    own = {"type": "web_search_result_location", "url": "https://a", "encrypted_index": "EqQB"}
    foreign = {**own, "encrypted_index": ""}
    texts: list[dict[str, Any]] = [
        {"type": "text", "text": "a", "citations": [foreign]},
        {"type": "text", "text": "b", "citations": [foreign, own]},
        {"type": "text", "text": "c", "citations": [own]},
        {"type": "text", "text": "d", "citations": None},
    ]
    cleaned = [{"type": "text", "text": "a"}, {**texts[1], "citations": [own]}, *texts[2:]]
    assert passed("anthropic", messages_history(*texts))[0] == messages_history(*cleaned)
