"""A plugin of detect-secrets that knows Signet's keyrings: `kid:base64` of 32 to 64 bytes."""

import base64
import binascii
import re

from detect_secrets.plugins.base import RegexBasedDetector


class SignetKeyringDetector(RegexBasedDetector):
    """Finds keys that would sign links or requests."""

    secret_type = "Signet keyring"
    denylist = (re.compile(r"(?<![A-Za-z0-9:/._-])[a-z0-9][a-z0-9-]{0,31}:([A-Za-z0-9+/]{40,86}={0,2})(?![A-Za-z0-9+/=_-])"),)

    def analyze_string(self, string):
        for key in super().analyze_string(string):
            try:
                raw = base64.b64decode(key, validate=True)
            except binascii.Error:
                continue
            # A key of a test repeats one byte or spells a sentence; a real one does neither.
            is_hash = re.fullmatch(r"[0-9a-f]+", key)
            if not is_hash and 32 <= len(raw) <= 64 and len(set(raw)) > 20 and not all(32 <= byte < 127 for byte in raw):
                yield key
