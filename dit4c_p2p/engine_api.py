"""Requests to the container engine's HTTP API that aiodocker has no public call for.

aiodocker's own calls hide an answer's status, read it whole, or leave parameters out. This is the
only module that uses its private request method; it fails at import when a release changes that
method.
"""

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

import aiodocker
import aiohttp
from aiodocker.types import SENTINEL

# What is passed below, and has to be a parameter of its own.
_PASSED = ("params", "data", "headers", "timeout")


def check_aiodocker(client: type = aiodocker.Docker) -> None:
    """Check that aiodocker's request method is the one that :func:`request` was written for.

    :raises ImportError: it is missing, or takes other parameters.
    """
    try:
        names = tuple(inspect.signature(client._query).parameters)  # type: ignore[attr-defined]
    except AttributeError:
        names = ()
    if names[:3] != ("self", "path", "method") or not {*_PASSED} <= {*names}:
        raise ImportError(f"aiodocker {aiodocker.__version__} sends requests in another way")


check_aiodocker()


def request(
    docker: aiodocker.Docker,
    path: str,
    method: str = "GET",
    *,
    params: Mapping[str, str] | None = None,
    data: str | bytes | AsyncIterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    limit_s: float | None = None,
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Send a request; enter the result for the response, whose body is not read yet.

    :param path: below the API's version, such as ``containers/json``.
    :param limit_s: the whole exchange's limit in seconds; None leaves it to the client's own.
    :raises aiodocker.DockerError: on entry: the engine refused, or (status 900) is not there.
    :raises aiohttp.ClientError: on entry: the connection broke.
    """
    timeout = SENTINEL if limit_s is None else aiohttp.ClientTimeout(total=limit_s)
    return docker._query(path, method, params=params, data=data, headers=headers, timeout=timeout)
