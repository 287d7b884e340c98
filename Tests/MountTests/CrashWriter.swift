/// A program that writes through a mount and says in a local log what was acknowledged, and the same program as the judge
/// of what a store has in the end. What it writes follows from the seed, so the log holds no bytes.
enum CrashWriter {
    static let program = #"""
        import os, random, sys, time
        mode, root, log_name, seed, me = sys.argv[1:6]
        here = f"{root}/{me}"
        RECORDS, RECORD = 64, 4096

        def data(name, n, size): return random.Random(f"{seed}/{me}/{name}/{n}").randbytes(size)
        def record(i, version): return (f"{i} {version} ".encode() + data("rec", f"{i}.{version}", RECORD))[:RECORD]
        def current(version): return f"{version} ".encode() + data("cur", version, 3000 + version % 5 * 40000)
        def piece(name, n): return data(name, n, 100 + n * 37 % 3000)

        class Writer:
            def __init__(self, stop):
                self.random, self.stop, self.n = random.Random(f"{seed}-{me}"), stop, 0
                self.log = open(log_name, "a", buffering=1)
                self.versions, self.known = [0] * RECORDS, []
                self.appended, self.append_file, self.records = 0, None, None

            def say(self, *words): self.log.write(" ".join(map(str, words)) + "\n")

            def put(self, path, bytes, flags=os.O_CREAT | os.O_EXCL, sync=False):
                file = os.open(path, os.O_WRONLY | flags, 0o644)
                try:
                    for at in range(0, len(bytes), 300_000):
                        part = bytes[at:at + 300_000]
                        while part: part = part[os.write(file, part):]
                    if sync: os.fsync(file)
                except OSError:
                    try: os.close(file)
                    except OSError: pass
                    raise
                os.close(file)

            def new(self):
                name = f"new-{self.n}"
                size = self.random.choice([0, 10, 5000, 5000, 200_000, 200_000, 1_000_000])
                if self.n % 40 == 11: size = 20 << 20
                self.put(f"{here}/{name}", data(name, 0, size), sync=self.random.random() < 0.3)
                self.say("new", name, size)
                self.known.append(name)

