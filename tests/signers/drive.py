"""Reads calls as JSON lines, writes links (or "refused") as JSON lines: sign.py under test."""
import json, sys, pathlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "docs/signers"))
from sign import sign

for line in sys.stdin:
    call = json.loads(line)
    try:
        print(json.dumps(sign(call["ring"], call["key"], call["exp"], call["now"], **call["more"])))
    except ValueError:
        print('"refused"')
