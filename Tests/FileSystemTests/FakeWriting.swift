import CLinux
import Coordination
import Glibc
import Platform
import SystemPackage

/// How the fake coordinator answers an Open for writing.
enum FakeWriteGrant: Sendable {
    /// A staged file, and for how many bytes more there is room at once.
    case staged(direct: Bool, room: UInt64)
    /// A staged file that the kernel writes by itself.
    case stagedBacking
    /// The file itself, in place.
    case source
    case passthrough
}

/// What the fake coordinator is to answer to changes, and what it has been asked.
struct FakeWriting: Sendable {
    var grant = FakeWriteGrant.staged(direct: false, room: 1 << 40)
    /// Answers of these instead of success, by the message's name.
    var failures: [String: Errno] = [:]
    /// Answered once this is set.
    var reserveGate: OneShot<Bool>?
    var commitGate: OneShot<Bool>?
    /// Whether staged files are known again after a reconnect.
    var keepsStaged = true
    var kernelAttributes = false

    struct Staged: Sendable {
        let number: UInt64
        let inode: UInt64
        let file: Descriptor
        var leases: Int
    }
    /// By inode.
    var staged: [UInt64: Staged] = [:]
    var nextStaged: UInt64 = 1
    /// What close and fsync have made lasting, by inode.
    var committed: [UInt64: [UInt8]] = [:]
    var attributes: [UInt64: [ByteString: ByteString]] = [:]
    var modes: [UInt64: UInt32] = [:]
    var owners: [UInt64: (UInt32, UInt32)] = [:]
    var modified: [UInt64: FileTime] = [:]
    var locks: [FakeLock] = []
    var lockWaiters: [LockWaiter] = []
    /// Done, but not answered, the next time; by the message's name.
    var unanswered: Set<String> = []
    /// Operations that were done, by client and number, with their answers.
    var done: [String: WireEnvelope.OneOf_Body] = [:]
}

struct FakeLock: Sendable {
    let session: ObjectIdentifier
    let inode: UInt64
    let lock: WireFileLock

    func conflicts(with other: WireFileLock, of session: ObjectIdentifier, on inode: UInt64) -> Bool {
        guard inode == self.inode, other.wholeFile == lock.wholeFile else { return false }
        guard self.session != session || other.owner != lock.owner else { return false }
        guard other.start <= lock.end, lock.start <= other.end else { return false }
        return other.kind == .exclusive || lock.kind == .exclusive
    }
}

extension Descriptor {
    /// All bytes of the file.
    func contents() throws -> [UInt8] {
        let size = Int(try status().size)
        var bytes = [UInt8](repeating: 0, count: size)
        let count = try bytes.withUnsafeMutableBytes { try read(into: $0, at: 0) }
        return Array(bytes.prefix(count))
    }
}
