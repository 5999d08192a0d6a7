"""Items by id, by text or by both, with text encoders of growing size: encoders, trial, tables, command."""
