import Glibc
import Platform
import Synchronization
import SystemPackage

/// What a mount's processes know of their session, one after the other: a memory file that outlives each of them.
///
/// The process that serves the mount keeps it up to date as it goes, with stores to memory and no message, and may be killed
/// at any instruction. Its successor maps the same file. What is here and what is not: docs/architecture.md.
package final class SessionMemory: @unchecked Sendable {
    /// Grows when the layout changes: a process does not take over what it cannot read.
    static let format: UInt64 = 1

    /// The file; whoever holds it can hand the session on.
    package let file: Descriptor
    private let region: MappedRegion
    let files, grants, directories, locks, requests: RecordTable
    /// Whether a process served the session before this one.
    package let isTakenOver: Bool

    /// Byte offsets. Of the tables only what was used takes memory.
    private enum Place {
        static let magic = 0
        static let format = 8
        static let generation = 16
        static let client = 24
        static let operations = 40
        static let serials = 48
        static let root = 56
        static let flags = 64
        static let marks = 128
        static let upgradesWanted = 256
        static let upgradesDone = 264
        static let upgradeProgram = 1024
        static let upgradeMessage = 2048
        static let initialization = 4096
        static let tables = 16384
    }
    private static let magic: UInt64 = 0x4c61_7264_6572_5365
    /// As many as the coordinator lends: more open files than a process may have.
    static let fileCapacity = 1 << 17
    static let directoryCapacity = 1 << 14
    private static let sizes: [(size: Int, capacity: Int)] = [
        (OpenFileRecord.size, fileCapacity), (GrantRecord.size, fileCapacity),
        (DirectoryRecord.size, directoryCapacity), (LockRecord.size, 1 << 16), (RequestRecord.size, 1 << 14),
    ]
    private static var length: Int { sizes.reduce(Place.tables) { $0 + $1.size * $1.capacity } }
    package static let initializationCapacity = 8192

    /// A new session.
    package convenience init() throws(Errno) {
        let file = try Descriptor.memory(named: Self.fileName)
        try file.resize(to: UInt64(Self.length))
        try self.init(file: file, isNew: true)
    }

    /// Takes over the session that another process has served. EINVAL: its layout is of another release.
    package convenience init(takingOver file: Descriptor) throws(Errno) {
        guard try file.status().size == UInt64(Self.length) else { throw .invalidArgument }
        try self.init(file: file, isNew: false)
    }

    /// The session that a process holds, to look at or to ask something of it. EPERM, EACCES: another user's. ESRCH: it holds none.
    package convenience init(of pid: Int32) throws(Errno) {
        let directory = "/proc/\(pid)/fd"
        let names = DirectoryReader(try Descriptor.open(directory, O_RDONLY | O_DIRECTORY))
        while let name = try names.next() {
            var target = [CChar](repeating: 0, count: 64)
            let length = readlink("\(directory)/\(name)", &target, target.count)
            let text = String(decoding: target.prefix(max(0, length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard text.hasPrefix("/memfd:\(Self.fileName)") else { continue }
            try self.init(takingOver: try Descriptor.open("\(directory)/\(name)", O_RDWR))
            return
        }
        throw .noSuchProcess
    }

    private static let fileName = "larder-session"

    private init(file: Descriptor, isNew: Bool) throws(Errno) {
        self.file = file
        let region = try MappedRegion(file, count: Self.length, writable: true)
        self.region = region
        let header = region.base
        if isNew {
            var generator = SystemRandomNumberGenerator()
            for index in 0..<16 {
                let byte = UInt8.random(in: .min ... .max, using: &generator)
                header.storeBytes(of: byte, toByteOffset: Place.client + index, as: UInt8.self)
            }
            header.storeBytes(of: Self.format, toByteOffset: Place.format, as: UInt64.self)
            header.storeBytes(of: Self.magic, toByteOffset: Place.magic, as: UInt64.self)
        }
        guard header.load(fromByteOffset: Place.magic, as: UInt64.self) == Self.magic,
            header.load(fromByteOffset: Place.format, as: UInt64.self) == Self.format
        else { throw .invalidArgument }
        var place = Place.tables
        let tables = Self.sizes.enumerated().map { index, table in
            defer { place += table.size * table.capacity }
            return RecordTable(
                at: header + place, mark: header + Place.marks + 8 * index, size: table.size, capacity: table.capacity)
        }
        (files, grants, directories, locks, requests) = (tables[0], tables[1], tables[2], tables[3], tables[4])
        isTakenOver = !isNew && header.load(fromByteOffset: Place.generation, as: UInt64.self) > 0
    }

    private func word(_ place: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (region.base + place).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    // MARK: Words

    /// 16 random bytes that the session's processes have in common: whose operation numbers are whose.
    var client: ByteString { ByteString(UnsafeRawBufferPointer(start: region.base + Place.client, count: 16)) }

    /// How many processes have served the session: 1 for the first.
    package var generation: UInt64 { word(Place.generation).pointee.load(ordering: .acquiring) }

    /// This process serves the session from now on. Once for each process, before it serves.
    package func begin() { word(Place.generation).pointee.add(1, ordering: .acquiringAndReleasing) }

    /// The number of a new operation; 1….
    func nextOperation() -> UInt64 { word(Place.operations).pointee.add(1, ordering: .relaxed).newValue }

    /// Makes a handle's number unlike any other of the session, also of one that had the same record.
    func nextSerial() -> UInt64 { word(Place.serials).pointee.add(1, ordering: .relaxed).newValue }

    /// What the coordinator said of the volume, for a successor that starts before it can ask.
    var root: UInt64 {
        get { word(Place.root).pointee.load(ordering: .relaxed) }
        set { word(Place.root).pointee.store(newValue, ordering: .relaxed) }
    }
    var hasKernelAttributes: Bool {
        get { word(Place.flags).pointee.load(ordering: .relaxed) & 1 != 0 }
        set { word(Place.flags).pointee.store(newValue ? 1 : 0, ordering: .relaxed) }
    }

    // MARK: Upgrades

    /// How often a new program was asked for, and how often that was answered.
    package var upgrades: (wanted: UInt64, done: UInt64) {
        (
            word(Place.upgradesWanted).pointee.load(ordering: .acquiring),
            word(Place.upgradesDone).pointee.load(ordering: .acquiring)
        )
    }

    /// Asks the supervisor, which must then be told by a signal, to go on with another program. Returns the request's number.
    package func askForUpgrade(to program: String) -> UInt64 {
        store(program, at: Place.upgradeProgram)
        return word(Place.upgradesWanted).pointee.add(1, ordering: .acquiringAndReleasing).newValue
    }

    /// The program that was asked for.
    package var upgradeProgram: String { text(at: Place.upgradeProgram) }

    /// Answers all that was asked for so far; an empty message says that it was done.
    package func answerUpgrade(_ wanted: UInt64, _ failure: String) {
        store(failure, at: Place.upgradeMessage)
        word(Place.upgradesDone).pointee.store(wanted, ordering: .releasing)
    }

    package var upgradeFailure: String { text(at: Place.upgradeMessage) }

    private static let textCapacity = 1000

    private func store(_ text: String, at place: Int) {
        let bytes = Array(text.utf8.prefix(Self.textCapacity))
        region.base.storeBytes(of: UInt32(bytes.count), toByteOffset: place, as: UInt32.self)
        (region.base + place + 4).copyMemory(from: bytes, byteCount: bytes.count)
    }

    private func text(at place: Int) -> String {
        let count = min(Int(region.base.load(fromByteOffset: place, as: UInt32.self)), Self.textCapacity)
        return String(decoding: UnsafeRawBufferPointer(start: region.base + place + 4, count: count), as: UTF8.self)
    }

    // MARK: The kernel's first request

    /// The kernel's first request: its length in 4 bytes, then its bytes, for `initializationCapacity` bytes in all. Written
    /// once by the first process, and read by each other.
    package var initialization: UnsafeMutableRawPointer { region.base + Place.initialization }

    /// A successor can go on: the kernel's first request is here.
    package var isResumable: Bool { initialization.load(as: UInt32.self) > 0 }
}
