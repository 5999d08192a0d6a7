"""One source backbone, many targets (`driftline transfer`).

Reading order: `parts` (the meaning of a name), `task` (prepares source and targets), `catalogue` (ranking a whole
catalogue), `scoring` (what every method is measured on), `kernel`, `methods` and `command`.
Protocol: docs/decisions/0135.
"""
