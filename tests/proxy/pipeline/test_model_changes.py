"""Conversations continue when their model changes, and a vendor gets its own thinking back.

Every client sends a conversation to a vendor, then to another one, then to the first one again. The vendor
changes within a tool loop, or at the next message of the user. Vendors reject thinking of other vendors.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from proxy.formats.registry import CODECS
from proxy.formats.seals import PREFIX
from tests.support.conversation_clients import CLIENTS, Client, ThoughtlessGeminiClient, Turn, Vendor
from tests.support.strict_provider.agent_script import FINISHED
from tests.support.strict_provider.signatures import sign

TEXT = "I will use a tool."
THOUGHT = "Step 0: decide what to do next."
OWN_MARKS = (PREFIX, "_gateway", "reasoning_signature", *(f"{format}#" for format in CODECS))
CHAT, DEEPSEEK, DEEPSEEK_MESSAGES, RESPONSES, CLAUDE, GEMINI_3, GEMINI_3_CHAT, GEMINI_2 = VENDORS = (
    Vendor("openai", "openai_chat", "gpt-5.1", "/v1"),
    Vendor("deepseek", "openai_chat", "deepseek-reasoner", "/reasoning/v1"),
    Vendor("deepseek", "anthropic", "deepseek-v4-pro", "/reasoning"),
    Vendor("openai", "openai_responses", "gpt-5.1-codex", "/v1"),
    Vendor("anthropic", "anthropic", "claude-sonnet-4-5"),
    Vendor("gemini", "gemini", "gemini-3-pro-preview"),
    Vendor("google", "openai_chat", "gemini-3.1-pro", "/v1beta/openai"),
    Vendor("gemini", "gemini", "gemini-2.5-flash"),
)
Change = tuple[str, Vendor, Vendor, bool]
"""The format of a client, two vendors, and whether the responses are streamed."""
streamed = pytest.mark.parametrize("streams", [False, True], ids=["complete", "streamed"])


def all_changes() -> Iterator[Change]:
    for first, second in itertools.permutations(VENDORS, 2):
        yield from ((format, first, second, streams) for format in CLIENTS for streams in (False, True))


def paired_changes() -> Iterator[Change]:
    """Yield each pair of vendors once, so that each client and each mode meets all vendors in both places."""
    formats = list(CLIENTS)
    for first, second in itertools.permutations(VENDORS, 2):
        place, other = VENDORS.index(first), VENDORS.index(second)
        format = formats[(place + other) % len(formats)]
        yield format, first, second, (place // 2 + other // 2 + place + other // 4) % 2 == 0


def changes(chosen: Iterable[Change]) -> pytest.MarkDecorator:
    cases = [
        pytest.param(*change, id=f"{change[0]}: {change[1].model}, {change[2].model}, {change[3]}")
        for change in chosen
    ]
    return pytest.mark.parametrize(("format", "first", "second", "streams"), cases)


def test_the_short_form_has_each_pair_of_client_vendor_and_mode() -> None:
    chosen = set(paired_changes())
    for places in itertools.combinations(range(4), 2):
        wanted = {tuple(change[place] for place in places) for change in all_changes()}
        assert {tuple(change[place] for place in places) for change in chosen} == wanted


@changes(paired_changes())
def test_a_tool_loop_goes_on_at_another_vendor_and_back(
    format: str, first: Vendor, second: Vendor, streams: bool
) -> None:
    go_on_in_a_tool_loop(format, first, second, streams)


@pytest.mark.long
@changes(all_changes())
def test_every_tool_loop_goes_on_at_another_vendor_and_back(
    format: str, first: Vendor, second: Vendor, streams: bool
) -> None:
    go_on_in_a_tool_loop(format, first, second, streams)


@changes(paired_changes())
def test_the_next_message_goes_to_another_vendor_and_back(
    format: str, first: Vendor, second: Vendor, streams: bool
) -> None:
    go_on_with_the_next_message(format, first, second, streams)


@pytest.mark.long
@changes(all_changes())
def test_every_next_message_goes_to_another_vendor_and_back(
    format: str, first: Vendor, second: Vendor, streams: bool
) -> None:
    go_on_with_the_next_message(format, first, second, streams)


def go_on_in_a_tool_loop(format: str, first: Vendor, second: Vendor, streams: bool) -> None:
    client = CLIENTS[format](format, streams)
    client.ask("Go")
    turns = [take_turn(client, vendor) for vendor in (first, second, first)]
    assert own_thinking(first, turns[0].answer) in turns[2].sent.decode()
    assert TEXT in sent_text(turns[2]) and FINISHED in text_in(client.history)


def go_on_with_the_next_message(format: str, first: Vendor, second: Vendor, streams: bool) -> None:
    client = CLIENTS[format](format, streams)
    for vendor in (first, second, first):
        client.ask("Go")
        turns = [take_turn(client, vendor) for _ in range(3)]
    assert (sent_text(turns[0]).count(TEXT), sent_text(turns[0]).count(FINISHED)) == (2, 2)


@streamed
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.model)
def test_thoughts_return_though_the_client_keeps_none(vendor: Vendor, streams: bool) -> None:
    """Gemini CLI stores the signatures of calls, but not the thoughts."""
    client = ThoughtlessGeminiClient("gemini", streams)
    client.ask("Go")
    turns = [take_turn(client, vendor) for _ in range(3)]
    assert own_thinking(vendor, turns[0].answer) in turns[2].sent.decode()
    assert FINISHED in text_in(client.history)


def take_turn(client: Client, vendor: Vendor) -> Turn:
    """Let a vendor respond. Assert that it rejects nothing, and receives no seals and ids of the gateway."""
    turn = client.take_turn(vendor)
    assert (turn.violations, [mark for mark in OWN_MARKS if mark.encode() in turn.sent]) == ((), [])
    return turn


def own_thinking(vendor: Vendor, answer: bytes) -> str:
    """Return the thinking and signatures of a vendor's first response, which it must get back."""
    match vendor.format:
        case "anthropic" if vendor == CLAUDE:
            return sign("anthropic", THOUGHT)
        case "gemini" | "openai_chat" if vendor.model.startswith("gemini"):
            return sign("gemini", "run")
        case "openai_responses":
            return answer.decode().partition('"encrypted_content": "')[2].partition('"')[0]
        case _:
            return "" if vendor == CHAT else THOUGHT


def sent_text(turn: Turn) -> str:
    return text_in(json.loads(turn.sent))


def text_in(value: Any) -> str:
    """Return all texts, joined, because a client may store the pieces of a stream separately."""
    return "".join(texts_in(value))


def texts_in(value: Any) -> Iterator[str]:
    match value:
        case dict():
            yield from (value[name] for name in ("text", "content") if isinstance(value.get(name), str))
            for item in value.values():
                yield from texts_in(item)
        case list():
            for item in value:
                yield from texts_in(item)
