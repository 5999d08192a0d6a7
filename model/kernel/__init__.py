"""The kernel: it learns for ever."""
