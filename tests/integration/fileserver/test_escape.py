"""security.md section 3: nothing ever leaves its folder, whatever is swapped underneath."""

from lib.escape_fuzzing import fuzz
from systems.fileserver import running_file_server


async def test_nothing_outside_is_read_or_changed(tmp_path):
    async with running_file_server(tmp_path) as system:
        found = await fuzz(system, seconds=5, seed=1)
    assert found.escapes == []
    assert found.done.total() > 500
    # The fuzzers got somewhere: most operations have succeeded now and then.
    assert len([one for one in found.done if found.well[one]]) > 0.8 * len(found.done)
