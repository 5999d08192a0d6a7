"""The scorer's own page at `/`: is interest drifting, does the kernel handle it, did we break something.

In reading order: `history` keeps the status and decisions of each group, `follower` reads them from the topics,
`answers` makes the three sentences, `views` the responses of the endpoints, `orders` gives an operator's orders, and
`files` sends the page's own files.
"""
