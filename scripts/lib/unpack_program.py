"""unpack_program.py WHEEL DIRECTORY PROGRAM…: takes the named programs out of a Python wheel into DIRECTORY.

Some programs are only published inside a wheel, and there inside further archives (a zip in a tgz). This looks through
them all for an ELF file of that name. Exit code 1 when one is not found.
"""
import io
import os
import sys
import tarfile
import zipfile


def files(name, data):
    """Yields (path, read) for each file of an archive, looking into archives within."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(data) as archive:
            for entry in archive.infolist():
                yield from inside(entry.filename, lambda entry=entry: archive.read(entry))
    elif name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(fileobj=data, mode="r:gz") as archive:
            for entry in archive:
                if entry.isfile():
                    yield from inside(entry.name, lambda entry=entry: archive.extractfile(entry).read())


def inside(path, read):
    if path.endswith((".zip", ".tgz", ".tar.gz")):
        yield from files(path, io.BytesIO(read()))
    else:
        yield path, read


def main(wheel, directory, *wanted):
    missing = set(wanted)
    with open(wheel, "rb") as opened:
        for path, read in files(wheel, opened):
            program = os.path.basename(path)
            if program not in missing:
                continue
            content = read()
            if content[:4] != b"\x7fELF":
                continue
            target = os.path.join(directory, program)
            with open(target + ".new", "wb") as out:
                out.write(content)
            os.chmod(target + ".new", 0o755)
            os.replace(target + ".new", target)
            missing.discard(program)
    if missing:
        sys.exit(f"{os.path.basename(wheel)}: holds no program {', '.join(sorted(missing))}")


main(*sys.argv[1:])
