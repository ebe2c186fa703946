"""What visitors that read nothing can make the router hold, whatever they do."""

from dit4c_p2p.router.window_budget import WindowBudget

MIB = 1024 * 1024


def test_windows_shrink_with_the_number_of_streams():
    windows = WindowBudget(2 * MIB)
    sizes = [windows.lease().size_bytes for _ in range(1000)]
    assert sizes[0] == 2 * MIB
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 64 * 1024
    assert windows.leased_bytes == sum(sizes)
    assert sum(sizes) < 1000 * 128 * 1024


def test_a_lease_ends_once():
    windows = WindowBudget(2 * MIB)
    first, second = windows.lease(), windows.lease()
    first()
    first()
    assert windows.leased_bytes == second.size_bytes
    second()
    assert windows.leased_bytes == 0
