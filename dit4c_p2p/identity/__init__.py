"""Who a peer is: names, SSH keys, the registry's signed documents, JWTs. Knows no component."""
