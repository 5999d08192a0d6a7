"""Metrics, health, and the files of Prometheus and Grafana."""
