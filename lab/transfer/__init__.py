"""One source backbone, many targets (`driftline transfer`).

Reading order: `parts` (the meaning of a name), `task` (prepares source and targets), `catalogue` (ranking a whole
catalogue), `scoring` (what every way is measured on), `kernel`, `ways` and `command`. Protocol: docs/decisions/0135.
"""
