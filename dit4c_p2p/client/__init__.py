"""The command line as a user's program: it speaks to a portal by its API, with a token of its own.

It knows nothing of the components, and needs nothing of them on its machine.
"""
