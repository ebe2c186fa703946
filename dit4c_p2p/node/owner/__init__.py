"""The node owner's policy, and tools for the owner."""
