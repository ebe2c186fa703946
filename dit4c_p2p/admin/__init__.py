"""Commands that an admin types: keys, tokens and login links."""
