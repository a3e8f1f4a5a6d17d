"""Rules of the layout: the number of modules in a folder, and names of modules."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.style.finding import Finding

MAX_MODULES = 12
FOLDERS_OF_ONE_SHAPE = (
    "gateway_project/dashboard",
    "gateway_project/api",
    "gateway_project/management/commands",
    "proxy/endpoints",
    "proxy/formats/openai_chat",
    "proxy/formats/openai_responses",
    "proxy/formats/anthropic",
    "proxy/formats/gemini",
)
"""Folders with one module for each thing of a kind.

They may be larger, because a reader knows what to look for.
"""
CODECS = ("openai_chat", "openai_responses", "anthropic", "gemini")
CODEC_MODULES = frozenset(
    """
    account_ids wire request messages content tools vendor_tools reasoning response errors usage
    decoder encoder passthrough capabilities seals
    """.split()
)
CATCH_ALL_NAMES = frozenset("utils util helpers helper common misc stuff tools_misc base_utils".split())
NOUNS_IN_ING = frozenset(
    """
    billing routing pricing metering logging coding reasoning grounding embedding streaming grouping landing
    finding pending
    """.split()
)


def check(paths: Sequence[Path]) -> Iterator[Finding]:
    modules = [
        path
        for path in paths
        if path.suffix == ".py" and path.name != "__init__.py" and "migrations" not in path.parts
    ]
    for path in modules:
        if path.stem in CATCH_ALL_NAMES:
            message = f'"{path.stem}" says nothing about its content; name the module after what it holds'
            yield Finding(path, 1, message)
        last_word = path.stem.rsplit("_", 1)[-1]
        if last_word.endswith("ing") and last_word not in NOUNS_IN_ING:
            yield Finding(path, 1, f'"{path.stem}" is not a noun; name the module after what it holds')
    yield from crowded_folders(modules)
    yield from incomplete_codecs(modules)


def crowded_folders(modules: Sequence[Path]) -> Iterator[Finding]:
    for folder, count in Counter(path.parent for path in modules).items():
        exempt = str(folder) in FOLDERS_OF_ONE_SHAPE or folder.parts[:1] == ("tests",)
        if count > MAX_MODULES and not exempt:
            message = f"the folder holds {count} modules; split it by concern, at most {MAX_MODULES} each"
            yield Finding(folder, 0, message)


def incomplete_codecs(modules: Sequence[Path]) -> Iterator[Finding]:
    for codec in CODECS:
        folder = Path("proxy/formats") / codec
        present = {path.stem for path in modules if path.parent == folder}
        # If only some modules of a codec are checked, the others are not known.
        for missing in sorted(CODEC_MODULES - present) if "request" in present else ():
            yield Finding(folder, 0, f"the codec has no {missing}.py; every codec has the same modules")
