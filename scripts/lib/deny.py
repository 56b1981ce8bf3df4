"""What deny.toml says about licences, bans and sources, checked over `cargo metadata`.

cargo-deny reads the same file and checks more, but takes longer to build than a cold run of all tests may take; who has
it installed runs `cargo deny check` instead. Standard input: the JSON of `cargo metadata --format-version 1 --locked`.
"""

import json
import re
import sys

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression, allow):
    """Whether an SPDX expression can be met with the licences of `allow`."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def word():
        return words[at] if at < len(words) else None

    def either():
        nonlocal at
        good = both()
        while word() == "OR":
            at += 1
            good = both() or good
        return good

    def both():
        nonlocal at
        good = one()
        while word() == "AND":
            at += 1
            good = one() and good
        return good

    def one():
        nonlocal at
        if word() == "(":
            at += 1
            good = either()
            if word() != ")":
                raise ValueError(expression)
            at += 1
            return good
        name = word()
        if name is None or name in ("OR", "AND", "WITH", ")"):
            raise ValueError(expression)
        at += 1
        if word() == "WITH":
            name = f"{name} WITH {words[at + 1]}"
            at += 2
        return name in allow

    good = either()
    if at != len(words):
        raise ValueError(expression)
    return good


def check(rules, metadata):
    """Every breach as a sentence."""
    packages = {package["id"]: package for package in metadata["packages"]}
    own = set(metadata["workspace_members"])
    allow = set(rules["licenses"]["allow"])
    excepted = {e.get("crate", e.get("name")): set(e["allow"]) for e in rules["licenses"].get("exceptions", [])}
    users = {}
    for node in metadata["resolve"]["nodes"]:
        for dependency in node["deps"]:
            users.setdefault(dependency["pkg"], set()).add(packages[node["id"]]["name"])
    for id, package in sorted(packages.items()):
        label = f"{package['name']} {package['version']}"
        source = package["source"]
        if source is None and id not in own:
            yield f"{label}: a path outside the workspace"
        if source is not None and source != CRATES_IO:
            yield f"{label}: comes from {source}"
        expression = package["license"]
        try:
            if not expression:
                yield f"{label}: names no licence"
            elif not allowed(expression, allow | excepted.get(package["name"], set())):
                yield f"{label}: {expression} is not allowed"
        except (ValueError, IndexError):
            yield f"{label}: {expression} cannot be read as SPDX"
        for dependency in package["dependencies"] if id in own else []:
            if dependency["req"] == "*" and dependency["source"]:
                yield f"{label}: any version of {dependency['name']} would do"
    for ban in rules["bans"]["deny"]:
        name = ban.get("crate", ban.get("name"))
        for id, package in packages.items():
            if package["name"] != name:
                continue
            strangers = users.get(id, set()) - set(ban.get("wrappers", []))
            if strangers or "wrappers" not in ban:
                yield f"{name} is banned ({ban['reason']}), and used by {', '.join(sorted(strangers)) or 'the workspace'}"


def main():
    with open(sys.argv[1], "rb") as file:
        rules = tomllib.load(file)
    metadata = json.load(sys.stdin)
    breaches = list(check(rules, metadata))
    for breach in breaches:
        print(f"deny: {breach}", file=sys.stderr)
    print(f"{len(metadata['packages'])} crates, {len(breaches)} against deny.toml")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main())
