"""Logs of real traffic, and public data sets."""
