"""From names to numbers.

Reading order: `spelling` gives each value one text, `vocabulary` gives texts and numbers table rows, `features` encodes
whole profiles into batches, `domain` turns scene, region and period into indices.
"""
