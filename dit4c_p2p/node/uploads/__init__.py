"""Saving: a stopped app's files become an image at the image server."""
