"""HTTPS by the image server itself, and a proxy in front that has it below a path."""

import asyncio
import os

import aiohttp
import dxf
import pytest
from lib.certificates import Authority
from systems.all_in_one import free_ports
from systems.image_server import ImageServerAtWork, RegistryApi
from systems.nginx import Nginx

from dit4c_p2p.oci.digests import Digest

ONE = "instances/one"


@pytest.fixture
def authority(tmp_path):
    """Signs for localhost."""
    return Authority(tmp_path / "authority")


async def test_a_python_client_pushes_and_pulls_by_https(tmp_path, authority):
    """python-dxf, which logs in by Basic and only over TLS."""
    files = authority.files("images", "localhost")
    async with ImageServerAtWork(tmp_path / "server", tls=files, keep_free=0) as work:
        host = f"localhost:{work.server.secure_ports[0]}"
        source = tmp_path / "layer"
        source.write_bytes(os.urandom(3_000_000))

        def use() -> bytes:
            def log_in(client: dxf.DXFBase, response: object) -> None:
                client.authenticate("all", "all", response=response)

            with dxf.DXF(host, ONE, log_in, tlsverify=str(authority.file)) as client:
                digest = client.push_blob(str(source))
                client.set_alias("v1", digest)
                assert client.list_aliases() == ["v1"]
                assert client.get_alias("v1") == [digest]
                return b"".join(client.pull_blob(digest))

        assert await asyncio.to_thread(use) == source.read_bytes()


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "passed on"])
async def test_a_path_prefix_and_tls_in_front(tmp_path, authority, stripped):
    """The proxy may take the prefix away or not; what a client is sent to is below it."""
    (port,) = free_ports(1)
    files = authority.files("proxy", "localhost")
    async with ImageServerAtWork(tmp_path / "server", "/images", keep_free=0) as work:
        target = f"http://{work.address}" + ("/" if stripped else "/images/")
        http = f"""
        server {{
          listen 127.0.0.1:{port} ssl; client_max_body_size 0;
          ssl_certificate {files.certificate}; ssl_certificate_key {files.key};
          location /images/ {{
            proxy_pass {target}; proxy_request_buffering off; proxy_set_header Host $http_host;
          }}
        }}"""
        with Nginx(tmp_path / "nginx", http):
            async with RegistryApi(f"localhost:{port}/images", "all") as api:
                await api.session.close()
                api.session = aiohttp.ClientSession(
                    base_url=f"https://localhost:{port}",
                    connector=aiohttp.TCPConnector(ssl=authority.client()),
                )
                base = f"/images/v2/{ONE}"
                begun = await api.session.post(f"{base}/blobs/uploads/", headers=api.headers)
                assert begun.status == 202
                location = begun.headers["Location"]
                assert location.startswith(f"{base}/blobs/uploads/")
                content = os.urandom(2_000_000)
                digest = Digest.of(content)
                done = await api.session.put(
                    f"{location}?digest={digest}", data=content, headers=api.headers
                )
                assert (done.status, done.headers["Location"]) == (201, f"{base}/blobs/{digest}")
                found = await api.session.get(done.headers["Location"], headers=api.headers)
                assert await found.read() == content
