"""Neutral types: requests, responses and stream events of no particular wire format, frozen and typed.

Each codec converts between its JSON and these types, never directly between two formats. Content that only
one format can express is kept as `Opaque` with its origin, so that it is never lost silently. It is rendered
unchanged for its origin. For other formats, it becomes text, is reported as dropped, or is rejected. This
package imports neither Django nor another app.
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
    NO_DEFAULTS,
    Reasoning,
    Request,
    RequestFacts,
    ResponseFormat,
    UsageDefaults,
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
    "NO_DEFAULTS",
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
    "UsageDefaults",
    "UsageReported",
    "UserLocation",
    "VendorTool",
    "WebFetch",
    "WebSearch",
    "reported_or_none",
]
