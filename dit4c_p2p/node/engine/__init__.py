"""Calls to the Docker engine of a node, and what they return."""
