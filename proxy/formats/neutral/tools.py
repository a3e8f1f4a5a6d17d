"""Tools and the tool choice, as neutral types."""

from typing import Any, ClassVar, Literal

from proxy.formats.neutral.content import Frozen, Origin


class UserLocation(Frozen, frozen=True, kw_only=True):
    """The approximate location of the user. Unknown fields are empty."""

    city: str = ""
    region: str = ""
    country: str = ""
    timezone: str = ""


class WebSearch(Frozen, frozen=True, kw_only=True):
    """A web search by the provider.

    `max_uses` limits the searches of a response. `search_context_size` is OpenAI's low, medium or high.
    """

    kind: ClassVar[str] = "web_search"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    user_location: UserLocation | None = None
    search_context_size: str = ""


class WebFetch(Frozen, frozen=True, kw_only=True):
    """A server tool that reads web pages whose URLs are in the conversation."""

    kind: ClassVar[str] = "web_fetch"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    max_content_tokens: int | None = None


class CodeExecution(Frozen, frozen=True, kw_only=True):
    """A server tool that runs code of the model in a new container of the provider."""

    kind: ClassVar[str] = "code_execution"
    max_uses: int | None = None


SharedTool = WebSearch | WebFetch | CodeExecution


class VendorTool(Frozen, frozen=True, kw_only=True):
    """The vendor's declaration of a client's tool that is not a plain function.

    There are two cases: a typed tool, whose type `kind` has a schema of the vendor (Anthropic's bash, for
    example), and the member `name` of the tool group `group`. `value` is the declaration, which all members
    of a group share.
    """

    origin: Origin
    kind: str
    value: Any
    group: str = ""
    name: str = ""


class Tool(Frozen, frozen=True, kw_only=True):
    """A tool that the client runs.

    `schema` is JSON Schema. A `custom` tool takes free text and has no schema.

    `vendor` is the declaration of the tool, if the client's vendor has a type or a group for it.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    cache: str | None = None
    vendor: VendorTool | None = None


class ServerTool(Frozen, frozen=True, kw_only=True):
    """A tool that the provider runs. Only its origin understands `value`; `kind` is its type.

    `shared` is the neutral form of the tool, if several vendors run such a tool. `unshared` names the
    settings that only its origin has. If `is_caller_data` is true, the tool refers to data of the caller, and
    other formats reject it.
    """

    origin: Origin
    kind: str
    value: Any
    shared: SharedTool | None = None
    unshared: tuple[str, ...] = ()
    is_caller_data: bool = False


class ToolChoice(Frozen, frozen=True, kw_only=True):
    """The tool choice.

    If the mode is required, the model must call a tool in `names` or a server tool of a kind in
    `server_kinds`. If both are empty, it may call any tool.
    """

    mode: Literal["auto", "required", "none"] = "auto"
    names: tuple[str, ...] = ()
    server_kinds: tuple[str, ...] = ()
