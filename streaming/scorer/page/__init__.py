"""The scorer's own page at `/`: is interest drifting, does the kernel handle it, did we break something.

In reading order: `history` keeps what was said of each group, `follower` brings it from the topics, `answers` makes the
three sentences, `views` what the endpoints give, `orders` what an operator may order, `files` the page's own files.
"""
