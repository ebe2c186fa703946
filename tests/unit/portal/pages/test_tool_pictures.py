"""Pictures of tools: only what is one, and small, is taken and served."""

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.http.static_files import StaticFiles
from dit4c_p2p.portal.pages.tool_pictures import tool_picture_files, tool_picture_url

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 "


def test_png_and_webp_are_taken_and_nothing_else(tmp_path):
    assert tool_picture_files(None) == {}
    (tmp_path / "jupyterlab.png").write_bytes(PNG)
    (tmp_path / "rstudio.WEBP").write_bytes(WEBP)
    (tmp_path / "evil.svg").write_text("<svg onload='alert(1)'/>")
    (tmp_path / "README").write_text("pictures")
    files = tool_picture_files(tmp_path)
    assert files == {"tool-jupyterlab.png": PNG, "tool-rstudio.webp": WEBP}
    static = StaticFiles(files)
    assert tool_picture_url(static, "jupyterlab").startswith("/static/tool-jupyterlab.png?v=")
    assert tool_picture_url(static, "evil") == tool_picture_url(static, "../x") == ""


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.png", WEBP, "is not what its name says"),
        ("a.png", b"<svg/>", "is not what its name says"),
        ("a.png", b"", "is not what its name says"),
        ("a.webp", b"RIFF\x10\x00\x00\x00WAVE", "is not what its name says"),
        ("a.png", PNG + b"0" * 65536, "too large"),
    ],
)
def test_what_is_no_picture_is_said_at_the_start(tmp_path, name, body, says):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ConfigError, match=says):
        tool_picture_files(tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        tool_picture_files(tmp_path / "none")
