"""Encoding of names and values as numbers.

Reading order: `spelling` gives each value one text, `vocabulary` gives texts and numbers table rows, `profile` holds a
user's or an item's values, `features` encodes whole profiles into batches, `domain` turns scene, region and period into
indices.
"""
