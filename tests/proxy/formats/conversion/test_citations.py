"""Citations reach clients of all formats, in non-streaming responses and in streams."""

import itertools
import json
from typing import Any

import pytest
from anthropic.types import Message as ClaudeMessage
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response as OpenAIResponse

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.codec import Codec
from proxy.formats.neutral import (
    Choice,
    Citation,
    Event,
    Finished,
    Message,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Request,
    Response,
    Started,
    Text,
    Thinking,
)
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS

CLIENT = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)
PAIRS = list(itertools.product(CODECS, CODECS))
LEAD = Text(text="Grüße. ")
CITED = Text(
    text="Öl 🎉 burns. Water does not.",
    citations=(
        Citation(url="https://oil.example/a", title="Oil", start=0, end=11),
        Citation(url="https://water.example", title="Water", start=12, end=27),
    ),
)
PARTS: tuple[Part, ...] = (Thinking(text="Hm.", origin="gemini"), LEAD, CITED)
ANSWER = Response(id="a", model="m", choices=(Choice(parts=PARTS),))
WITHOUT_PLACES = ("anthropic",)
"""Formats in which a citation applies to the whole text of its block."""


def events(parts: tuple[Part, ...]) -> list[Event]:
    made: list[Event] = [Started(id="a", model="m")]
    for index, part in enumerate(parts):
        assert isinstance(part, Text | Thinking)
        empty = Text() if isinstance(part, Text) else Thinking(origin=part.origin)
        made += [
            PartStarted(choice=0, index=index, part=empty),
            PartDelta(choice=0, index=index, text=part.text),
        ]
        if isinstance(part, Text):
            made += [PartCited(choice=0, index=index, citation=citation) for citation in part.citations]
        made.append(PartEnded(choice=0, index=index))
    return [*made, Finished(choice=0, finish_reason="stop")]


def streamed(codec: Codec, events: list[Event]) -> bytes:
    encoder = codec.render_stream(CLIENT)
    return b"".join(encoder.encode(event) for event in events) + bytes(encoder.finish())


def decoded(codec: Codec, stream: bytes) -> list[Event]:
    decoder = codec.parse_stream()
    return [*decoder.feed(stream), *decoder.finish()]


def collected(events: list[Event]) -> list[Text]:
    texts: dict[int, Text] = {}
    for event in events:
        match event:
            case PartStarted(index=index, part=Text()):
                texts[index] = Text()
            case PartDelta(index=index, text=text) if index in texts:
                texts[index] = Text(text=texts[index].text + text)
            case PartCited(index=index, citation=citation):
                before = texts[index]
                texts[index] = Text(text=before.text, citations=(*before.citations, citation))
            case _:
                pass
    return list(texts.values())


def sources(texts: list[Text]) -> list[tuple[str, str, str]]:
    """Return the page, the title and the cited text of each citation."""
    found = [
        (text.text[slice(*cited.span(len(text.text)))], cited) for text in texts for cited in text.citations
    ]
    return [(cited.url, cited.title, words) for words, cited in found]


def expected(*path: str) -> list[tuple[str, str, str]]:
    places = not set(path) & set(WITHOUT_PLACES)
    return [(url, title, words if places else CITED.text) for url, title, words in sources([CITED])]


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_citations_of_a_response_reach_the_client(client: str, provider: str) -> None:
    sent = CODECS[provider].parse_response(CODECS[provider].render_response(ANSWER, CLIENT))
    received = CODECS[client].parse_response(CODECS[client].render_response(sent, CLIENT))
    texts = [part for part in received.choices[0].parts if isinstance(part, Text)]
    assert "".join(text.text for text in texts) == LEAD.text + CITED.text
    assert [source[:2] for source in sources(texts)] == [source[:2] for source in expected()]
    if "openai_chat" not in (client, provider):  # its messages have one text
        assert sources(texts) == expected(client, provider)


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_citations_of_a_stream_reach_the_client(client: str, provider: str) -> None:
    sent = decoded(CODECS[provider], streamed(CODECS[provider], events((CITED,))))
    received = collected(decoded(CODECS[client], streamed(CODECS[client], sent)))
    assert "".join(text.text for text in received) == CITED.text
    assert sources(received) == expected(client, provider)


