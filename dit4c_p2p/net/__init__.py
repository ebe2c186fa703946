"""Where strangers' connections arrive: sockets, TLS, trusted proxies, and how many each may have.

Portal and router listen by it, the pod's helpers write and read its PROXY headers, and SSH servers
count by its shares. It knows no component.
"""
