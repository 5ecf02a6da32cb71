"""Prometheus: the numbers of the newest step, to be fetched from this machine."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seismograd.sinks.tracker import Alert, RunStart, TrackedStep

ADDRESS = "127.0.0.1"  # nobody else's business
_MODULE = "module/"


class PrometheusTracker:
    """Serves metrics at the port `target`, of this machine alone, in a registry of our own. What a
    step has no number of is not there; the norms of modules are one metric with a label.
    """

    def __init__(self, target: str) -> None:
        self._port = int(target)
        self._library = import_module("prometheus_client")
        self._registry: Any = self._library.CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._modules = self._library.Gauge(
            "seismograd_module_grad_norm",
            "Norm of the gradients of a module as one.",
            ["module"],
            registry=self._registry,
        )
        self._findings = self._library.Gauge(
            "seismograd_finding",
            "1 for each finding, with the step at which it begins.",
            ["code", "name", "severity", "step"],
            registry=self._registry,
        )
        self._server: Any = None
        self._known: set[str] = set()

    def begin(self, run: RunStart) -> None:
        """Open the port."""
        about = self._library.Info("seismograd_run", "The run.", registry=self._registry)
        about.info({"script": run.script, "torch": run.torch_version, "run": run.directory().name})
        self._server, _ = self._library.start_http_server(
            self._port, addr=ADDRESS, registry=self._registry
        )

    def log(self, measurement: TrackedStep) -> None:
        """Set the numbers of a step."""
        numbers = {"step": float(measurement.step), **measurement.scalars}
        modules = {name for name in numbers if name.startswith(_MODULE)}
        for name, value in numbers.items():
            if name in modules:
                self._modules.labels(name.removeprefix(_MODULE)).set(value)
            else:
                self._gauge(name).set(value)
        for name in self._known - modules:
            self._modules.remove(name.removeprefix(_MODULE))
        self._known = modules
        for name in self._gauges.keys() - numbers.keys():
            self._registry.unregister(self._gauges.pop(name))

    def alert(self, alert: Alert) -> None:
        """Set a finding."""
        self._findings.labels(alert.code, alert.name, alert.severity, str(alert.step)).set(1)

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            self._gauges[name] = self._library.Gauge(
                f"seismograd_{name}", f"{name} of the newest step.", registry=self._registry
            )
        return self._gauges[name]