@pytest.mark.parametrize("client", CODECS)
def test_citation_offsets_count_from_the_start_of_the_message(client: str) -> None:
    cited = READ[client](CODECS[client].render_response(ANSWER, CLIENT))
    assert cited == expected(client)
    if client != "anthropic":
        (received,) = [PLACES[client](streamed(CODECS[client], events(PARTS)))]
        assert received == expected(client)


def read_chat(body: bytes) -> list[tuple[str, str, str]]:
    message = ChatCompletion.model_validate_json(body).choices[0].message
    found = [note.url_citation for note in message.annotations or []]
    return [
        (cited.url, cited.title, (message.content or "")[cited.start_index : cited.end_index])
        for cited in found
    ]


def read_responses(body: bytes) -> list[tuple[str, str, str]]:
    items = OpenAIResponse.model_validate_json(body).output
    contents = [
        content
        for item in items
        if item.type == "message"
        for content in item.content
        if content.type == "output_text"
    ]
    cited = [
        (content, note) for content in contents for note in content.annotations if note.type == "url_citation"
    ]
    return [
        (note.url, note.title, content.text[note.start_index : note.end_index]) for content, note in cited
    ]


def read_messages(body: bytes) -> list[tuple[str, str, str]]:
    blocks = [block for block in ClaudeMessage.model_validate_json(body).content if block.type == "text"]
    cited = [
        (block, note)
        for block in blocks
        for note in block.citations or []
        if note.type == "web_search_result_location"
    ]
    return [(note.url, note.title or "", block.text) for block, note in cited]


def read_gemini(body: bytes) -> list[tuple[str, str, str]]:
    return read_grounding([GenerateContentResponse.model_validate_json(body)])


def read_grounding(answers: list[GenerateContentResponse]) -> list[tuple[str, str, str]]:
    candidates = [candidate for response in answers for candidate in response.candidates or []]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or []]
    text = "".join(part.text or "" for part in parts if not part.thought).encode()
    (grounding,) = [candidate.grounding_metadata for candidate in candidates if candidate.grounding_metadata]
    found: list[tuple[str, str, str]] = []
    for support in grounding.grounding_supports or []:
        (number,) = support.grounding_chunk_indices or []
        page, segment = (grounding.grounding_chunks or [])[number].web, support.segment
        assert page is not None and segment is not None
        assert text[segment.start_index or 0 : segment.end_index].decode() == segment.text
        found.append((page.uri or "", page.title or "", segment.text or ""))
    return found


READ: dict[str, Any] = {
    "openai_chat": read_chat,
    "openai_responses": read_responses,
    "anthropic": read_messages,
    "gemini": read_gemini,
}


def data_in(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]


def chat_places(stream: bytes) -> list[tuple[str, str, str]]:
    deltas = [choice["delta"] for chunk in data_in(stream) for choice in chunk["choices"]]
    text = "".join(delta.get("content") or "" for delta in deltas)
    notes = [note["url_citation"] for delta in deltas for note in delta.get("annotations", ())]
    return [(note["url"], note["title"], text[note["start_index"] : note["end_index"]]) for note in notes]


def responses_places(stream: bytes) -> list[tuple[str, str, str]]:
    events = data_in(stream)
    added = [
        event["annotation"] for event in events if event["type"] == "response.output_text.annotation.added"
    ]
    assert [note["url"] for note in added] == [citation.url for citation in CITED.citations]
    return read_responses(json.dumps(events[-1]["response"]).encode())


def gemini_places(stream: bytes) -> list[tuple[str, str, str]]:
    return read_grounding([GenerateContentResponse.model_validate(chunk) for chunk in data_in(stream)])


PLACES: dict[str, Any] = {
    "openai_chat": chat_places,
    "openai_responses": responses_places,
    "gemini": gemini_places,
}


