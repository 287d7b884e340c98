/// Programs that use a mount without a pause until a file appears, and end with an error at the first call that fails, or the first
/// byte that is wrong.
enum SteadyPrograms {
    /// Each reads, writes or locks in its own way; `arguments` are the mount point and the file that ends it.
    static let names = ["read", "map", "write", "append", "list", "lock", "names", "attributes"]

    /// Where the programs find `steady.bin` of `size` bytes and the directory `many` of `entries` files.
    static let size = 9 << 20
    static let entries = 3000

    static let program = #"""
        import errno, fcntl, hashlib, mmap, os, random, sys, time
        kind, mount, stop = sys.argv[1:4]
        random.seed(kind)
        rounds = 0
        def going():
            global rounds
            rounds += 1
            return not os.path.exists(stop)
        def byte(offset): return (offset * 31 + (offset >> 8)) & 0xff
        def pattern(offset, count): return bytes(byte(i) for i in range(offset, offset + count))
        size = os.path.getsize(mount + "/steady.bin")

        def read():
            held = os.open(mount + "/steady.bin", os.O_RDONLY)
            while going():
                file = held if rounds % 3 else os.open(mount + "/steady.bin", os.O_RDONLY)
                offset = random.randrange(size - 4096)
                assert os.pread(file, 4096, offset) == pattern(offset, 4096), offset
                if file != held: os.close(file)

        def map():
            with open(mount + "/steady.bin", "rb") as file:
                while going():
                    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                        offset = random.randrange(size - 100)
                        assert view[offset:offset + 100] == pattern(offset, 100), offset

        def write():
            data = bytearray()
            file = os.open(mount + "/written", os.O_RDWR | os.O_CREAT)
            while going():
                part = random.randbytes(random.randrange(1, 200000))
                if random.random() < 0.5 and len(data) > len(part):
                    offset = random.randrange(len(data) - len(part))
                else:
                    offset = len(data) if len(data) < (64 << 20) else 0
                assert os.pwrite(file, part, offset) == len(part)
                data[offset:offset + len(part)] = part
                offset = random.randrange(len(data))
                assert os.pread(file, 50000, offset) == data[offset:offset + 50000], offset
                if rounds % 40 == 0: os.fsync(file)
                if rounds % 60 == 0:
                    os.close(file)
                    file = os.open(mount + "/written", os.O_RDWR)
            assert os.fstat(file).st_size == len(data)
            os.close(file)
            assert open(mount + "/written", "rb").read() == data

        def append():
            file = os.open(mount + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            count = 0
            while going():
                line = b"%09d\n" % count * (1 if rounds % 7 else 2000)
                assert os.write(file, line) == len(line)
                count += 1
            os.close(file)
            lines = open(mount + "/log", "rb").read().split(b"\n")[:-1]
            wanted = []
            for index in range(count): wanted += [b"%09d" % index] * (1 if (index + 1) % 7 else 2000)
            assert len(lines) == len(wanted), (len(lines), len(wanted))
            assert lines == wanted

        def list():
            wanted = {"f%d" % index for index in range(len(os.listdir(mount + "/many")))}
            while going():
                seen = []
                with os.scandir(mount + "/many") as entries:
                    for entry in entries:
                        seen.append(entry.name)
                        if len(seen) % 500 == 0: time.sleep(0.01)
                assert len(seen) == len(wanted) and set(seen) == wanted, (len(seen), len(set(seen)), len(wanted))

        def lock():
            whole = open(mount + "/locked", "w")
            fcntl.flock(whole, fcntl.LOCK_EX)
            part = open(mount + "/locked-part", "w")
            fcntl.lockf(part, fcntl.LOCK_EX, 10, 20)
            while going():
                child = os.fork()
                if child == 0:
                    for name, take in (
                        ("/locked", lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)),
                        ("/locked-part", lambda file: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25)),
                    ):
                        with open(mount + name, "r+") as file:
                            try: take(file)
                            except BlockingIOError: continue
                            os._exit(1)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0, "a lock was lost"
            fcntl.flock(whole, fcntl.LOCK_UN)
            other = open(mount + "/locked", "r+")
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def names():
            os.mkdir(mount + "/names")
            while going():
                path = mount + "/names/%d" % rounds
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                os.rename(path, path + ".new")
                os.mkdir(path)
                os.rmdir(path)
                assert sorted(os.listdir(mount + "/names")) == ["%d.new" % rounds], os.listdir(mount + "/names")
                os.unlink(path + ".new")
                assert not os.path.exists(path + ".new")
            os.rmdir(mount + "/names")

        def attributes():
            path = mount + "/attributes"
            file = os.open(path, os.O_RDWR | os.O_CREAT)
            os.write(file, b"x" * 1000)
            while going():
                mode = 0o600 | random.randrange(0o100)
                os.chmod(path, mode)
                assert os.stat(path).st_mode & 0o777 == mode
                os.setxattr(path, "user.n", b"%d" % rounds, 0)
                assert os.getxattr(path, "user.n") == b"%d" % rounds
                length = random.randrange(5000)
                os.ftruncate(file, length)
                assert os.fstat(file).st_size == length
                os.utime(path, (rounds, rounds))
                assert os.stat(path).st_mtime == rounds

        try:
            globals()[kind]()
        except BaseException as error:
            import traceback
            traceback.print_exc()
            print("%s failed in round %d: %r" % (kind, rounds, error))
            sys.exit(1)
        print("%s: %d rounds" % (kind, rounds))
        """#
}
