"""Public connections: sockets, TLS, trusted proxies, HTTP/1 parsing, limits for each address.

Portal and router listen with it, the pod's helpers write and read its PROXY headers, and SSH
servers use its limits. It imports no component.
"""
