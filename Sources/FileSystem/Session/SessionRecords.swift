import Coordination
import Platform

/// An open file of the kernel's.
struct OpenFileRecord: Equatable {
    static let size = 64
    /// As the kernel has it.
    var handle: UInt64
    /// The kernel's request that opened it: when that comes again, the kernel has never heard of the handle.
    var request: UInt64
    /// Its grant's record.
    var grant: UInt32
    /// 0 cached, 1 passthrough, 2 direct, 3 direct beside a backing file.
    var mode: UInt32
    var backingID: Int32
    private var reserved: Int32 = 0

    init(handle: UInt64, request: UInt64, grant: UInt32, mode: KernelMode) {
        (self.handle, self.request, self.grant) = (handle, request, grant)
        switch mode {
        case .cached: (self.mode, backingID) = (0, 0)
        case .passthrough(let id): (self.mode, backingID) = (1, id)
        case .direct: (self.mode, backingID) = (2, 0)
        case .directBeside(let id): (self.mode, backingID) = (3, id)
        }
    }

    func kernelMode(_ content: FileContent) -> KernelMode {
        switch mode {
        case 1: .passthrough(backingID: backingID)
        case 2: .direct
        case 3: .directBeside(backingID: backingID)
        default: .cached(content)
        }
    }
}

/// What an inode was granted: see `OpenInode` and `DataPath`.
struct GrantRecord: Equatable {
    static let size = 320
    static let attributesCapacity = size - 8 - 72

    struct Flags: OptionSet {
        let rawValue: UInt32
        static let writing = Flags(rawValue: 1)
        static let retired = Flags(rawValue: 2)
        static let orphaned = Flags(rawValue: 4)
        static let direct = Flags(rawValue: 8)
        static let keepsCache = Flags(rawValue: 16)
        static let firstPass = Flags(rawValue: 32)
    }

    var inode, lease: UInt64
    /// The coordinator's session that the lease belongs to.
    var session: UInt64
    var staged, size: UInt64
    /// When it was granted, among the session's: the last one is what new opens share.
    var serial: UInt64
    var backingID: Int32
    var kind: UInt32
    var flags: UInt32
    /// Why it can be written no more; 0 while it can.
    var failure: Int32
    var attributesLength: UInt32
    private var reserved: UInt32 = 0

    init(
        inode: UInt64, lease: UInt64, session: UInt64, staged: UInt64, size: UInt64, serial: UInt64, backingID: Int32,
        kind: DataPath.Kind, flags: Flags
    ) {
        (self.inode, self.lease, self.session) = (inode, lease, session)
        (self.staged, self.size, self.serial, self.backingID) = (staged, size, serial, backingID)
        self.kind = UInt32(DataPath.Kind.allCases.firstIndex(of: kind) ?? 0)
        self.flags = flags.rawValue
        failure = 0
        attributesLength = 0
    }

    var dataKind: DataPath.Kind? {
        Int(kind) < DataPath.Kind.allCases.count ? DataPath.Kind.allCases[Int(kind)] : nil
    }

    /// Writes the attributes behind the record that is at `body`.
    mutating func store(_ attributes: WireAttributes, behind body: UnsafeMutableRawPointer) {
        let bytes = attributes.encoded
        guard bytes.count <= Self.attributesCapacity else { return }
        attributesLength = UInt32(bytes.count)
        (body + MemoryLayout<GrantRecord>.size).copyMemory(from: bytes, byteCount: bytes.count)
    }

    func attributes(behind body: UnsafeRawPointer) -> WireAttributes {
        let count = min(Int(attributesLength), Self.attributesCapacity)
        let bytes = UnsafeRawBufferPointer(start: body + MemoryLayout<GrantRecord>.size, count: count)
        return WireAttributes(encoded: bytes)
    }
}

/// An open directory, and where its reader is: the name that the entry of a number has.
struct DirectoryRecord: Equatable {
    /// With two places of a name behind it, so that one is whole at any time.
    static let size = 1024
    var handle, request, inode: UInt64

    /// `number` is 0 when nothing was read yet.
    struct Place: Equatable {
        static let size = 288
        var sequence, number: UInt64
        var length: UInt32
        /// `WireList.Order` of the listing.
        var order: UInt32

        init(sequence: UInt64, number: UInt64, length: UInt32, order: UInt32 = 0) {
            (self.sequence, self.number, self.length, self.order) = (sequence, number, length, order)
        }
    }

    static func place(_ index: Int, of body: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        body + 56 + index * Place.size
    }
}

/// An advisory lock that is held, and the open file through which it was asked for.
struct LockRecord: Equatable {
    static let size = 64
    var inode, owner, start, end: UInt64
    /// 0: none that is known.
    var handle: UInt64
    /// 1 shared, 2 exclusive; 4 of flock(2).
    var kind: UInt32
    var pid: Int32
}

/// A request that changes something and is not answered yet, and its operation number.
struct RequestRecord: Equatable {
    static let size = 32
    var request, operation: UInt64
}
