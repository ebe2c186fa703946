"""Pods: their specification, creation, supervision and removal."""
