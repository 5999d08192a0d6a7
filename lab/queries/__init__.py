"""Gains by reading the query, for requests with and without one."""
