import Glibc
import Platform
import SystemPackage

/// What a thread of a case has for itself: credentials, umask, working directory, mount namespace. By raw system calls:
/// glibc's own would change every thread of the process.
enum ThreadState {
    #if arch(arm64)
    private enum Number { static let setresuid = 147, setresgid = 149, setgroups = 159, unshare = 97 }
    #else
    private enum Number { static let setresuid = 117, setresgid = 119, setgroups = 116, unshare = 272 }
    #endif

    // syscall(2) is variadic, which Swift does not call; integers are passed alike in both forms on these machines.
    private typealias Call = @convention(c) (CLong, CLong, CLong, CLong) -> CLong
    private static let call: Call = {
        guard let symbol = dlsym(nil, "syscall") else { preconditionFailure("no syscall(2) in the C library") }
        return unsafeBitCast(symbol, to: Call.self)
    }()

    /// The thread's own umask, 0, and working directory.
    static func becomeOwn() {
        let fileSystemState = 0x200  // CLONE_FS
        precondition(call(Number.unshare, fileSystemState, 0, 0) == 0, "unshare: \(errno)")
        umask(0)
    }

    /// A mount namespace of its own, which goes with the thread.
    static func becomeOwnMounts() -> CInt { call(Number.unshare, 0x20000, 0, 0) == 0 ? 0 : errno }  // CLONE_NEWNS

    /// Lays a read-only mount of a directory over itself, in the mount namespace of this thread alone.
    static func mountReadOnly(_ path: String) -> CInt {
        let (readOnly, remount, bind, recursive, private_): (UInt, UInt, UInt, UInt, UInt) = (
            1, 32, 4096, 16384, 1 << 18
        )
        do throws(Errno) {
            try MountTable.mount("none", at: "/", type: "none", flags: recursive | private_, data: [])
            try MountTable.mount(path, at: path, type: "none", flags: bind, data: [])
            try MountTable.mount("none", at: path, type: "none", flags: remount | bind | readOnly, data: [])
            return 0
        } catch { return error.rawValue }
    }

    /// Gives up root for good.
    static func become(_ user: User) {
        let groups = user.groups.map { gid_t($0) }
        let results = groups.withUnsafeBufferPointer { buffer in
            [
                call(Number.setgroups, buffer.count, Int(bitPattern: buffer.baseAddress), 0),
                call(Number.setresgid, Int(user.gid), Int(user.gid), Int(user.gid)),
                call(Number.setresuid, Int(user.uid), Int(user.uid), Int(user.uid)),
            ]
        }
        precondition(results.allSatisfy { $0 == 0 }, "cannot become uid \(user.uid): \(errno)")
    }
}

/// Users whom nobody on the machine has.
struct User: Sendable {
    var uid: UInt32
    var gid: UInt32
    var groups: [UInt32] = []

    static let alice = User(uid: 61001, gid: 62001)
    static let bob = User(uid: 61002, gid: 62002)
    /// alice, who is also in bob's group.
    static let aliceOfBobs = User(uid: 61001, gid: 62001, groups: [62002])

    /// Runs `body` as this user, on a thread that ends with it; umask and working directory are those of the caller.
    @available(*, noasync, message: "blocks its thread")
    func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Value {
        let result = OneShot<Value>()
        startThread(named: "conformance-as") {
            ThreadState.become(self)
            result.set(body())
        }
        while true { if let value = result.wait() { return value } }
    }
}
