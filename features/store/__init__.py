"""The feature store: Feast in front of SQLite or Redis.

Read `feature_store` first (profiles, text vectors and live rows: the interface for other packages), then `online`
(tables, rows and errors of the online store), `definitions` (Feast's objects, made from the configuration), `codec`
(Driftline's values as Feast's), `read_counts` (what reads found), `wal_sqlite` (an SQLite store with a write-ahead log)
and `feast_guard` (imports Feast without its side effects). Decisions 0022 to 0026 give the reasons.
"""
