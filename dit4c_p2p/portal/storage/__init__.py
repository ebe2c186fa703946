"""Whose files are where, and who may see them; the file servers ask, and are told of changes.

- ``homes``   the home file server and the quota of each tree
- ``grants``  which folders a peer sees
- ``events``  the stream that tells file servers which grants have changed
"""
