"""Where downloads are kept."""

from pathlib import Path

import pytest

from dit4c_p2p.imagebuild import default_cache_folder


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("/var/x", "/var/x/dit4c-p2p"),
        ("", "HOME/.cache/dit4c-p2p"),
        ("rel", "HOME/.cache/dit4c-p2p"),
    ],
)
def test_the_cache_folder_follows_the_desktop_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert default_cache_folder() == Path(expected.replace("HOME", str(tmp_path)))
