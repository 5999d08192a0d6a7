"""What an operator does with a group's state as a whole: rebuild it from the log, keep it, put it back, divide it.

`replay.py` learns a span of `traffic` again with the same machine, `saved.py` keeps what came of it as files,
`publish.py` makes it the group's state, `migrate.py` gives new kernel groups what older ones know.
"""
