"""Errors of the kernel log, one class per cause."""

from __future__ import annotations


class KernelLogError(Exception):
    """A group's kernel log could not be read or written; the message names the group and the cause."""


class OwnershipLostError(KernelLogError):
    """Another processor owns the group now and has fenced this one."""


class SnapshotError(KernelLogError):
    """A learner's snapshot cannot be used; the message names the reason and the cure."""


class RowError(KernelLogError):
    """A `state` record is no live row; the message names its key."""
