"""Checks what the compiler does not: module arrows, file sizes, forbidden words, links in the documents.

Prints one line for each finding, as path:line: what, and exits 1 when there is one.
"""
import json
import os
import re
import subprocess
import sys

LONGEST_FILE = 600

# Which modules may import a C library: each is wrapped once, and the rest of the code sees Swift.
C_IMPORTERS = {
    "CFuse": {"FuseBridge"},
    "CCurl": {"UnderStores"},
    "CLibXML": {"UnderStores"},
    "CLMDB": {"LMDB"},
    "CISAL": {"Platform"},
    "CLinux": {"Platform"},
}

# Foundation costs start-up time, memory and reference counting where a read passes through.
WITHOUT_FOUNDATION = {"Platform", "BlockMaps", "BlockCaching", "Coordination", "FileSystem", "FuseBridge", "larder"}
FOUNDATION = {"Foundation", "FoundationEssentials", "FoundationNetworking", "FoundationXML"}
# Data is what protobuf calls bytes.
ALLOWED_FOUNDATION = {("Coordination", "FoundationEssentials")}

# What may lie below each module. Package.swift may declare less, never more.
BELOW = {
    "Platform": set(),
    "LMDB": {"Platform"},
    "BlockMaps": {"Platform"},
    "UnderStores": {"Platform"},
    "BlockCaching": {"BlockMaps", "LMDB", "Platform"},
    "Coordination": {"Platform"},
    "FileSystem": {"Coordination", "BlockMaps", "Platform"},
    "FuseBridge": {"FileSystem", "Coordination", "Platform"},
    "Coordinator": {"Coordination", "BlockCaching", "LMDB", "UnderStores", "Platform"},
    "Commands": {"FuseBridge", "FileSystem", "Coordinator", "Coordination", "BlockCaching", "UnderStores", "Platform"},
    "larder": {"Commands"},
}

FORBIDDEN = [
    (re.compile(r"\btry!"), "try! stops the process; every mount would answer ENOTCONN"),
    (re.compile(r"\bfatalError\("), "fatalError stops the process; throw, or precondition inside a module's own invariant"),
    (re.compile(r"\bnonisolated\(unsafe\)"), "nonisolated(unsafe) hides a race; put the state under Platform.Lock"),
    (re.compile(r"\bSynchronization\.Mutex\b|(?<![\w.])Mutex<"), "locks only through Platform.Lock"),
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "an issue is the place for what is left to do"),
]
# The last rule looks at comments; the others at code only.
IN_COMMENTS = {4}

IMPORT = re.compile(r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:package |public |internal |fileprivate |private )?import\s+(?:\w+\s+)?(\w+)")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

findings = []


def find(path, line, what):
    findings.append(f"{path}:{line}: {what}")


def tracked(*patterns):
    """The files of the tree that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        check=True, capture_output=True).stdout
    return sorted({name for name in listed.decode().split("\0") if name and os.path.exists(name)})


def read(path):
    with open(path, encoding="utf-8") as opened:
        return opened.read().splitlines()


def declared_dependencies():
    """Each target of Package.swift with what it declares to import."""
    dumped = subprocess.run(["swift", "package", "dump-package"], check=True, capture_output=True).stdout
    result = {}
    for target in json.loads(dumped)["targets"]:
        names = set()
        for dependency in target["dependencies"]:
            names.add((dependency.get("byName") or dependency.get("target") or dependency.get("product"))[0])
        result[target["name"]] = names
    return result


def check_arrows(declared):
    for name, below in BELOW.items():
        for dependency in sorted(declared.get(name, set()) & set(BELOW) - below):
            find("Package.swift", 1, f"{name} may not depend on {dependency}: arrows only point down")
    for name in sorted(set(declared) - set(BELOW) - set(C_IMPORTERS)):
        if not name.endswith("Tests") and name not in {"TestSupport", "AllocationCount"}:
            find("Package.swift", 1, f"the new module {name} has no place yet: add it to BELOW in scripts/lib/check_sources.py")


def check_imports(path, lines, declared):
    parts = path.split("/")
    module = parts[1]
    if module not in declared:
        return
    ours = set(declared)
    generated = path.endswith(".pb.swift")
    for number, line in enumerate(lines, 1):
        match = IMPORT.match(line)
        if not match:
            continue
        imported = match.group(1)
        if imported in ours and imported not in declared[module]:
            find(path, number, f"{module} does not declare {imported} in Package.swift")
        if parts[0] == "Sources" and imported in C_IMPORTERS and module not in C_IMPORTERS[imported]:
            find(path, number, f"only {' and '.join(sorted(C_IMPORTERS[imported]))} may import {imported}")
        without = module in WITHOUT_FOUNDATION and (module, imported) not in ALLOWED_FOUNDATION
        if imported in FOUNDATION and without and parts[0] == "Sources" and not generated:
            find(path, number, f"{module} does without {imported}")


def check_words(path, lines):
    for number, line in enumerate(lines, 1):
        code = STRING.sub('""', line)
        comment = ""
        if "//" in code:
            code, comment = code.split("//", 1)
        for index, (pattern, reason) in enumerate(FORBIDDEN):
            if pattern.search(comment if index in IN_COMMENTS else code):
                find(path, number, reason)


def anchor(heading):
    """The fragment that a heading gets on a rendered page."""
    text = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def outside_code(lines):
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def check_links(path, lines):
    for number, line in outside_code(lines):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, fragment = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            if not os.path.exists(file):
                find(path, number, f"link to {target}: no such file")
            elif file.startswith(".."):
                find(path, number, f"link to {target}: leaves the project")
            elif fragment and file.endswith(".md"):
                anchors = {anchor(l.lstrip("#")) for _, l in outside_code(read(file)) if l.startswith("#")}
                if fragment not in anchors:
                    find(path, number, f"link to {target}: no such heading")


def main():
    declared = declared_dependencies()
    check_arrows(declared)
    for path in tracked("Sources/*.swift", "Tests/*.swift", "Sources/*.c", "Sources/*.h"):
        lines = read(path)
        generated = path.endswith(".pb.swift")
        if len(lines) > LONGEST_FILE and not generated:
            find(path, len(lines), f"{len(lines)} lines; split it at a noun ({LONGEST_FILE} at most)")
        if path.endswith(".swift"):
            check_imports(path, lines, declared)
        if not generated:
            check_words(path, lines)
    for path in tracked("*.md"):
        check_links(path, read(path))
    print("\n".join(findings), end="\n" if findings else "")
    sys.exit(1 if findings else 0)


main()
