"""Removal of secrets from log lines, as the last line of defence.

Code that logs must leave secrets out by itself. This is for the messages of libraries, and for
mistakes.
"""

import re

_GONE = "[redacted]"
# Shorter ones are words: "exit code=1", "token for".
_VALUE = r"[A-Za-z0-9._~+/=%-]{12,}"
_NAMES = (
    "access_token|assertion|client_assertion|code|code_verifier|csrf|id_token|nonce|passwd|password"
    "|refresh_token|secret|session|state|token|visit"
)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # PEM (RFC 7468), cut off at its end as well; and as one line with \n in it.
    (
        re.compile(
            r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
        ),
        "[redacted private key]",
    ),
    # JWTs (RFC 7519): base64url of '{"' begins so.
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?", re.ASCII), _GONE),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {_GONE}"),
    (re.compile(r"(/login/)[\w%.~-]{8,}", re.ASCII), rf"\1{_GONE}"),
    (re.compile(r"(__(?:Host|Secure)-[\w-]{1,80})=[^;,\s\"']+", re.ASCII), rf"\1={_GONE}"),
    # Parameters and fields: code=…, "token": "…", 'csrf': '…'.
    (re.compile(rf"\b({_NAMES})=([\"']?){_VALUE}", re.IGNORECASE), rf"\1=\2{_GONE}"),
    (
        re.compile(rf"([\"'](?:{_NAMES})[\"']\s*:\s*[\"']){_VALUE}", re.IGNORECASE),
        rf"\1{_GONE}",
    ),
    # A database's or a proxy's URL with a password in it.
    (re.compile(r"(://[^/\s:@]{1,80}:)[^/\s@]+@"), rf"\1{_GONE}@"),
)


def redact_secrets(text: str) -> str:
    """Return ``text`` without anything that looks like a secret."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
