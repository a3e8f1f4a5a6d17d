"""The origins of web pages that may call the gateway with keys of a project, as browsers send them."""

from projects.config_cache import ConfigCache
from projects.models import Project


def load_origins(_key: str) -> frozenset[str]:
    lists = Project.objects.exclude(allowed_origins=[]).values_list("allowed_origins", flat=True)
    return frozenset(origin for origins in lists for origin in origins)


ALL_PROJECTS = "all"
origins_cache: ConfigCache[str, frozenset[str]] = ConfigCache(load_origins)


async def origins_of_all_projects() -> frozenset[str]:
    """Return the origins of all projects. Raises DatabaseError if they are neither cached nor readable."""
    return await origins_cache.get(ALL_PROJECTS)
