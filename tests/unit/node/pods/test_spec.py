"""The exact definitions of a pod; the promises of security.md section 4 are read off them."""

import io
import tarfile
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dit4c_p2p.node.config import HelperImages
from dit4c_p2p.node.errors import EngineSaid, NoPort, PolicyRefused, as_failure
from dit4c_p2p.node.network.firewall import EgressPolicy, firewall_ruleset
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.pods import seccomp, spec
from dit4c_p2p.node.pods.spec import AppImage, PodSpec, Role

SPEC = PodSpec(
    instance="abc",
    data_folder="/srv/dit4c",
    image=AppImage("sha256:app", 8888, ("/data", "/home")),
    helpers=HelperImages("sha256:infra", "sha256:listener", "sha256:auth"),
    policy=Policy(),
    machine_cpus=2,
    reach=EgressPolicy(frozenset(), frozenset(), True, frozenset()),
    resolvers=(IPv4Address("9.9.9.9"),),
)


def definitions():
    return {
        Role.INFRA: spec.infra_definition(SPEC, "net"),
        Role.APP: spec.app_definition(SPEC, "infra"),
        Role.LISTENER: spec.helper_definition(SPEC, Role.LISTENER, "infra"),
        Role.AUTH: spec.helper_definition(SPEC, Role.AUTH, "infra"),
        Role.STORAGE: spec.storage_definition(SPEC, "infra", (1000, 100)),
    }


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.MOUNTER])
def test_row_every_container_is_confined(role):
    made = definitions()[role]
    host = made["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    privileges, filtered = host["SecurityOpt"]
    assert privileges == "no-new-privileges:true"
    assert filtered == f"seccomp={seccomp.seccomp_profile()}"
    assert 0 < host["NanoCpus"] <= (2 if role is Role.APP else 1) * 1_000_000_000
    assert host["Privileged"] is False
    assert 0 < host["PidsLimit"] <= 512
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"]["Config"] == {"max-size": host["LogConfig"]["Config"]["max-size"],
                                           "max-file": "2"}  # fmt: skip
    assert host["IpcMode"] == "private"
    assert not {"Binds", "Devices", "PortBindings", "VolumesFrom"} & host.keys()
    assert made["Labels"] == {
        "dit4c.instance": "abc",
        "dit4c.role": role,
        "dit4c.data-dir": "/srv/dit4c",
        "dit4c.app-port": "8888",
    }


def test_row_capabilities_are_the_eight_and_never_net_raw():
    added = {role: made["HostConfig"].get("CapAdd", []) for role, made in definitions().items()}
    assert added == {
        Role.INFRA: ["NET_ADMIN"],
        Role.APP: [
            "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "KILL",
            "NET_BIND_SERVICE",
        ],
        Role.LISTENER: [],
        Role.AUTH: [],
        Role.STORAGE: [],
    }  # fmt: skip


def test_all_share_infras_network_and_only_infra_is_on_it():
    modes = {role: made["HostConfig"]["NetworkMode"] for role, made in definitions().items()}
    assert modes.pop(Role.INFRA) == "net"
    assert set(modes.values()) == {"container:infra"}


def test_row_the_key_is_not_in_the_app():
    mounts = {role: made["HostConfig"].get("Mounts", []) for role, made in definitions().items()}
    assert [mount["Source"] for mount in mounts[Role.APP]] == ["dit4c-abc-app-0", "dit4c-abc-app-1"]
    assert [mount["Target"] for mount in mounts[Role.APP]] == ["/data", "/home"]
    (auth,), (listener,) = mounts[Role.AUTH], mounts[Role.LISTENER]
    assert auth["Source"] == listener["Source"] == "dit4c-abc-pod"
    assert (auth["ReadOnly"], listener["ReadOnly"]) == (False, True)
    assert mounts[Role.INFRA] == []
    key, socket = mounts[Role.STORAGE]
    assert (key["Source"], key["ReadOnly"]) == ("dit4c-abc-pod", True)
    assert socket["Source"] == "dit4c-abc-mount"


def test_the_apps_files_are_bound_so_that_mounts_reach_it_and_none_leaves_it():
    image = AppImage("sha256:app", 8888, ("/data", "/mnt"))
    made = spec.app_definition(
        replace(SPEC, image=image, files=True), "infra", (), "/volumes/files"
    )
    assert made["Labels"]["dit4c.files"] == "1"
    # The image's own volume at /mnt gives way.
    assert [(m["Source"], m["Target"]) for m in made["HostConfig"]["Mounts"]] == [
        ("dit4c-abc-app-0", "/data"),
        ("/volumes/files", "/mnt"),
    ]
    assert made["HostConfig"]["Mounts"][1]["BindOptions"] == {"Propagation": "rslave"}
    volumes = [volume["Name"] for volume in spec.pod_volumes(replace(SPEC, files=True))]
    assert volumes[-2:] == ["dit4c-abc-files", "dit4c-abc-mount"]


