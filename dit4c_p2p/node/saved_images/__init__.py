"""Saved images on a node: fetched from the image server, verified, and known by their digest."""
