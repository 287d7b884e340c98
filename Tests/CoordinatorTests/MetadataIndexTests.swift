import Glibc
import Logging
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import Coordinator

@Suite struct InodeRecordTests {
    private func record() -> InodeRecord {
        var record = InodeRecord(
            mount: 7, parent: 42, name: "na\u{0}me",
            attributes: ObjectAttributes(
                kind: .file, size: 1 << 40, version: ObjectVersion("\"etag\""),
                modified: FileTime(seconds: -5, nanoseconds: 999_999_999), accessed: FileTime(seconds: 1),
                permissions: 0o640, uid: 1000, gid: 1001, links: 3, blocks: 8, isPartial: true),
            expiry: .max)
        record.listedUntil = 1
        record.listing = 2
        record.changedAt = 3
        return record
    }

    @Test func whatIsWrittenIsRead() {
        let record = record()
        #expect(record.encoded().withUnsafeBytes { InodeRecord(encoded: $0) } == record)
    }

    @Test func everyTruncationAndAnyTrailingByteIsRefused() {
        let bytes = record().encoded()
        for count in 0..<bytes.count {
            #expect(bytes.prefix(count).withUnsafeBytes { InodeRecord(encoded: $0) } == nil, "cut to \(count)")
        }
        #expect((bytes + [0]).withUnsafeBytes { InodeRecord(encoded: $0) } == nil)
    }

    @Test func randomBytesNeverTrap() {
        var generator = SeededGenerator(seed: 11)
        let valid = record().encoded()
        for _ in 0..<20_000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if let decoded = bytes.withUnsafeBytes({ InodeRecord(encoded: $0) }) {
                #expect(decoded.encoded() == bytes, "what is accepted is exactly what would be written")
            }
        }
    }
}

@Suite struct MetadataIndexTests {
    private func withDirectory(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/larder-index-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        let path = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        defer {
            unlink(path + "/metadata.lmdb")
            unlink(path + "/metadata.lmdb-lock")
            rmdir(path)
        }
        try body(path)
    }

    private var logger: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    private func fill(_ index: MetadataIndex) -> UInt64 {
        index.update { transaction in
            let inode = transaction.allocateInode()
            transaction.setRecord(
                inode,
                InodeRecord(
                    mount: 1, parent: 0, name: "", attributes: ObjectAttributes(kind: .directory, modified: .now()),
                    expiry: 5))
            return inode
        }
    }

    @Test func itLivesThroughARestartInOneBootOnly() throws {
        try withDirectory { path in
            let inode: UInt64
            do {
                let index = try MetadataIndex(directory: path, bootIdentifier: "one", logger: logger)
                inode = fill(index)
            }
            do {
                let again = try MetadataIndex(directory: path, bootIdentifier: "one", logger: logger)
                #expect(again.record(inode)?.mount == 1)
                #expect(fill(again) == inode + 1, "numbers go on where they stopped")
            }
            let rebooted = try MetadataIndex(directory: path, bootIdentifier: "two", logger: logger)
            #expect(rebooted.record(inode) == nil)
        }
    }

    @Test func aDamagedFileIsBegunAnew() throws {
        try withDirectory { path in
            let garbage = try Descriptor.open(path + "/metadata.lmdb", O_RDWR | O_CREAT)
            try [UInt8](repeating: 0x5A, count: 100_000).withUnsafeBytes { try garbage.write($0, at: 0) }
            let index = try MetadataIndex(directory: path, bootIdentifier: "one", logger: logger)
            let inode = fill(index)
            #expect(index.record(inode) != nil)
        }
    }

    @Test func aSweepKeepsExactlyWhatTheListingShowed() throws {
        try withDirectory { path in
            let index = try MetadataIndex(directory: path, bootIdentifier: "one", logger: logger)
            let parent = fill(index)
            index.update { transaction in
                for number in 0..<100 {
                    let inode = transaction.allocateInode()
                    let name = ByteString("n\(number)")
                    transaction.setRecord(
                        inode,
                        InodeRecord(
                            mount: 1, parent: parent, name: name,
                            attributes: ObjectAttributes(kind: .file, modified: .now()), expiry: 5))
                    transaction.setChild(parent, name, inode: inode, listing: number % 3 == 0 ? 8 : 9)
                }
                transaction.setAbsent(parent, "absent", until: 1)
            }
            var cursor: ByteString?
            var removed: [ByteString] = []
            repeat {
                let step = index.update { transaction in
                    transaction.sweep(parent, after: cursor, limit: 7) {
                        $0.listing == 9 ? .shown : .unknown { _, _ in false }
                    }
                }
                cursor = step.last
                removed += step.removed
            } while cursor != nil
            let unseen = (0..<100).filter { $0 % 3 == 0 }.map { ByteString("n\($0)") }
            #expect(Set(removed) == Set(unseen).union(["absent"]))
            #expect(index.children(of: parent, after: nil, limit: 1000).count == 66)
            let absent = index.child(of: parent, named: "absent")
            #expect(absent == nil, "what no listing showed is forgotten, absence too")
        }
    }
}
