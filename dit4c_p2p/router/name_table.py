"""The map from (name, port) to the connection that listens for it."""

from typing import Generic, TypeVar

from dit4c_p2p.identity.names import PeerName

Owner = TypeVar("Owner")


class NameRegistration(Generic[Owner]):
    """One ``tcpip-forward`` in force; compared by identity."""

    __slots__ = ("name", "owner", "port")

    def __init__(self, name: PeerName, port: int, owner: Owner) -> None:
        self.name = name
        self.port = port
        self.owner = owner


class NameTable(Generic[Owner]):
    """Map from names to owners. The caller of ``claim`` closes the former owner."""

    def __init__(self) -> None:
        self._claims: dict[tuple[PeerName, int], NameRegistration[Owner]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def names(self) -> set[PeerName]:
        """The names that somebody holds, with one port or several."""
        return {name for name, _ in self._claims}

    def claim(
        self, name: PeerName, port: int, owner: Owner
    ) -> tuple[NameRegistration[Owner], Owner | None]:
        """Have ``owner`` hold (name, port) from now on; the newest always wins.

        Returns the claim, to be given to :meth:`release`, and the owner it was taken from: None if
        there was none or it is the same one.
        """
        before = self._claims.get((name, port))
        claim = self._claims[name, port] = NameRegistration(name, port, owner)
        displaced = None if before is None or before.owner is owner else before.owner
        return claim, displaced

    def release(self, claim: NameRegistration[Owner]) -> bool:
        """End a claim. False if another has taken over since, which then stays."""
        if self._claims.get((claim.name, claim.port)) is not claim:
            return False
        del self._claims[claim.name, claim.port]
        return True

    def find(self, name: PeerName, port: int) -> Owner | None:
        """Return the owner of (name, port), or None."""
        claim = self._claims.get((name, port))
        return None if claim is None else claim.owner
