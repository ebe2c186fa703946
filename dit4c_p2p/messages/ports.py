"""The ports of the overlay: what a peer listens for under its own name."""

INSTANCE_HTTP_PORT = 80
SSH_PORT = 22
# An instance's: the router says there whose access has ended (messages.pod.AccessNews).
INSTANCE_NEWS_PORT = 81
