"""Compaction by models of other vendors, which write a summary as a text.

OpenAI compacts a conversation that ends with an item `compaction_trigger`, and responds with one item
`compaction`, which replaces the history (developers.openai.com/api/docs/guides/compaction). Clients do not
read its `encrypted_content`, so the gateway puts the summary of another vendor's model there, as a seal.
"""

from collections.abc import Sequence
from typing import Any

from proxy.formats.json_body import as_str
from proxy.formats.neutral import Message, Opaque, Thinking
from proxy.formats.openai_responses.content import new_id
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.seals import seal, unseal

Item = dict[str, Any]
TRIGGER = "compaction_trigger"
COMPACTION_TYPES = ("compaction", "compaction_summary", "context_compaction")
TASK = (
    "Summarize this conversation for a model that will continue the work. It will see your summary, but not "
    "the conversation. State what the user wants, what was decided and done, which files and facts matter, "
    "what failed, and the next steps. Write only the summary."
)
HEADING = "Summary of the conversation until here:"


def parse_trigger(item: Item) -> Opaque:
    """Return the item that asks for a compaction. Its text tells models of other vendors to summarize."""
    return Opaque(origin=FORMAT, kind=TRIGGER, value=item, text=TASK)


def wants_summary(messages: Sequence[Message]) -> bool:
    """Return whether a conversation ends with the item that asks for a compaction."""
    last = messages[-1].parts[-1:] if messages else ()
    return any(isinstance(part, Opaque) and part.kind == TRIGGER for part in last)


def parse_summary(item: Item) -> str | None:
    """Return the summary in a compaction item; None if OpenAI has encrypted it."""
    sealed = unseal(as_str(item.get("encrypted_content")))
    return None if sealed is None else f"{HEADING}\n\n{''.join(part.text for part in sealed)}"


def render_summary(text: str) -> list[Item]:
    """Return a list with the compaction item. The list is empty if the model wrote no summary.

    An item with an empty summary would erase the conversation.
    """
    if not text.strip():
        return []
    return [{"id": new_id("cmp"), "type": "compaction", "encrypted_content": seal(Thinking(text=text))}]


class SummaryEncoder:
    """Collects the texts of a stream, because the compaction item needs the complete summary."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        self.text += text

    def add_signature(self, signature: str) -> None:
        """Ignore the signature, because neutral texts do not have signatures."""

    def end(self) -> None:
        """Wait for further texts."""
