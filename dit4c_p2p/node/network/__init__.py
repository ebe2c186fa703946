"""The host's network and the firewall of pods."""
