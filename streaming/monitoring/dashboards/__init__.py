"""Grafana's dashboards as code: `make dashboards` writes the files that compose mounts."""
