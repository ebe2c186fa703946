"""Where Debian's packages come from."""

from dit4c_p2p.imagebuild.debian import DebianMirrors, read_debian_mirrors

DEB = "http://mirror.example/debian/"
SECURITY = "http://mirror.example/debian-security/"


def test_this_machines_servers_are_used_whatever_its_release() -> None:
    mirrors = read_debian_mirrors(
        [
            f"Debian trixie main {DEB}",
            f"Debian trixie contrib {DEB}",
            f"Debian trixie-updates main {DEB}",
            f"Debian trixie-backports main {DEB}",
            f"Debian trixie-security main {SECURITY}",
            f"Debian trixie-security main {SECURITY}",
            "Elsewhere stable main http://packages.example/",
        ]
    )
    assert mirrors.archive == DEB
    assert mirrors.sources_list == (
        f"deb {DEB} bookworm main\n"
        f"deb {DEB} bookworm-updates main\n"
        f"deb {SECURITY} bookworm-security main\n"
    )


def test_another_distribution_leaves_it_to_debootstrap() -> None:
    nothing = DebianMirrors("", "")
    assert read_debian_mirrors(["Ubuntu noble main http://ubuntu.example/"]) == nothing
    assert read_debian_mirrors([f"Debian trixie-security main {SECURITY}"]) == nothing
    assert read_debian_mirrors(["E: what is this", "", "Debian"]) == nothing
