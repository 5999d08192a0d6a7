"""Gains of each user encoder with a history frozen at the end of pretraining or kept live, with and without kernel."""
