"""The log of a project's requests as JSON, with prompts and responses.

A key sees its own requests. With the scope `logs:read` or `project:manage`, it sees those of its project.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

from billing.models import Outcome
from projects.db.executor import run_query
from proxy import errors
from proxy.endpoints.usage import envelope, key_json, report_slot, usd
from proxy.endpoints.usage_query import parse_pairs
from proxy.endpoints.views import keyed, respond_to_key
from proxy.formats.neutral import InvalidRequest
from proxy.http.handler import GatewayView
from proxy.http.responses import Response, encode, json_response
from proxy.models import PromptLogEntry
from proxy.operations import DELETE_LOGS, LOG_DETAIL, LOGS, PROMPT_LOG
from proxy.pipeline.authenticate import Authenticated
from proxy.prompt_log.search import ADMIN_SCOPE, READ_SCOPE, LoggedRequest, LogSearch, parse_search

T = TypeVar("T")


async def list_logs(caller: Authenticated) -> Response:
    """Return a page of requests, from new to old."""
    return json_response(200, {}, envelope(await search(caller, build_page)))


async def delete_logs(caller: Authenticated) -> Response:
    """Delete the prompts and responses of an end user from the log."""
    query = caller.received.request.scope["query_string"].decode("latin-1")
    end_user = parse_qs(query).get("user", [""])[0]
    if not end_user:
        raise InvalidRequest("Name the end user whose log entries to delete: ?user=...", "user")
    deleted = await run_query(PromptLogEntry.objects.delete_end_user, caller.principal.project_id, end_user)
    return json_response(200, {}, envelope({"deleted": deleted}))


@keyed(LOG_DETAIL)
async def log_detail(caller: Authenticated, log_id: str) -> Response:
    """Return one request with everything that the log contains about it."""
    found = await search(caller, lambda query: query.find(log_id))
    if found is None:
        text = "This project has no request with that id, or this API key may not see it."
        raise errors.gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "unknown_log_entry", text)
    return json_response(200, {}, envelope({**entry_json(found), **body_json(found)}))


@keyed(PROMPT_LOG)
async def prompt_log(caller: Authenticated) -> Response:
    """Return the newest requests as a list."""
    page = await search(caller, LogSearch.page)
    body = encode([prompt_log_json(each) for each in page])
    return Response(200, {"content-type": "application/json"}, body)


async def search(caller: Authenticated, run: Callable[[LogSearch], T]) -> T:
    """Return the result of the search that the query string describes.

    Raises InvalidRequest. Raises GatewayError for a caller without a key, unless it may see the whole
    project: all callers without a key share one key, whose requests include those of others.
    """
    principal = caller.principal
    pairs = parse_pairs(caller.received.request.scope["query_string"].decode("latin-1"))
    sees_project = principal.allows(READ_SCOPE) or principal.allows(ADMIN_SCOPE)
    if caller.is_anonymous and not sees_project:
        raise errors.missing_scope(READ_SCOPE)
    query = parse_search(principal.key, pairs, sees_project=sees_project)
    async with report_slot:
        return await run_query(run, query)


def build_page(query: LogSearch) -> dict[str, Any]:
    page = query.page()
    is_last = len(page) < query.limit
    return {"entries": list(map(entry_json, page)), "before": None if is_last else page[-1].record.pk}


def entry_json(logged: LoggedRequest) -> dict[str, Any]:
    """Return a request with previews of its prompt and response."""
    record, body = logged.record, logged.body
    return {
        "id": record.pk,
        "requestId": record.request_id,
        "createdAt": record.created_at,
        "key": key_json(record.key),
        "model": record.requested_model,
        "provider": record.provider,
        "providerModel": record.provider_model,
        "operation": record.operation,
        "format": record.format,
        "streamed": record.streamed,
        "outcome": record.outcome,
        "status": record.status_code,
        "error": record.error or None,
        "promptTokens": record.prompt_tokens,
        "completionTokens": record.output_tokens,
        "cost": usd(logged.cost_nano),
        "costNanoUsd": logged.cost_nano,
        "durationMs": record.latency_us // 1000,
        "tags": record.metadata or {},
        "prompt": body and body.prompt,
        "response": body and body.response,
    }


def body_json(logged: LoggedRequest) -> dict[str, Any]:
    """Return the fields that are only in the detail of a request."""
    body = logged.body
    return {
        "firstTokenMs": None
        if logged.record.first_token_us is None
        else logged.record.first_token_us // 1000,
        "estimated": logged.record.estimated,
        "interrupted": body is not None and body.is_interrupted,
        "requestBody": body and body.request_body,
        "responseBody": body and body.response_body,
    }


def prompt_log_json(logged: LoggedRequest) -> dict[str, Any]:
    """Return a request as an item of `/api/prompt-log`."""
    record, body = logged.record, logged.body
    return {
        "id": record.pk,
        "timestamp": record.created_at,
        "requestId": record.request_id,
        "key": record.key and record.key.public_id,
        "model": record.requested_model,
        "provider": record.provider,
        "status": record.status_code,
        "durationMs": record.latency_us // 1000,
        "promptTokens": record.prompt_tokens,
        "completionTokens": record.output_tokens,
        "totalTokens": record.prompt_tokens + record.output_tokens,
        "costUsd": usd(logged.cost_nano),
        "prompt": body and body.prompt,
        "response": body and body.response,
    }


delete_view = GatewayView(DELETE_LOGS, partial(respond_to_key, DELETE_LOGS, delete_logs))
logs = GatewayView(LOGS, partial(respond_to_key, LOGS, list_logs), (delete_view,))
