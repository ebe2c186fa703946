"""What the owner of a node decides."""
