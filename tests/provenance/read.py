"""Prints what PyPI's c2pa-python says of each file, as one JSON object a line.

    read.py TRUSTED_CHAIN.pem FILE…    the chain's certificates are trusted
"""

import json
import sys

import c2pa

KINDS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


def main() -> None:
    trusted, files = sys.argv[1], sys.argv[2:]
    with open(trusted, encoding="ascii") as file:
        text = file.read()
    # The last certificate is the authority's.
    anchor = "-----BEGIN CERTIFICATE-----" + text.split("-----BEGIN CERTIFICATE-----")[-1]
    settings = {"verify": {"verify_trust": True}, "trust": {"trust_anchors": anchor}}
    context = c2pa.Context(settings=c2pa.Settings.from_dict(settings))
    for name in files:
        with open(name, "rb") as stream:
            try:
                reader = c2pa.Reader(KINDS[name.rsplit(".", 1)[1]], stream, context=context)
            except c2pa.C2paError as error:
                print(json.dumps({"state": "None", "error": str(error)}))
                continue
            print(json.dumps({
                "state": str(reader.get_validation_state()),
                "manifest": reader.get_active_manifest(),
                "results": reader.get_validation_results(),
            }))


main()
