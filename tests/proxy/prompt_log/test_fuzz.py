"""Arbitrary requests, responses and streams never make the log fail."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from projects.ids import uuid7
from proxy.models import PromptLogMode, RedactionRule
from proxy.prompt_log.body import encode
from proxy.prompt_log.capture import FULL_LENGTH, Capture
from proxy.prompt_log.policy import PromptLogPolicy
from proxy.prompt_log.redaction import build_redactor
from proxy.prompt_log.texts import CONVERSATION_FIELDS, OBJECT_FIELDS, TEXT_FIELDS
from proxy.prompt_log.writer import prompt_log_writer

NAMES = st.sampled_from([*CONVERSATION_FIELDS, *TEXT_FIELDS, *OBJECT_FIELDS, "type"]) | st.text(max_size=5)
TEXTS = st.text(max_size=30) | st.sampled_from(["response.failed", "response.text.delta", "a@b.cd", "1" * 16])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda nested: st.lists(nested, max_size=4) | st.dictionaries(NAMES, nested, max_size=4),
    max_leaves=12,
)
POLICIES = [
    PromptLogPolicy(mode, build_redactor(frozenset(RedactionRule.values), (r"\d{2,4}",)))
    for mode in (PromptLogMode.PREVIEW, PromptLogMode.FULL)
]


@given(
    fields=st.dictionaries(NAMES, VALUES, max_size=4),
    response=VALUES.map(encode) | st.binary(max_size=60),
    is_stream=st.booleans(),
    policy=st.sampled_from(POLICIES),
)
@settings(max_examples=60)
def test_every_body_can_be_built_and_stored(
    fields: dict[str, Any], response: bytes, is_stream: bool, policy: PromptLogPolicy
) -> None:
    capture = Capture(uuid7(), 1, policy, fields, 0, ())
    if is_stream:
        capture.start_stream()
        response = b"data: " + response + b"\n\n"
    for start in range(0, len(response), 20):
        capture.add(response[start : start + 20], prompt_log_writer.executor)
    body = capture.build_body()
    assert "a@b.cd" not in body.prompt + body.response and "1" * 16 not in body.prompt + body.response
    assert len(encode(body)) < 4 * FULL_LENGTH
