"""Members of Anthropic's toolsets `computer_toolset_20260801` and `browser_toolset_20260801`.

A toolset is one entry of `tools` that declares many tools of the client, the members. Each member has its own
schema (source: the SDK `anthropic`, types of the input of each member). A call names the toolset and the
member.
"""

from proxy.formats.tools.schemas import Schema, choice, integer, integers, parameters, text

Members = dict[str, tuple[str, Schema]]
"""The members of a toolset by name, each with its description and the schema of its input."""

STRING = text()
INTEGER = integer()
POINT = integers(2)
REGION = integers(4)
DIRECTION = choice("up", "down", "left", "right")
TAB = text("The tab to act on; the active tab if it is left out.")
COORDINATE = parameters("type", "x", "y", type=choice("coordinate"), x=INTEGER, y=INTEGER)
REFERENCE = parameters("type", "ref", type=choice("ref"), ref=STRING)
TARGET: Schema = {
    "anyOf": [COORDINATE, REFERENCE],
    "description": "A point in pixels of the viewport, or an element that read_page or find has named.",
}


def on_screen(action: str) -> tuple[str, Schema]:
    """Return an action of the mouse. Without a coordinate, the action happens at the cursor."""
    return action, parameters(coordinate=POINT, text=text("Keys to hold, such as ctrl."))


COMPUTER: Members = {
    "key": ("Press keys, such as Return or ctrl+s.", parameters("text", text=STRING, repeat=INTEGER)),
    "hold_key": (
        "Hold keys for some seconds.",
        parameters("text", "duration", text=STRING, duration=INTEGER),
    ),
    "type": ("Type a text.", parameters("text", text=STRING)),
    "cursor_position": ("Get the coordinate of the cursor.", parameters()),
    "mouse_move": ("Move the cursor without a click.", parameters("coordinate", coordinate=POINT)),
    "left_mouse_down": ("Press the left button of the mouse and hold it.", parameters()),
    "left_mouse_up": ("Release the left button of the mouse.", parameters()),
    "left_click": on_screen("Click the left button of the mouse."),
    "left_click_drag": (
        "Drag from one coordinate to another.",
        parameters("start_coordinate", "coordinate", start_coordinate=POINT, coordinate=POINT, text=STRING),
    ),
    "right_click": on_screen("Click the right button of the mouse."),
    "middle_click": on_screen("Click the middle button of the mouse."),
    "double_click": on_screen("Click the left button twice."),
    "triple_click": on_screen("Click the left button three times."),
    "scroll": (
        "Scroll by some clicks of the wheel.",
        parameters(
            "scroll_direction",
            "scroll_amount",
            scroll_direction=DIRECTION,
            scroll_amount=INTEGER,
            coordinate=POINT,
            text=STRING,
        ),
    ),
    "wait": ("Wait for some seconds.", parameters("duration", duration=INTEGER)),
    "screenshot": ("Take a screenshot.", parameters()),
    "zoom": (
        "Take a screenshot of the region x0, y0, x1, y1, enlarged.",
        parameters("region", region=REGION),
    ),
}


def in_tab(description: str, *required: str, **properties: Schema) -> tuple[str, Schema]:
    """Return an action in a tab of the browser."""
    return description, parameters(*required, **properties, tab_id=TAB)


def on_target(description: str) -> tuple[str, Schema]:
    return in_tab(description, "target", target=TARGET, modifiers=STRING)


BROWSER: Members = {
    "navigate": in_tab("Open a URL, or go back, forward or reload.", "url", url=STRING),
    "list_tabs": ("List the open tabs with their ids, titles and URLs.", parameters()),
    "new_tab": ("Open an empty tab and return its id.", parameters()),
    "switch_tab": ("Make a tab the active one.", parameters("tab_id", tab_id=STRING)),
    "close_tab": ("Close a tab.", parameters("tab_id", tab_id=STRING)),
    "read_page": in_tab(
        "Get the tree of the page's elements, with references to them.",
        ref=STRING,
        depth=INTEGER,
        filter=choice("all", "interactive"),
    ),
    "get_page_text": in_tab("Get the visible text of the page."),
    "read_console": in_tab("Get the new lines of the console."),
    "read_network": in_tab("Get the new requests of the page to the network."),
    "find": in_tab("Find elements by a description, with references to them.", "query", query=STRING),
    "form_input": in_tab(
        "Set the value of a form's element.",
        "target",
        "value",
        target=REFERENCE,
        value={"anyOf": [STRING, {"type": "number"}, {"type": "boolean"}]},
    ),
    "file_upload": in_tab(
        "Set the files of an input, by their paths or by ids of staged documents.",
        "target",
        target=REFERENCE,
        paths={"type": "array", "items": STRING},
        document_ids={"type": "array", "items": STRING},
    ),
    "scroll_to": in_tab("Scroll until an element is visible.", "target", target=REFERENCE),
    "screenshot": in_tab("Take a screenshot of the viewport."),
    "zoom": in_tab("Take a screenshot of the region x0, y0, x1, y1, enlarged.", "region", region=REGION),
    "left_click": on_target("Click the left button of the mouse."),
    "right_click": on_target("Click the right button of the mouse."),
    "middle_click": on_target("Click the middle button of the mouse."),
    "double_click": on_target("Click the left button twice."),
    "triple_click": on_target("Click the left button three times."),
    "hover": in_tab("Move the cursor over a target.", "target", target=TARGET),
    "left_click_drag": in_tab(
        "Drag from one point to another.",
        "from",
        "target",
        **{"from": COORDINATE, "target": COORDINATE},
    ),
    "left_mouse_down": in_tab("Press the left button and hold it.", "target", target=COORDINATE),
    "left_mouse_up": in_tab("Release the left button.", "target", target=COORDINATE),
    "mouse_move": in_tab("Move the cursor without a click.", "target", target=COORDINATE),
    "scroll": in_tab(
        "Scroll by some notches of the wheel, 3 if no amount is given.",
        "target",
        "scroll_direction",
        target=COORDINATE,
        scroll_direction=DIRECTION,
        scroll_amount=INTEGER,
    ),
    "type": in_tab("Type a text.", "text", text=STRING),
    "key": in_tab("Press keys, such as Return or ctrl+a.", "text", text=STRING, repeat=INTEGER),
    "hold_key": in_tab(
        "Hold keys for some seconds.", "text", "duration", text=STRING, duration={"type": "number"}
    ),
    "wait": in_tab("Wait for some seconds.", "duration", duration={"type": "number"}),
    "javascript_exec": in_tab("Run JavaScript in the page and return its last value.", "text", text=STRING),
}
TOOLSETS = {"computer": COMPUTER, "browser": BROWSER}
"""The members of each toolset, by the name that calls use for the toolset."""
