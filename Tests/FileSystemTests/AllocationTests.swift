import AllocationCount
import Glibc
import Platform
import Testing

@testable import FileSystem

@Suite("Allocations")
struct AllocationTests {
    @Test("a cached 4 KiB read allocates nothing", arguments: [FakeGrant.mapped, .whole, .inline, .source])
    func cachedRead(_ grant: FakeGrant) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(grant == .inline ? 64 << 10 : 1 << 20)  // inline bytes come in one message
        let (inode, file) = try coordinator.add("data", bytes, grant)
        try file.fill(0..<UInt64(bytes.count))
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        let (allocations, reads, control) = try await blocking {
            let fileSystem = fixture.fileSystem
            // As a FUSE thread, which has its buffer from its first read on.
            let buffer = UnsafeMutableRawBufferPointer(rebasing: ReadBuffer.current()[..<4096])
            _ = fileSystem.readPresent(open, at: 0, into: buffer)
            let before = allocation_count_of_this_thread()
            var reads = 0
            for index in 0..<1000 {
                let offset = UInt64(index) &* 7919 &* 4096 % UInt64(bytes.count)
                if fileSystem.readPresent(open, at: offset, into: buffer) == 4096 { reads += 1 }
            }
            let after = allocation_count_of_this_thread()
            let control = UnsafeMutableRawPointer.allocate(byteCount: reads, alignment: 16)
            control.deallocate()
            return (after - before, reads, allocation_count_of_this_thread() - after)
        }
        #expect(reads == 1000)
        #expect(control == 1, "the counter should see an allocation")
        #expect(allocations == 0)
    }

    @Test("a 4 KiB write allocates nothing", arguments: [FakeWriteGrant.staged(direct: false, room: 1 << 40), .source])
    func write(_ grant: FakeWriteGrant) async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.grant = grant }
        let (inode, _) = try coordinator.add("data", pattern(1 << 20), .source)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode, flags: O_RDWR)
        let (allocations, writes) = try await blocking {
            let fileSystem = fixture.fileSystem
            let bytes = UnsafeRawBufferPointer(rebasing: ReadBuffer.current()[..<4096])
            _ = fileSystem.write(open, bytes, at: 0, appends: false)
            let before = allocation_count_of_this_thread()
            var writes = 0
            for index in 0..<1000 {
                if case .written = fileSystem.write(open, bytes, at: UInt64(index) * 4096, appends: false) {
                    writes += 1
                }
            }
            return (allocation_count_of_this_thread() - before, writes)
        }
        #expect(writes == 1000)
        #expect(allocations == 0)
    }
}
