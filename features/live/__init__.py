"""Live drift features: what the stream itself produces."""
