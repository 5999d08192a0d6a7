"""From names to numbers: vocabularies, fields, domains."""
