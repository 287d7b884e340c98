import Glibc
import LMDB
import Logging
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import BlockCaching
@testable import Coordinator

@Suite struct JournalTests {
    /// A journal in a directory of its own.
    private final class Bench {
        let path: String
        private(set) var journal: Journal

        init() throws {
            var template = Array("/tmp/larder-journal-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
            path = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            journal = try Self.open(path)
        }

        deinit {
            journal.close()
            for name in (try? TierDirectory.names(in: path)) ?? [] { unlink("\(path)/\(name)") }
            rmdir(path)
        }

        private static func open(_ path: String) throws -> Journal {
            var logger = Logger(label: "test")
            logger.logLevel = .critical
            return try Journal(directory: path, bootIdentifier: "boot", logger: logger)
        }

        func reopen() throws {
            journal.close()
            journal = try Self.open(path)
        }
    }

    @Test func renamesAreThereAfterAKillUntilTheyAreDone() throws {
        let bench = try Bench()
        let first = RenameRecord(
            number: try bench.journal.nextNumber(), store: StoreIdentity("s3://b"), source: "a/b", destination: "c",
            isTree: true, sourceVersion: nil, phase: .copying, condition: .absent)
        var second = first
        second.number = try bench.journal.nextNumber()
        second.sourceVersion = ObjectVersion("v1")
        second.condition = .version(ObjectVersion("v2"))
        try bench.journal.put(first)
        try bench.journal.put(second)
        second.phase = .removing
        try bench.journal.put(second)
        try bench.reopen()
        #expect(try bench.journal.unfinishedRenames() == [first, second])
        try bench.journal.removeRename(first.number)
        #expect(try bench.journal.unfinishedRenames() == [second])
    }

    @Test func numbersAreNeverGivenTwiceAlsoAcrossKills() throws {
        let bench = try Bench()
        var seen: Set<UInt64> = []
        for _ in 0..<3 {
            for _ in 0..<1500 { #expect(seen.insert(try bench.journal.nextNumber()).inserted) }
            try bench.reopen()
        }
    }

    @Test func theAnswersOfTheNewestOperationsOfEachClientAreKept() throws {
        let bench = try Bench()
        let (one, two) = (ByteString(pattern(16)), ByteString(pattern(16, seed: 2)))
        let kept = Journal.operationsPerClient
        for operation in 1...UInt64(kept + 100) {
            try bench.journal.note([UInt8(operation % 256)], of: operation, by: one)
        }
        try bench.journal.note([9, 9], of: 1, by: two)
        try bench.reopen()
        #expect(try bench.journal.result(of: 1, by: two) == [9, 9])
        #expect(try bench.journal.result(of: 100, by: one) == nil)
        #expect(try bench.journal.result(of: 101, by: one) == [101])
        #expect(try bench.journal.result(of: UInt64(kept + 100), by: one) == [UInt8((kept + 100) % 256)])
        #expect(try bench.journal.result(of: UInt64(kept + 101), by: one) == nil)
        #expect(try Set(bench.journal.operationClients()) == [one, two])
        try bench.journal.forgetOperations(of: one)
        #expect(try bench.journal.operationClients() == [two])
        #expect(try bench.journal.result(of: 101, by: one) == nil)
        #expect(try bench.journal.result(of: 1, by: two) == [9, 9])
    }

    @Test func everyFieldOfAStagedFileSurvives() throws {
        let bench = try Bench()
        var metadata = WrittenMetadata()
        metadata.mode = 0o100644
        metadata.uid = 1
        metadata.modified = FileTime(seconds: -5, nanoseconds: 7)
        metadata.extendedAttributes = ["a": ByteString(pattern(70_000)), "b": ""]
        metadata.contentType = "text/plain"
        metadata.preserved = ["x-amz-meta-k": "v"]
        let print = ContentPrint(parts: [Fingerprint(crc32c: 1, crc64: 2, length: 3)])
        let record = StagedRecord(
            store: "s3://b", path: "p\n/\u{e4}", base: .version(ObjectVersion("e")), metadata: metadata,
            hasNewMetadata: true, writeType: .asyncThrough, tier: 3, inode: 4,
            state: .conflict(reason: "why", time: FileTime(seconds: 1)), created: FileTime(seconds: 2),
            snapshot: FileSnapshot(
                size: 1, modified: FileTime(seconds: 3), changed: FileTime(seconds: 4), isYoung: true),
            content: print, attempts: [print], upload: UploadID("u"), uploadMetadata: WrittenMetadata(),
            lastError: "down")
        try bench.journal.put(record, number: 12)
        let part = StagedPart(
            print: Fingerprint(crc32c: 4, crc64: 5, length: 6),
            part: UploadedPart(number: 9, tag: "t", size: 6, checksum: nil))
        try bench.journal.put(part, of: 12)
        try bench.journal.put(part, of: 13)
        try bench.reopen()
        #expect(try bench.journal.stagedRecords().map(\.record) == [record])
        #expect(try bench.journal.stagedParts(of: 12) == [9: part])
        try bench.journal.removeStaged(12)
        #expect(try bench.journal.stagedRecords().isEmpty && bench.journal.stagedParts(of: 12).isEmpty)
        #expect(try bench.journal.stagedParts(of: 13) == [9: part])
    }

    @Test func aDamagedRenameIsSetAsideAndReported() throws {
        let bench = try Bench()
        let journal = bench.journal
        try journal.environment().write { (transaction) throws(LMDBError) in
            try transaction.put(journal.renames, Journal.key(5), [0xFF, 1])
            try transaction.put(journal.renames, [1, 2], [0xFF, 1])
        }
        #expect(try journal.unfinishedRenames().isEmpty)
        #expect(journal.reports == ["a damaged record of a rename in the journal was set aside"])
        try bench.reopen()
        #expect(try bench.journal.unfinishedRenames().isEmpty && bench.journal.reports.isEmpty)
    }

    @Test func aClosedJournalFailsAndDoesNotCrash() throws {
        let bench = try Bench()
        let journal = bench.journal
        journal.close()
        #expect(throws: LMDBError.self) { try journal.unfinishedRenames() }
        #expect(throws: LMDBError.self) { try journal.synchronize() }
        try bench.reopen()
    }
}
