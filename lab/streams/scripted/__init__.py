"""Scripted drift over real items."""
