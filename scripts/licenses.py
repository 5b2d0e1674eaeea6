#!/usr/bin/env python3
"""Checks the license, source and name of every dependency against deny.toml, without cargo-deny or a network.

Like cargo-deny, reads `cargo metadata`. Of deny.toml, it applies `graph.exclude`, `licenses.allow`, `bans.deny` and
`sources.allow-registry`. Advisories need a network and are left to cargo-deny.
"""

import json
import re
import subprocess
import sys
import tomllib


def permitted(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be satisfied by allowed licenses alone. AND binds tighter than OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))  # an old notation for a choice
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        if position == len(tokens):
            raise ValueError("it ends too early")
        position += 1
        return tokens[position - 1]

    def choice() -> bool:
        result = both()
        while peek() == "OR":
            take()
            result |= both()
        return result

    def both() -> bool:
        result = single()
        while peek() == "AND":
            take()
            result &= single()
        return result

    def single() -> bool:
        name = take()
        if name == "(":
            result = choice()
            if take() != ")":
                raise ValueError("a parenthesis is not closed")
            return result
        if name in (")", "AND", "OR", "WITH"):
            raise ValueError(f"{name} has no license before it")
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allowed

    result = choice()
    if peek() is not None:
        raise ValueError(f"unexpected {peek()}")
    return result


def main() -> None:
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    excluded = set(rules["graph"]["exclude"])
    denied = {rule["crate"]: rule["reason"] for rule in rules["bans"]["deny"]}
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}

    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    problems, count = [], 0
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        # Packages without a source belong to this repository.
        if package["id"] not in used or package["source"] is None or package["name"] in excluded:
            continue
        count += 1
        try:
            if not permitted(package["license"] or "", allowed):
                problems.append(f"{name}: its license, {package['license']!r}, is not allowed")
        except ValueError as error:
            problems.append(f"{name}: its license, {package['license']!r}, cannot be read: {error}")
        if package["name"] in denied:
            problems.append(f"{name} is banned: {denied[package['name']]}")
        if package["source"] not in registries:
            problems.append(f"{name} comes from {package['source']}")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{count} packages: licenses, bans and sources as in deny.toml")


if __name__ == "__main__":
    main()
