"""Identity of peers: names, SSH keys, signed key documents, JWTs. Imports no component."""
