"""Neutral types: what all wire formats have in common, frozen and typed.

Each codec converts between its JSON and these types, never between two formats. What only one format can
express is kept as `Opaque` with its origin, so that it is never lost silently: it is rendered for its
origin. For others, it becomes text, is named as dropped, or is rejected. Nothing here knows Django or
another app.
"""

from proxy.formats.neutral.content import (
    Citation,
    File,
    Frozen,
    Image,
    Message,
    Opaque,
    Origin,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.formats.neutral.errors import (
    InvalidRequest,
    InvalidUpstreamResponse,
    UnsupportedFeature,
)
from proxy.formats.neutral.events import (
    Event,
    Failed,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    UsageReported,
)
from proxy.formats.neutral.request import (
    MAX_TOKENS,
    Reasoning,
    Request,
    RequestFacts,
    ResponseFormat,
)
from proxy.formats.neutral.response import (
    ApiError,
    Choice,
    FinishReason,
    Response,
    Usage,
    reported_or_none,
)
from proxy.formats.neutral.tools import (
    CodeExecution,
    ServerTool,
    SharedTool,
    Tool,
    ToolChoice,
    UserLocation,
    VendorTool,
    WebFetch,
    WebSearch,
)

__all__ = [
    "MAX_TOKENS",
    "ApiError",
    "Choice",
    "Citation",
    "CodeExecution",
    "Event",
    "Failed",
    "File",
    "FinishReason",
    "Finished",
    "Frozen",
    "Image",
    "InvalidRequest",
    "InvalidUpstreamResponse",
    "Message",
    "Opaque",
    "Origin",
    "Part",
    "PartCited",
    "PartDelta",
    "PartEnded",
    "PartSigned",
    "PartStarted",
    "Reasoning",
    "Refusal",
    "Request",
    "RequestFacts",
    "Response",
    "ResponseFormat",
    "ServerTool",
    "SharedTool",
    "Started",
    "Text",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "UnsupportedFeature",
    "Usage",
    "UsageReported",
    "UserLocation",
    "VendorTool",
    "WebFetch",
    "WebSearch",
    "reported_or_none",
]
