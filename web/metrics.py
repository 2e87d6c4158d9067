"""`/metrics` for Prometheus: what this process does, in base units, with bounded label values.

Routes are counted by their template, never by the address that was asked for, so no stranger makes new series.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.enums import ScopeType
from litestar.types import ControllerRouterHandler, Scope
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)
from prometheus_client.exposition import choose_encoder

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class WebMetrics:
    """The series of one process. Parts of the web process register theirs in `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(collector)
        self._requests = Histogram(
            "appliance_http_request_seconds",
            "Time from a request to the end of its answer.",
            ("route", "method", "status"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._running = 0
        Gauge(
            "appliance_http_requests_running", "Requests that are being answered.", registry=self.registry
        ).set_function(lambda: self._running)
        self.upload_bytes = Counter(
            "appliance_upload_bytes", "Bytes of uploads that are on the disk.", registry=self.registry
        )
        self.uploads = Counter("appliance_uploads", "Uploads by how they ended.", ("outcome",), registry=self.registry)

    def begun(self) -> None:
        self._running += 1

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """One request is answered; a socket's whole life is not a request's time."""
        self._running -= 1
        if scope["type"] != ScopeType.HTTP:
            return
        method = scope["method"]
        route = scope.get("path_template") or "unmatched"
        labels = (route, method if method in METHODS else "other", f"{status // 100}xx" if status else "none")
        self._requests.labels(*labels).observe(seconds)


@get("/metrics", opt={"role": "viewer"}, tags=["health"], summary="Metrics for Prometheus", sync_to_thread=True)
def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """In the text format of Prometheus, or OpenMetrics when it is asked for. Scrape with a viewer's token."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    told: WebMetrics = request.app.state.services.metrics
    # Litestar names the charset of text itself.
    return Response(encode(told.registry), media_type=media_type.replace("; charset=utf-8", "", 1))


HANDLERS: list[ControllerRouterHandler] = [metrics]
