import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem

/// What a process leaves in the session's memory when it is killed, a successor finds: the memory is only ever mapped twice.
@Suite("The session's memory")
struct SessionMemoryTests {
    private func successor(of memory: SessionMemory) throws -> SessionMemory {
        memory.begin()
        return try SessionMemory(takingOver: memory.file)
    }

    @Test("has the same client in each process, and numbers that go on")
    func identity() throws {
        let first = try SessionMemory()
        #expect(!first.isTakenOver)
        let operation = first.nextOperation()
        let second = try successor(of: first)
        #expect(second.isTakenOver)
        #expect(second.client == first.client && first.client.count == 16)
        #expect(try SessionMemory().client != first.client)
        #expect(second.nextOperation() > operation)
    }

    @Test("is not taken over from a file that is none")
    func refused() throws {
        let file = try Descriptor.memory(named: "other")
        #expect(throws: Errno.invalidArgument) { try SessionMemory(takingOver: file) }
        try file.resize(to: try SessionMemory().file.status().size)
        #expect(throws: Errno.invalidArgument) { try SessionMemory(takingOver: file) }
    }

    @Test("keeps records that were published, and gives the others again")
    func records() throws {
        let memory = try SessionMemory()
        let slots = (0..<5).compactMap { _ in memory.requests.take() }
        #expect(Set(slots).count == 5)
        for slot in slots.prefix(3) { memory.requests.publish(slot) }
        memory.requests.release(slots[1])
        let next = try successor(of: memory)
        #expect(Set(next.requests.all()) == [slots[0], slots[2]])
        #expect(Set((0..<3).compactMap { _ in next.requests.take() }) == [slots[1], slots[3], slots[4]])
    }

    @Test("ends where its tables are full")
    func full() throws {
        let memory = try SessionMemory()
        for _ in 0..<SessionMemory.directoryCapacity { #expect(memory.directories.take() != nil) }
        #expect(memory.directories.take() == nil)
        memory.directories.release(7)
        #expect(memory.directories.take() == 7)
    }

    @Test("has an operation's number for a request that comes again, until it is answered")
    func requests() throws {
        let memory = try SessionMemory()
        let log = RequestLog(memory)
        let (first, second) = (log.operation(of: 40), log.operation(of: 42))
        #expect(first != second)
        log.answered(42)
        let next = RequestLog(try successor(of: memory))
        #expect(next.operation(of: 40) == first)
        #expect(next.operation(of: 42) != second)
        // Once more: this one died before it answered.
        let third = RequestLog(try successor(of: memory))
        #expect(third.operation(of: 40) == first)
        third.answered(40)
        #expect(RequestLog(try successor(of: memory)).operation(of: 40) != first)
    }

    @Test("gives up what predecessors may have answered when it is full, the oldest first")
    func oldRequests() throws {
        let memory = try SessionMemory()
        let log = RequestLog(memory)
        var operations: [UInt64: UInt64] = [:]
        var request: UInt64 = 2
        while memory.requests.all().count < 1 << 14 {
            operations[request] = log.operation(of: request)
            request += 2
        }
        let next = RequestLog(try successor(of: memory))
        _ = next.operation(of: request)
        #expect(next.operation(of: request - 2) == operations[request - 2])
        #expect(next.operation(of: 2) != operations[2])
    }

    @Test("has the locks that are held")
    func locks() throws {
        let memory = try SessionMemory()
        let held = HeldLocks(memory)
        var lock = WireFileLock()
        lock.kind = .exclusive
        lock.start = 10
        lock.end = 99
        lock.owner = 5
        lock.pid = 77
        held.note(3, lock, through: 1234)
        lock.kind = .unlocked
        lock.start = 20
        lock.end = 29
        held.note(3, lock, through: 0)
        lock.kind = .shared
        lock.wholeFile = true
        lock.end = .max
        held.note(4, lock, through: 99)
        let next = HeldLocks(try successor(of: memory))
        let sorted = { (locks: HeldLocks) in
            locks.all().sorted { ($0.inode, $0.lock.start) < ($1.inode, $1.lock.start) }
        }
        #expect(sorted(next) == sorted(held))
        #expect(next.all().count == 3)
        #expect(next.owners().first { $0.inode == 3 }?.handle == 1234)
        lock.kind = .unlocked
        next.note(4, lock, through: 0)
        #expect(HeldLocks(try successor(of: memory)).all().count == 2)
    }

    @Test(
        "has the name that a directory's reader was shown last", arguments: ["a", String(repeating: "ä", count: 127)])
    func directory(name: String) throws {
        let memory = try SessionMemory()
        let slot = try #require(memory.directories.take())
        for index in 0...1 {
            DirectoryRecord.place(index, of: memory.directories.body(slot)).storeBytes(
                of: .init(sequence: 0, number: 0, length: 0), as: DirectoryRecord.Place.self)
        }
        let place = DirectoryPlace(memory, slot)
        #expect(place.last() == nil)
        for number in 0..<5 { place.note(UInt64(number), ByteString("\(name)\(number)")) }
        #expect(
            DirectoryPlace(try successor(of: memory), slot).last() == .init(number: 4, name: ByteString("\(name)4")))
    }

    @Test("finds a handle by its number only while it is one")
    func handles() throws {
        final class Thing: Sendable {}
        let table = HandleTable<Thing>(capacity: 16)
        let first = HandleTable<Thing>.number(3, serial: 1)
        let second = HandleTable<Thing>.number(3, serial: 2)
        let thing = Thing()
        table.set(thing, as: first)
        #expect(table.find(first)?.takeUnretainedValue() === thing)
        #expect(table.find(second) == nil && table.find(0) == nil && table.find(.max) == nil)
        #expect(table.take(second) == nil)
        #expect(table.take(first) === thing)
        #expect(table.take(first) == nil && table.find(first) == nil)
    }
}

@Suite("An append that is asked for again")
struct RepeatedAppendTests {
    /// What a file has after `bytes` was asked for at the end of "old", when the predecessor had left `present` behind that.
    private func append(_ bytes: String, after present: String) async throws -> String {
        let coordinator = try FakeCoordinator()
        let link = try await blocking { try coordinator.link(patience: .seconds(1)) }
        defer { link.close() }
        let fileSystem = MountedFileSystem(link: link, logger: quietLogger)
        defer { fileSystem.stop() }
        let file = try Descriptor.memory(named: "append")
        try Array("old\(present)".utf8).withUnsafeBytes { try file.write($0, at: 0) }
        try Array(bytes.utf8).withUnsafeBytes { try fileSystem.appendOnce($0, to: file, from: 3) }
        var all = [UInt8](repeating: 0, count: 100)
        let count = try all.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        return String(decoding: all.prefix(count), as: UTF8.self)
    }

    @Test(
        "is done once",
        arguments: [
            ("new", "", "oldnew"), ("new", "ne", "oldnew"), ("new", "new", "oldnew"),
            // Another mount appended before, after, or instead.
            ("new", "theirnew", "oldtheirnew"), ("new", "newtheir", "oldnewtheir"), ("new", "their", "oldtheirnew"),
            ("new", "x", "oldxnew"),
        ])
    func once(bytes: String, present: String, expected: String) async throws {
        #expect(try await append(bytes, after: present) == expected)
    }
}
