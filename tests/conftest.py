"""What tests of several components share."""

pytest_plugins = ["lib.database_engines", "lib.side_by_side"]
