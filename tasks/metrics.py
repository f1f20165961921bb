"""The Prometheus registry of a worker; each part registers its own metrics."""

from prometheus_client import CollectorRegistry

WORKER = CollectorRegistry()