def test_claude_citations_come_before_the_text_and_once() -> None:
    quoted = {
        "type": "web_search_result_location",
        "url": "https://x.example",
        "title": None,
        "cited_text": "q",
        "encrypted_index": "e",
    }
    inside = {
        "type": "char_location",
        "document_index": 0,
        "cited_text": "q",
        "start_char_index": 0,
        "end_char_index": 1,
    }
    events = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": "", "citations": []},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "citations_delta", "citation": note},
            }
            for note in (quoted, inside, 7)
        ),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Yes."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    assert collected(decoded(anthropic, stream)) == [
        Text(text="Yes.", citations=(Citation(url="https://x.example", quote="q"),))
    ]


def test_claude_block_without_text_has_no_citations() -> None:
    assert (
        collected(decoded(anthropic, streamed(anthropic, events((Text(citations=CITED.citations),))))) == []
    )


def test_openai_citation_in_event_and_item_counts_once() -> None:
    stream = streamed(openai_responses, events((CITED,)))
    assert stream.count(b"https://oil.example/a") > 3
    assert sources(collected(decoded(openai_responses, stream))) == expected()


@pytest.mark.parametrize("early", [True, False])
def test_citations_may_come_with_any_delta(early: bool) -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://x.example", "content": "quoted"}}
    deltas: list[dict[str, Any]] = [
        {"content": "Yes."},
        {"content": "", "annotations": [note]},
        {"content": " No.", "annotations": [note]},
    ]
    deltas = [{"annotations": [note]}, *deltas] if early else deltas
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    stream = (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    )
    cited = Text(text="Yes. No.", citations=(Citation(url="https://x.example", quote="quoted"),))
    assert collected(decoded(openai_chat, stream)) == [cited]


@pytest.mark.parametrize(
    "odd",
    [
        {"groundingSupports": 7},
        {"groundingChunks": [{}], "groundingSupports": [{}, {"segment": {"endIndex": 9}}]},
    ],
)
def test_grounding_without_pages_has_no_citations(odd: dict[str, Any]) -> None:
    candidate = {"content": {"parts": [{"text": "Yes."}]}, "finishReason": "STOP", "groundingMetadata": odd}
    (choice,) = gemini.parse_response(json.dumps({"candidates": [candidate]}).encode()).choices
    assert choice.parts[0] == Text(text="Yes.")


@pytest.mark.parametrize("client", CODECS)
def test_citation_offset_beyond_the_text_is_capped(client: str) -> None:
    cited = Text(text="Yes.", citations=(Citation(url="https://x.example", start=-3, end=2**64 - 1),))
    response = Response(id="a", model="m", choices=(Choice(parts=(LEAD, cited)),))
    assert [words for _, _, words in READ[client](CODECS[client].render_response(response, CLIENT))] == [
        "Yes."
    ]
    assert streamed(CODECS[client], events((LEAD, cited)))


def test_foreign_citations_are_left_out_of_anthropic_requests() -> None:
    request = Request(
        model="m", messages=(Message(role="assistant", parts=(CITED,)), *CLIENT.messages), max_tokens=5
    )
    assert "oil.example" not in json.dumps(anthropic.render_request(request, Quirks()).body)


# Pages of a response that are not in its text ---------------------------------------------------------


PAGES = [{"title": "Oil", "url": "https://oil.example/a", "date": None}]


@pytest.mark.parametrize(
    ("beside", "titles"),
    [
        ({"search_results": PAGES, "citations": ["https://oil.example/a"]}, ["Oil"]),
        ({"citations": ["https://oil.example/a"]}, [""]),
        ({"citations": [None, ""], "search_results": [{}]}, []),
    ],
)
def test_pages_beside_the_choices_are_citations(beside: dict[str, Any], titles: list[str]) -> None:
    body = {"choices": [{"message": {"content": "Oil burns."}, "finish_reason": "stop"}], **beside}
    (text,) = openai_chat.parse_response(json.dumps(body).encode()).choices[0].parts
    assert isinstance(text, Text) and [citation.title for citation in text.citations] == titles
    decoder = openai_chat.parse_stream()
    for words, reason in (("Oil ", None), ("burns.", "stop")):
        chunk = {
            "id": "c",
            "choices": [{"index": 0, "delta": {"content": words}, "finish_reason": reason}],
            **beside,
        }
        decoder_events = decoder.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        assert not any(isinstance(event, PartCited) for event in decoder_events)
    assert [event.citation.title for event in decoder.finish() if isinstance(event, PartCited)] == titles
