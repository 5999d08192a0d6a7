"""Writes the dashboards: `python -m streaming.monitoring.dashboards`, or `make dashboards`."""

from streaming.monitoring.dashboards.files import write

if __name__ == "__main__":
    write()
