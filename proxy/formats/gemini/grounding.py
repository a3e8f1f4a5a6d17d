"""Sources of a response, parsed and rendered (ai.google.dev/api/generate-content#GroundingMetadata).

Google's positions are byte offsets into the UTF-8 encoding of the complete text of a response.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from proxy.formats.gemini.wire import WireStruct
from proxy.formats.json_body import dict_items
from proxy.formats.media import URL_PREFIXES
from proxy.formats.metering.billable import reported_calls
from proxy.formats.neutral import Citation, Part, Refusal, Text

QUERY_FIELDS = ("webSearchQueries", "imageSearchQueries")
SOURCE_KINDS = ("web", "image", "maps")
"""The fields of a grounding chunk that tell which kind of source Google has found."""


class Source(WireStruct):
    """A source. `text` is the passage that a retrieval has found. A web search reports no text."""

    uri: str | None = None
    title: str | None = None
    text: str | None = None


class Chunk(WireStruct):
    web: Source | None = None
    retrieved_context: Source | None = None


class Segment(WireStruct):
    start_index: int | None = None
    end_index: int | None = None


class Support(WireStruct):
    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class Grounding(WireStruct):
    grounding_chunks: list[Chunk] | None = None
    grounding_supports: list[Support] | None = None


class GroundingUsage:
    """Counts the searches that Google made for a response, over all candidates and chunks of the response.

    Empty and repeated queries are not billed (ai.google.dev/gemini-api/docs/google-search, "Pricing"). Google
    lists queries to Google Maps together with web queries. Only the sources that they found show whether
    there was a query to Google Maps (.../maps-grounding). If there are sources from Google Maps and from the
    web, one query counts as a query to Google Maps, and the others as web searches.
    """

    def __init__(self) -> None:
        self.queries: set[tuple[str, str]] = set()
        self.source_kinds: set[str] = set()

    def add(self, metadata: Any) -> None:
        if not isinstance(metadata, dict):
            return
        for name in QUERY_FIELDS:
            queries = metadata.get(name)
            self.queries |= (
                {(name, query) for query in queries if isinstance(query, str) and query}
                if isinstance(queries, list)
                else set()
            )
        self.source_kinds |= {
            name
            for chunk in dict_items(metadata.get("groundingChunks"))
            for name in SOURCE_KINDS
            if name in chunk
        }

    @property
    def billable_extras(self) -> dict[str, int]:
        """The number of web searches and Google Maps queries, by kind."""
        count = len(self.queries)
        if "maps" not in self.source_kinds:
            return reported_calls(web_search=count)
        if self.source_kinds == {"maps"}:
            return reported_calls(google_maps=max(count, 1))
        return reported_calls(google_maps=1, web_search=max(count - 1, 1))


def parse_citations(metadata: Any, texts: Sequence[str]) -> list[list[Citation]]:
    """Return the citations of web pages in each text of a response."""
    try:
        grounding = msgspec.convert(metadata, Grounding)
    except msgspec.ValidationError:
        grounding = Grounding()
    cited: list[list[Citation]] = [[] for _ in texts]
    for support in grounding.grounding_supports or ():
        segment = support.segment or Segment()
        number, start, end = span_position(texts, segment.start_index or 0, segment.end_index or 0)
        if start < end:
            cited[number] += chunk_citations(grounding.grounding_chunks or [], support, start, end)
    return cited


def span_position(texts: Sequence[str], first: int, last: int) -> tuple[int, int, int]:
    """Return the number of the text that contains a span of bytes, and the span's characters in this text.

    `first` and `last` are byte offsets into all texts together. The span is returned as the positions of its
    first character and of the character after its end. If no text contains the bytes, the returned span is
    empty.
    """
    for number, text in enumerate(texts):
        data = text.encode()
        if first < len(data):
            start, end = (len(data[: max(at, 0)].decode(errors="ignore")) for at in (first, last))
            return number, start, end
        first, last = first - len(data), last - len(data)
    return 0, 0, 0


def chunk_citations(chunks: list[Chunk], support: Support, start: int, end: int) -> list[Citation]:
    cited_chunks = [
        chunks[index] for index in support.grounding_chunk_indices or () if 0 <= index < len(chunks)
    ]
    sources = [chunk.web or chunk.retrieved_context or Source() for chunk in cited_chunks]
    return [
        Citation(url=source.uri, title=source.title or "", quote=source.text or "", start=start, end=end)
        for source in sources
        if source.uri and source.uri.startswith(URL_PREFIXES)
    ]


def render_grounding(parts: Iterable[Part]) -> dict[str, Any]:
    """Render the groundingMetadata of a response; empty if its parts cite no source."""
    pages: dict[str, dict[str, Any]] = {}
    supports, offset = [], 0
    for part in parts:
        if isinstance(part, Text):
            for citation in part.citations:
                pages.setdefault(
                    citation.url, {"web": {"uri": citation.url, "title": citation.title or citation.url}}
                )
                number = list(pages).index(citation.url)
                supports.append(
                    {
                        "segment": render_segment(part.text, citation, offset),
                        "groundingChunkIndices": [number],
                    }
                )
        if isinstance(part, Text | Refusal):
            offset += len(part.text.encode())
    return (
        {"groundingMetadata": {"groundingChunks": list(pages.values()), "groundingSupports": supports}}
        if supports
        else {}
    )


def render_segment(text: str, citation: Citation, offset: int) -> dict[str, Any]:
    """Render a cited span. `offset` is the number of bytes of the response before this text."""
    start, end = citation.span(len(text))
    cited = text[start:end]
    start_byte = offset + len(text[:start].encode())
    return {"startIndex": start_byte, "endIndex": start_byte + len(cited.encode()), "text": cited}
