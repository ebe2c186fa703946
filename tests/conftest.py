"""What tests of several components share."""

pytest_plugins = ["support.engines"]
