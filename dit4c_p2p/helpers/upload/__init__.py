"""The upload helper, and the scanner that reads what an app has written."""
