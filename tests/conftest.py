"""What tests of several components share."""

pytest_plugins = ["support.engines", "support.side_by_side"]
