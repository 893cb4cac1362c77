"""Signs a URL so that whoever holds it may make one request: AWS signature version 4 in the query."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    region: str


@dataclass(frozen=True)
class Request:
    """Method, URL without query, and the headers (in lower case) that must be sent exactly so."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


def presign(request: Request, credentials: Credentials, at: datetime, lives_s: int) -> str:
    """The URL that admits this request, no other, from `at` on for `lives_s` seconds."""
    url = urlsplit(request.url)
    host = url.netloc.removesuffix(_DEFAULT_PORTS.get(url.scheme, ""))
    path = quote(url.path, safe="/~")
    signed = dict(sorted({"host": host, **request.headers}.items()))
    time = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    scope = (time[:8], credentials.region, "s3", "aws4_request")
    query = _query(
        {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": "/".join((credentials.access_key, *scope)),
            "X-Amz-Date": time,
            "X-Amz-Expires": str(lives_s),
            "X-Amz-SignedHeaders": ";".join(signed),
        }
    )
    lines = [f"{name}:{value}" for name, value in signed.items()]
    canonical = "\n".join([request.method, path, query, *lines, "", ";".join(signed), "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = reduce(_mac, scope, b"AWS4" + credentials.secret_key.encode())
    signature = _mac(key, "\n".join([_ALGORITHM, time, "/".join(scope), digest])).hex()
    return f"{url.scheme}://{host}{path}?{query}&X-Amz-Signature={signature}"


def _query(parameters: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(parameters.items()))


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
