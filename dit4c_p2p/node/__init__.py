"""The node agent: runs pods for a scheduler on a lent machine, within its owner's policy.
``config``    what the owner sets
``policy``    pure: what the owner agrees to
``host``      pure: the machine's addresses, resolvers and a free network, from /proc and /etc
``firewall``  pure: a pod's nftables rules
``pod``       pure: an instance → exact definitions of containers, network and volumes
``status``    pure: what the engine says of a pod → a sentence for its user
``engine``    the container engine: every call with a time limit, every error mapped
``folder``    what the agent keeps of an instance on disk: its private key, and why it was stopped
``pods``      ensure, stop, discard, list: idempotent, cut off anywhere and asked again
``events``    the engine's events: apps that end, helpers that are started again
``agent``     the SSH server in the overlay that serves the verbs of ``messages.node``
"""
