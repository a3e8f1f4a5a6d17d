"""The Dockerfile, docker-compose.yml and deploy/ agree with the gateway and with each other."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway_project.dashboard import urls as dashboard
from gateway_project.env import Environment
from gateway_project.env.descriptions import names_of
from gateway_project.env.variables import DEFAULT_CONFIG_FILE
from proxy import urls as proxy
from proxy.http.handler import resolve_route
from tests.support.gateway_server import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
NGINX = (DEPLOY / "nginx.conf").read_text()
OF_OTHER_PROGRAMS = {
    "PATH",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
}
KNOWN = {
    name.upper() for field, info in Environment.model_fields.items() for name in names_of(field, info)
} | OF_OTHER_PROGRAMS
PORT = "8080"
GRACE_AFTER_TIMEOUT_S = 3
PINNED = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")
METRIC = re.compile(r"\b(?:proxy|gateway)_[a-z_]+\b")


def read_yaml(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


COMPOSE: dict[str, Any] = read_yaml(ROOT / "docker-compose.yml")[0]
MANIFESTS = [item for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for item in read_yaml(path)]
DEPLOYMENTS = {item["metadata"]["name"]: item["spec"] for item in MANIFESTS if item["kind"] == "Deployment"}
RENDER: dict[str, Any] = read_yaml(DEPLOY / "blueprints" / "render.yaml")[0]["services"][0]
FLY = tomllib.loads((DEPLOY / "blueprints" / "fly.toml").read_text())
RAILWAY: dict[str, Any] = json.loads((DEPLOY / "blueprints" / "railway.json").read_text())
RULES: list[dict[str, Any]] = read_yaml(DEPLOY / "prometheus-rules.yaml")[0]["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())


def image_variables() -> dict[str, str]:
    block = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)[0]
    return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())


def config_map() -> dict[str, str]:
    return next(item["data"] for item in MANIFESTS if item["kind"] == "ConfigMap")


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = DEPLOYMENTS[name]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    only: dict[str, Any] = pod(name)["containers"][0]
    return only


def variables() -> Iterator[tuple[str, str]]:
    """Yield each file or service, and each variable that it sets."""
    yield from (("Dockerfile", name) for name in image_variables())
    for service, options in COMPOSE["services"].items():
        yield from ((service, name) for name in options.get("environment", ()))
    yield from (("ConfigMap", name) for name in config_map())
    for name in DEPLOYMENTS:
        yield from ((name, each["name"]) for each in container(name)["env"])
    yield from (("render.yaml", each["key"]) for each in RENDER["envVars"])
    yield from (("fly.toml", name) for name in FLY["env"])


def test_every_variable_is_one_that_the_gateway_reads() -> None:
    assert {(file, name) for file, name in variables() if name not in KNOWN} == set()


def test_all_files_name_the_same_port() -> None:
    servers = re.findall(r"server [\w-]+:(\d+)", NGINX)
    assert set(servers) == set(re.findall(r"(?:gateway-\d|web):(\d+)", (DEPLOY / "Caddyfile").read_text()))
    ports = {
        *servers,
        *re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE),
        image_variables()["PORT"],
        COMPOSE["services"]["gateway-1"]["environment"]["PORT"],
        config_map()["PORT"],
        str(container("ai-gateway")["ports"][0]["containerPort"]),
        FLY["env"]["PORT"],
        str(FLY["http_service"]["internal_port"]),
        str(Environment.model_fields["port"].default),
    }
    assert ports == {PORT}


def test_containers_listen_on_all_addresses() -> None:
    hosts = [image_variables(), COMPOSE["services"]["gateway-1"]["environment"], config_map(), FLY["env"]]
    assert {each["GATEWAY_HOST"] for each in hosts} == {"0.0.0.0"}


def test_images_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    services = [each["image"] for each in COMPOSE["services"].values() if "build" not in each]
    pods = [container(name)["image"] for name in DEPLOYMENTS]
    assert [image for image in [*bases, *services, *pods] if not PINNED.fullmatch(image)] == []
    assert len(set(bases)) == 1


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def stop_time(variables: dict[str, str]) -> int:
    """Return how long a process may take to stop after SIGTERM, in seconds."""
    drain, timeout = int(variables["GATEWAY_DRAIN_S"]), int(variables["GATEWAY_SHUTDOWN_TIMEOUT_S"])
    return drain + timeout + GRACE_AFTER_TIMEOUT_S


@pytest.mark.parametrize("service", ["gateway-1", "gateway-2", "web", "worker", "beat"])
def test_compose_lets_requests_finish(service: str) -> None:
    options = COMPOSE["services"][service]
    assert seconds(options["stop_grace_period"]) > stop_time(options["environment"])


def test_kubernetes_and_hosts_let_requests_finish() -> None:
    assert pod("ai-gateway")["terminationGracePeriodSeconds"] > stop_time(config_map())
    assert seconds(FLY["kill_timeout"]) > stop_time(FLY["env"])
    render = {each["key"]: each.get("value", "") for each in RENDER["envVars"]}
    assert RENDER["maxShutdownDelaySeconds"] > stop_time(render)


def test_the_image_contains_every_package_and_runs_without_rights() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    needed = {*packages, "static", "templates", "manage.py", "requirements.lock"}
    assert {name for name in needed if f"!{name}" not in ignored} == set()
    assert "*" in ignored
    assert "--require-hashes" in DOCKERFILE
    assert re.search(r"^USER [1-9]\d+:", DOCKERFILE, re.MULTILINE)


def test_the_image_has_a_folder_for_the_config_file() -> None:
    assert f"/app/{DEFAULT_CONFIG_FILE.parent}" in DOCKERFILE
    assert DOCKERFILE.rindex("WORKDIR /app") > DOCKERFILE.rindex("FROM")


def test_the_health_check_of_the_image_is_a_program() -> None:
    command = re.findall(r"HEALTHCHECK .*CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)[0]
    program, option, code = json.loads(command)
    assert (program, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")


@pytest.mark.parametrize("service", ["gateway-1", "worker", "beat"])
def test_compose_starts_what_kubernetes_starts(service: str) -> None:
    name = {"gateway-1": "ai-gateway"}.get(service, f"ai-gateway-{service}")
    assert COMPOSE["services"][service].get("command") == container(name).get("command")


def test_kubernetes_objects_refer_to_each_other() -> None:
    for name, spec in DEPLOYMENTS.items():
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == {"app": name}
        mounted = {each["name"] for each in container(name)["volumeMounts"]}
        assert mounted == {each["name"] for each in pod(name)["volumes"]}
    budget = next(item["spec"] for item in MANIFESTS if item["kind"] == "PodDisruptionBudget")
    assert budget["selector"]["matchLabels"] == {"app": "ai-gateway"}
    scaler = next(item["spec"] for item in MANIFESTS if item["kind"] == "HorizontalPodAutoscaler")
    assert scaler["scaleTargetRef"]["name"] == "ai-gateway"


@pytest.mark.row("004-76")
def test_kubernetes_runs_three_replicas() -> None:
    spec = DEPLOYMENTS["ai-gateway"]
    assert spec["replicas"] == 3
    assert DEPLOYMENTS["ai-gateway-beat"]["replicas"] == 1


@pytest.mark.row("004-77")
def test_kubernetes_reads_the_key_from_the_secret() -> None:
    key = next(each for each in container("ai-gateway")["env"] if each["name"] == "OPENAI_API_KEY")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "ai-credentials", "key": "openai-key"}


def test_probes_are_routes() -> None:
    probes = container("ai-gateway")
    paths = {probes[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    paths |= {RENDER["healthCheckPath"], RAILWAY["deploy"]["healthcheckPath"]}
    paths |= {each["path"] for each in FLY["http_service"]["checks"]}
    assert paths == {"/health", "/ready"}
    assert all(resolve_route(path) for path in paths)


def first_segments(patterns: Any) -> set[str]:
    segments = {re.split(r"[/:<]", str(each.pattern))[0] for each in patterns}
    return {each for each in segments if each and not each.startswith("^")}


def test_nginx_sends_pages_to_the_web_service() -> None:
    pattern = re.findall(r"location ~ (\S+) \{\s+proxy_pass http://web;", NGINX)[0]
    pages = first_segments(dashboard.urlpatterns) | {"admin", "accounts"}
    assert all(re.search(pattern, f"/{page}/") for page in pages)
    assert re.search(pattern, "/")
    gateway = first_segments(proxy.urlpatterns) | {"api"}
    assert not any(re.search(pattern, f"/{segment}/x") for segment in gateway)
    caddy = re.findall(r"@web path (.*)", (DEPLOY / "Caddyfile").read_text())[0].split()
    assert {f"/{page}" for page in pages} <= set(caddy)


def test_nginx_passes_streams_on_at_once_and_waits_longer_than_the_gateway() -> None:
    assert "proxy_buffering off;" in NGINX
    read_timeout = int(re.findall(r"proxy_read_timeout (\d+)s;", NGINX)[0])
    assert read_timeout > Environment.model_fields["gateway_total_timeout_s"].default
    body = int(re.findall(r"client_max_body_size (\d+)m;", NGINX)[0]) * 1024 * 1024
    assert body > Environment.model_fields["gateway_max_body_bytes"].default


def test_rules_and_dashboard_name_existing_metrics() -> None:
    sources = [ROOT / "proxy" / "telemetry.py", ROOT / "proxy" / "endpoints" / "metrics.py"]
    existing = set(METRIC.findall(" ".join(path.read_text() for path in sources)))
    queries = [rule["expr"] for rule in RULES]
    queries += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    named = set(METRIC.findall(" ".join(queries)))
    assert {name for name in named if re.sub(r"_(total|bucket)$", "", name) not in existing} == set()


def test_every_alert_says_what_to_do() -> None:
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in RULES)


def test_the_workflow_runs_existing_programs() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")[0]["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in steps
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
