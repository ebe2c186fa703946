"""Programs inside a pod; each runs in a container of its own and imports few modules.
listener   keeps (own name, 80) listened at the routers, hands each channel to auth
auth       HTTP in front of the app: nothing gets through before its user is known
"""