            def append(self):
                if self.append_file is None or self.random.random() < 0.2:
                    if self.append_file is None: self.append_name, self.appended = f"log-{self.n}", 0
                    else: file, self.append_file = self.append_file, None; os.close(file)
                    self.append_file = os.open(f"{here}/{self.append_name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                for _ in range(self.random.randrange(1, 4)):
                    part = piece(self.append_name, self.appended)
                    self.appended += 1
                    assert os.write(self.append_file, part) == len(part)
                (os.fsync if self.random.random() < 0.5 else os.fdatasync)(self.append_file)
                self.say("append", self.append_name, self.appended)

            def overwrite(self):
                if self.records is None:
                    name = f"rec-{self.n}"
                    self.put(f"{here}/{name}", b"".join(record(i, 0) for i in range(RECORDS)))
                    self.records, self.versions = name, [0] * RECORDS
                    self.say("records", name)
                file = os.open(f"{here}/{self.records}", os.O_RDWR)
                touched = [self.random.randrange(RECORDS) for _ in range(self.random.randrange(1, 6))]
                try:
                    for i in touched:
                        self.versions[i] += 1
                        assert os.pwrite(file, record(i, self.versions[i]), i * RECORD) == RECORD
                    if self.random.random() < 0.5: os.fsync(file)
                except OSError:
                    try: os.close(file)
                    except OSError: pass
                    raise
                os.close(file)
                for i in set(touched): self.say("record", self.records, i, self.versions[i])

            def replace(self):
                self.put(f"{here}/tmp-{self.n}", current(self.n), sync=True)
                os.rename(f"{here}/tmp-{self.n}", f"{here}/current")
                self.say("current", self.n)

            def remove(self):
                if not self.known: return
                name = self.known.pop(self.random.randrange(len(self.known)))
                self.say("removing", name)
                os.unlink(f"{here}/{name}")
                self.say("removed", name)

            def move(self):
                a, b = f"dir-{self.n}", f"moved-{self.n}"
                os.mkdir(f"{here}/{a}")
                for i in range(4): self.put(f"{here}/{a}/{i}", data(a, i, 1000))
                self.say("moving", a, b)
                os.rename(f"{here}/{a}", f"{here}/{b}")
                self.say("moved", a, b)

            def run(self):
                steps = [self.new] * 4 + [self.append] * 4 + [self.overwrite] * 3 + [self.replace] * 2 + [self.remove, self.move]
                while not os.path.exists(self.stop):
                    self.n += 1
                    step = self.random.choice(steps)
                    try:
                        step()
                    except OSError as error:
                        self.say("error", step.__name__, f"{error}")
                        if self.append_file is not None:
                            try: os.close(self.append_file)
                            except OSError: pass
                            self.append_file = None
                        time.sleep(0.02)
                try:
                    if self.append_file is not None: os.close(self.append_file)
                except OSError as error: self.say("error", "close", f"{error}")

        def check():
            files, removing, moves, found = {}, {}, {}, []
            records, appended, newest = {}, {}, None
            for line in open(log_name):
                kind, *words = line.split()
                if kind == "new": files[words[0]] = int(words[1])
                elif kind == "removing": removing[words[0]] = False
                elif kind == "removed": removing[words[0]] = True
                elif kind == "append": appended[words[0]] = int(words[1])
                elif kind == "records": records[words[0]] = [0] * RECORDS
                elif kind == "record": records[words[0]][int(words[1])] = int(words[2])
                elif kind == "current": newest = int(words[0])
                elif kind in ("moving", "moved"): moves[tuple(words)] = kind == "moved"
            def read(name):
                try: return open(f"{here}/{name}", "rb").read()
                except FileNotFoundError: return None
                except OSError as error: return f"{error}".encode()
            def expect(condition, *what):
                if not condition: found.append(" ".join(map(str, what)))
            def size(bytes): return "absent" if bytes is None else f"{len(bytes)} bytes"
            for name, length in files.items():
                bytes = read(name)
                if removing.get(name): expect(bytes is None, name, "was removed and is there")
                elif bytes is not None or name not in removing:
                    expect(bytes == data(name, 0, length), name, "was acknowledged with", length, "bytes and is", size(bytes))
            for name, count in appended.items():
                bytes, whole = read(name), b"".join(piece(name, n) for n in range(count))
                expect(bytes is not None and bytes.startswith(whole), name, "has", count, "acknowledged appends of",
                       len(whole), "bytes and is", size(bytes))
            for name, versions in records.items():
                bytes = read(name) or b""
                expect(len(bytes) == RECORD * RECORDS, name, "has the size", len(bytes))
                for i, version in enumerate(versions):
                    part = bytes[i * RECORD:(i + 1) * RECORD]
                    try: got = int(part.split(b" ", 2)[1])
                    except (IndexError, ValueError): got = -1
                    expect(got >= version and part == record(i, got), name, "record", i, "is version", got, "not", version)
            if newest is not None:
                bytes = read("current") or b""
                try: got = int(bytes.split(b" ", 1)[0])
                except ValueError: got = -1
                expect(got >= newest and bytes == current(got), "current is", got, size(bytes), "not", newest)
            for (a, b), done in moves.items():
                at = [[read(f"{name}/{i}") == data(a, i, 1000) for i in range(4)] for name in (a, b)]
                expect(all(at[1]) and not any(at[0]) or not done and all(at[0]) and not any(at[1]),
                       a, "to", b, "was moved" if done else "was being moved", "and is", at)
            counted = len(files) + len(appended) + len(records) + len(moves) + (newest is not None)
            print("\n".join(found) if found else f"all of {counted} right")
            sys.exit(1 if found else 0)

        check() if mode == "check" else Writer(sys.argv[6]).run()
        """#
}
