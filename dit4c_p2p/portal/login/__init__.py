"""Ways to log in besides a link: passkeys and identity providers.

A browser begins an attempt (``attempts``), goes to its authenticator or to a provider, and comes
back with an answer that is checked against what was sealed into its cookie at the beginning.
"""
