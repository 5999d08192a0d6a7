"""Operations on a group's whole state: rebuild it from the log, save, restore and publish it, divide and merge groups.

`replay.py` learns a span of `traffic` again with the same machine, `saved.py` stores the result as files, `publish.py`
makes it the group's state, `migrate.py` starts new kernel groups from the state of older ones.
"""
