"""How the portal's tests start Debian's Chromium."""

PROGRAM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
