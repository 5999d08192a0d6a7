"""The error of a wrong configuration."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration is wrong; the message names the key and the cure."""
