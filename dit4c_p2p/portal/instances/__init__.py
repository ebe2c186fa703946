"""Instances and tools: what people want, and the link to schedulers."""
