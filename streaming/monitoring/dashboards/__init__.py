"""Grafana's dashboards, written by code: `make dashboards` writes the files that compose mounts."""
