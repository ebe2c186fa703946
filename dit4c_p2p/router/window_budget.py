"""Budget for channels' receive windows, which bounds memory for visitors that read nothing."""

# In windows, and about half as much again in what waits for the visitors' sockets. Each channel
# gets a share of what is left, and the least in any case.
_BUDGET_BYTES = 48 * 1024 * 1024
_LEAST_BYTES = 64 * 1024
_SHARE = 16


class WindowBudget:
    """The budget of all channels.

    :param most_bytes: for one channel.
    :ivar leased_bytes: what they come to.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.leased_bytes = 0

    def lease(self) -> "WindowLease":
        """Reserve the window of one more channel."""
        left = _BUDGET_BYTES - self.leased_bytes
        size = max(_LEAST_BYTES, min(self._most_bytes, left // _SHARE))
        self.leased_bytes += size
        return WindowLease(self, size)


class WindowLease:
    """A part of the memory for windows, until it is called for the first time."""

    def __init__(self, windows: WindowBudget, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._windows: WindowBudget | None = windows

    def __call__(self) -> None:
        """End the lease."""
        windows, self._windows = self._windows, None
        if windows is not None:
            windows.leased_bytes -= self.size_bytes
