"""The portal: people, what they want, who may; the published keys; the OAuth authorization server.

``app.Portal`` is the entry. What decides is in plain modules (``people``, ``sessions``,
``registry``, ``enrolment``, ``instances``, ``oauth.server``); what talks is in ``pages``
(browsers), ``api`` (programs with a token), ``peers`` (peers with a key) and ``link`` (schedulers).
"""

from dit4c_p2p.portal.app import Portal
from dit4c_p2p.portal.config import CatalogueImage, Limits, PortalConfig

__all__ = ["CatalogueImage", "Limits", "Portal", "PortalConfig"]
