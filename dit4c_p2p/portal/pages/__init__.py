"""What people see. Every page works without JavaScript; with it, it is live.

Each form carries the session's token and must come from the portal's own origin.
"""
