"""The feature store: Feast in front of SQLite or Redis."""
