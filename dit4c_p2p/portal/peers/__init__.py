"""Requests of peers: published keys, the scheduler's link, grants, an instance's announcements."""
