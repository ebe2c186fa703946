"""DIT4C-P2P: containerized research tools in the browser, on machines that people lend."""

__version__ = "0.1.0"
