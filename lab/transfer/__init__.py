"""One source backbone, many targets (`driftline transfer`).

Reading order: `parts` (what a name means), `task` (source and targets made ready), `catalogue` (the order of a whole
catalogue), `scoring` (what every way is measured on), `kernel`, `ways` and `command`. Protocol: docs/decisions/0135.
"""
