"""`driftline evaluate --detectors`: what the drift monitor announces on streams whose truth is known."""
