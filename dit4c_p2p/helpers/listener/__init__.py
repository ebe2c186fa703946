"""The listener helper: reverse forwards at the routers, spliced to the auth helper's socket."""
