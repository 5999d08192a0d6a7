"""From names to numbers.

Reading order: `spelling` gives each value one text, `vocabulary` gives texts and numbers table rows, `profile` is what
is known of a user or an item, `features` encodes whole profiles into batches, `domain` turns scene, region and period
into indices.
"""
