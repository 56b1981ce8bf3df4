"""Signs a link. Standard library only; `ring` is the LINK_KEYS text, whose first key signs."""
import base64, hashlib, hmac, re


def sign(ring, key, exp, now, **more):
    """Path and query for `key` until `exp` (Unix seconds). `more`: dl, dn, ep, ip (docs/links.md)."""
    kid, secret = ring.split(",")[0].split(":")
    params = sorted({**more, "exp": exp, "kid": kid}.items())
    segments = key.split("/")
    if not now < exp <= now + 7 * 86400 or len(key) > 512 or segments[0] == "temp" and len(segments) > 1:
        raise ValueError("no such link may exist")
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", key) or {"", ".", ".."} & set(segments):
        raise ValueError("not an object key")
    if not all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", str(value)) for _, value in params):
        raise ValueError("not a parameter's value")
    lines = ["signet-link-v1", "/" + key, *(f"{name}={value}" for name, value in params)]
    mac = hmac.digest(base64.b64decode(secret), "".join(line + "\n" for line in lines).encode(), hashlib.sha256)
    return "/" + key + "?" + "&".join([*lines[2:], "sig=" + base64.urlsafe_b64encode(mac).decode().rstrip("=")])