def test_only_the_mount_container_may_mount_and_it_has_neither_key_nor_network():
    made = spec.mounter("abc", "/srv/dit4c", "sha256:storage", "/volumes/a/_data", "mount")
    host = made["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["NetworkMode"]) == (
        ["ALL"],
        ["SYS_ADMIN"],
        "none",
    )
    assert [device["PathOnHost"] for device in host["Devices"]] == ["/dev/fuse"]
    assert [m["Source"] for m in host["Mounts"]] == ["/volumes/a", "dit4c-abc-mount"]
    assert "DIT4C_MOUNT_POINT=/shared/_data" in made["Env"]
    assert host["Mounts"][0]["BindOptions"] == {"Propagation": "rshared"}
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert made["Labels"]["dit4c.role"] == "mounter"
    assert 0 < host["NanoCpus"] <= 1_000_000_000


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("Feldnotizen 2 – ü", ["DIT4C_INSTANCE_NAME=Feldnotizen 2 – ü"]),
        ("a\0b\nX=c" + "d" * 300, ["DIT4C_INSTANCE_NAME=abX=c" + "d" * 195]),
        ("", []),
    ],
)  # fmt: skip
def test_the_app_is_told_its_name_and_the_portal(title, told):
    made = spec.app_definition(
        replace(SPEC, title=title, portal_url="https://p.example.org"), "infra"
    )
    assert made["Env"] == [*told, "DIT4C_PORTAL_URL=https://p.example.org"]
    assert "Env" not in spec.helper_definition(replace(SPEC, title=title), Role.AUTH, "infra")


def test_helpers_run_as_their_own_user_on_a_read_only_root():
    for role in (Role.AUTH, Role.LISTENER, Role.STORAGE):
        made = definitions()[role]
        assert made["User"] == "10001:10001"
        assert made["HostConfig"]["ReadonlyRootfs"] is True
        assert "noexec" in made["HostConfig"]["Tmpfs"]["/tmp"]


def test_the_app_gets_what_its_owner_lends_and_no_more_than_there_is():
    assert spec.app_definition(SPEC, "infra")["HostConfig"]["NanoCpus"] == 2_000_000_000
    small = replace(SPEC, machine_cpus=1)
    assert spec.app_definition(small, "infra")["HostConfig"]["NanoCpus"] == 1_000_000_000
    assert "User" not in spec.app_definition(SPEC, "infra")


def test_infra_has_rules_and_resolvers():
    made = definitions()[Role.INFRA]
    assert made["Env"] == [f"DIT4C_RULES={firewall_ruleset(SPEC.reach)}"]
    assert made["HostConfig"]["Dns"] == ["9.9.9.9"]
    assert "Dns" not in spec.infra_definition(replace(SPEC, resolvers=()), "net")["HostConfig"]


def test_network_and_volumes_carry_labels():
    network = spec.pod_network(SPEC, IPv4Network("10.213.0.16/28"))
    assert network["IPAM"]["Config"] == [{"Subnet": "10.213.0.16/28"}]
    assert network["EnableIPv6"] is False
    names = [volume["Name"] for volume in spec.pod_volumes(SPEC)]
    assert names == ["dit4c-abc-pod", "dit4c-abc-app-0", "dit4c-abc-app-1"]
    for made in (network, *spec.pod_volumes(SPEC)):
        assert made["Labels"]["dit4c.instance"] == "abc"


@pytest.mark.parametrize(
    ("declared", "port"),
    [
        ({"8888/tcp": {}}, 8888),
        ({"9000/tcp": {}, "80/tcp": {}, "53/udp": {}}, 80),
        ({"7000": {}}, 7000),
    ],
)
def test_the_lowest_tcp_port_is_served(declared, port):
    image = {
        "Id": "sha256:x",
        "Config": {"ExposedPorts": declared, "Volumes": {"/b": {}, "/a": {}}},
    }
    assert spec.read_image(image) == AppImage("sha256:x", port, ("/a", "/b"))


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"ExposedPorts": None},
        {"ExposedPorts": {"53/udp": {}}},
        {"ExposedPorts": {"0/tcp": {}, "65536/tcp": {}, "²/tcp": {}, "-1": {}, "1e3/tcp": {}}},
    ],
)
def test_an_image_without_a_tcp_port(config):
    with pytest.raises(NoPort, match="declares no TCP port"):
        spec.read_image({"Id": "sha256:x", "Config": config})


def test_an_image_gets_no_more_volumes_than_a_node_lends():
    """security.md 1: whoever made an image wrote what it declares."""

    def image(volumes):
        declared = {f"/{number}": {} for number in range(volumes)}
        return {"Id": "x", "Config": {"ExposedPorts": {"1/tcp": {}}, "Volumes": declared}}

    assert len(spec.read_image(image(32)).volumes) == 32
    with pytest.raises(PolicyRefused, match="33 volumes"):
        spec.read_image(image(33))


def test_what_is_said_of_a_failure_is_a_sentence_whatever_an_image_holds():
    failure = as_failure(EngineSaid("x" * 300_000))
    assert failure.code == "engine" and len(failure.text) <= 1000


def test_files_go_in_uncompressed_for_the_helpers_user_only():
    made = spec.pod_files({"key": b"secret", "config.json": b"{}"})
    with tarfile.open(fileobj=io.BytesIO(made), mode="r:") as archive:
        assert [(m.name, m.uid, m.gid, m.mode) for m in archive] == [
            ("config.json", 10001, 10001, 0o600),
            ("key", 10001, 10001, 0o600),
        ]
        assert archive.extractfile("key").read() == b"secret"
