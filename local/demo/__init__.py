"""`driftline demo`: the whole loop on this machine in one command."""

from local.demo.command import run_demo, stop_demo

__all__ = ["run_demo", "stop_demo"]
