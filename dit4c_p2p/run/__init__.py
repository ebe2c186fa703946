"""Each component as a process of its own, from its TOML file: ``dit4c portal run`` and its like.

- ``installation``   what a peer learns from the portal at its start
- ``components``     the four, each from its settings until a signal comes
- ``portal``         what an admin does on the portal's machine: the first login, links, keys

Any of them may be started before the others: what is not there yet is waited for.
"""
