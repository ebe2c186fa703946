"""OAuth 2.0 for instances: authorization code with PKCE S256, clients that prove their SSH key.

``core`` is Authlib's own logic over a snapshot, without I/O; ``server`` reads the snapshot, runs
the core inside one transaction and writes down what it decided; ``handlers`` are the URLs.
"""
