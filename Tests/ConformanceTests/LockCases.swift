import Glibc
import Platform
import TestSupport

extension ConformanceCase {
    static let locking: [ConformanceCase] = [
        ConformanceCase("flock is exclusive or shared between opens of a file, and goes with the last close") { s in
            try s.need("make", s.at.make("f"))
            let first = Lock(s.at.open("f", O_RDWR).file)
            let second = try s.require("a descriptor", s.at.open("f", O_RDONLY).file)
            func lock(_ operation: CInt) -> CInt { failure { flock(second.raw, operation | LOCK_NB) } }
            s.ok("exclusive", failure { flock(first.withLock { $0 }?.raw ?? -1, LOCK_EX) })
            s.expect("exclusive against exclusive", EWOULDBLOCK, lock(LOCK_EX))
            s.expect("shared against exclusive", EWOULDBLOCK, lock(LOCK_SH))
            s.ok("exclusive to shared", failure { flock(first.withLock { $0 }?.raw ?? -1, LOCK_SH) })
            s.ok("shared beside shared", lock(LOCK_SH))
            s.expect("exclusive against shared", EWOULDBLOCK, lock(LOCK_EX))
            // A failed conversion may have lost the lock that was there (flock(2)).
            first.withLock { $0 = nil }
            s.ok("exclusive after the other was closed", lock(LOCK_EX))
            s.ok("unlock", failure { flock(second.raw, LOCK_UN) })
        },
        ConformanceCase("a waiting flock gets the lock when it is given up") { s in
            try s.need("make", s.at.make("f"))
            let at = s.at
            let holder = try s.require("a descriptor", s.at.open("f", O_RDWR).file)
            try s.need("lock", failure { flock(holder.raw, LOCK_EX) })
            let waiting = inBackground { () -> CInt in
                guard let file = at.open("f", O_RDWR).file else { return EIO }
                return failure { flock(file.raw, LOCK_EX) }
            }
            s.ok("unlock", failure { flock(holder.raw, LOCK_UN) })
            s.ok("the lock of the other", waiting())
        },
        ConformanceCase("ranges locked through one open file keep others out, and only there") { s in
            try s.need("make", s.at.make("f", String(repeating: "x", count: 100)))
            let first = try s.require("a descriptor", s.at.open("f", O_RDWR).file)
            let second = try s.require("another", s.at.open("f", O_RDWR).file)
            s.ok("a write lock of 10…19", RangeLock.set(first, F_WRLCK, 10, 10))
            s.expect("the same for another", anyOf: [EAGAIN, EACCES], RangeLock.set(second, F_WRLCK, 15, 1))
            s.expect("a read lock over it", anyOf: [EAGAIN, EACCES], RangeLock.set(second, F_RDLCK, 0, 0))
            s.ok("a write lock beside it", RangeLock.set(second, F_WRLCK, 20, 10))
            s.equal("what holds it", RangeLock.holder(second, F_WRLCK, 0, 20)?.start, 10)
            s.ok("a read lock instead", RangeLock.set(first, F_RDLCK, 10, 10))
            s.ok("a read lock beside a read lock", RangeLock.set(second, F_RDLCK, 10, 10))
            s.ok("unlocking a part", RangeLock.set(first, F_UNLCK, 10, 5))
            s.ok("unlocking a part of the other", RangeLock.set(second, F_UNLCK, 10, 10))
            s.ok("a write lock of that part", RangeLock.set(second, F_WRLCK, 10, 5))
            s.expect("of the other part", anyOf: [EAGAIN, EACCES], RangeLock.set(second, F_WRLCK, 15, 5))
            s.ok("beyond the end of the file", RangeLock.set(second, F_WRLCK, 1 << 40, 1))
            let reader = try s.require("a reader", s.at.open("f", O_RDONLY).file)
            s.expect("a write lock by a reader", EBADF, RangeLock.set(reader, F_WRLCK, 50, 1))
        },
        ConformanceCase(
            "a lock of a process keeps other processes out until it is given up or any descriptor is closed"
        ) { s in
            try s.need("make", s.at.make("f", "bytes"))
            let path = s.at.path("f")
            let file = try s.require("a descriptor", s.at.open("f", O_RDWR).file)
            func another(_ call: String) -> Int32 {
                let program =
                    "import fcntl,sys\nf=open(sys.argv[1],'r+')\n"
                    + "try:\n \(call)\nexcept OSError as e:\n sys.exit(e.errno)"
                guard let python = try? TestTools.path("python3"),
                    let pid = try? ChildProcess.start(
                        python, arguments: ["python3", "-c", program, path], environment: [:], descriptors: .init(),
                        newSession: false)
                else { return -1 }
                return ChildProcess.wait(for: pid)
            }
            let lock = "fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,10,0)"
            let beside = "fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,10,50)"
            let whole = "fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)"
            s.expect("before", 0, another(lock))
            s.ok("a lock of this process", RangeLock.setForProcess(file, F_WRLCK, 0, 10))
            s.expect("another process", anyOf: [EAGAIN, EACCES], another(lock))
            s.expect("another process, beside it", 0, another(beside))
            s.ok("unlock", RangeLock.setForProcess(file, F_UNLCK, 0, 10))
            s.expect("another process then", 0, another(lock))
            s.ok("a lock of this process again", RangeLock.setForProcess(file, F_WRLCK, 0, 10))
            _ = s.at.openError("f", O_RDONLY)  // opened and closed
            s.expect("another process after any close", 0, another(lock))
            s.ok("flock", failure { flock(file.raw, LOCK_EX) })
            s.expect("flock of another process", EWOULDBLOCK, another(whole))
            s.ok("flock given up", failure { flock(file.raw, LOCK_UN) })
            s.expect("flock of another process then", 0, another(whole))
        },
    ]
}

private enum RangeLock {
    // Linux's locks of open files (fcntl(2)); of processes, all threads of this one would be the same owner.
    private static let (getOpenFile, setOpenFile): (CInt, CInt) = (36, 37)

    static func set(_ file: Descriptor, _ type: CInt, _ start: Int, _ length: Int) -> CInt {
        var lock = description(type, start, length)
        return failure { fcntl(file.raw, setOpenFile, &lock) }
    }

    static func setForProcess(_ file: Descriptor, _ type: CInt, _ start: Int, _ length: Int) -> CInt {
        var lock = description(type, start, length)
        return failure { fcntl(file.raw, F_SETLK, &lock) }
    }

    /// The lock that would be in the way.
    static func holder(_ file: Descriptor, _ type: CInt, _ start: Int, _ length: Int) -> (type: CInt, start: Int)? {
        var lock = description(type, start, length)
        guard fcntl(file.raw, getOpenFile, &lock) == 0, CInt(lock.l_type) != F_UNLCK else { return nil }
        return (CInt(lock.l_type), Int(lock.l_start))
    }

    private static func description(_ type: CInt, _ start: Int, _ length: Int) -> flock {
        flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: start, l_len: length, l_pid: 0)
    }
}
