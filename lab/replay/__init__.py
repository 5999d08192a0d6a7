"""Replays a live half through the production learner behind its gate, with or without a fault put into it."""
