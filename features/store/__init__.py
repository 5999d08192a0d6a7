"""The feature store: Feast in front of SQLite or Redis.

Read `feature_store` first (profiles, text vectors and live rows: what the other packages call), then `online` (tables,
rows and errors of the online store), `definitions` (Feast's objects, made from the configuration), `codec` (our values
as Feast's), `wal_sqlite` (our SQLite store) and `feast_guard` (how Feast is imported). Decisions 0022 to 0026 in
docs/decisions say why.
"""
