"""The registry of what a worker counts, for Prometheus; each part adds its own."""

from prometheus_client import CollectorRegistry

WORKER = CollectorRegistry()
