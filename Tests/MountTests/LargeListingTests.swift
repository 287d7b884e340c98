import Foundation
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

/// A bucket with a directory `d` of very many objects that nobody keeps: each page of its listing is made when it is
/// asked for. The second half of the pages waits for `gate`.
private final class EndlessBucket: Sendable {
    /// `$LARDER_LISTED_OBJECTS` of them; a debug build takes more than a minute for a million.
    static let pages = (getenv("LARDER_LISTED_OBJECTS").flatMap { Int(String(cString: $0)) } ?? 200_000) / keysPerPage
    static let keysPerPage = 1000
    static let gated = pages / 2

    let server: FaultyServer
    let gate: OneShot<Bool>

    init() throws {
        let gate = OneShot<Bool>()
        self.gate = gate
        server = try FaultyServer { request in
            guard request.isListing else { return .error(404, "NoSuchKey") }
            // The root of the bucket, and the question whether there is a directory.
            guard request.target.contains("prefix=d%2F") || request.target.contains("prefix=d/") else {
                return .answer(200, body: Self.document("<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"))
            }
            if request.target.contains("max-keys=1&") || request.target.hasSuffix("max-keys=1") {
                return .answer(200, body: Self.document(Self.contents(0..<1)))
            }
            let page = Self.token(of: request.target) ?? 0
            if page >= Self.gated { _ = Self.blockingWait(gate) }
            let start = page * Self.keysPerPage
            let next = page + 1 < Self.pages ? page + 1 : nil
            return .answer(200, body: Self.document(Self.contents(start..<start + Self.keysPerPage), next: next))
        }
    }

    deinit { gate.set(true) }

    /// Pages of the directory that were asked for.
    var pagesAsked: Int { server.requests.count { $0.isListing && !$0.target.contains("max-keys=1&") } }

    static func name(_ index: Int) -> String {
        let digits = String(index)
        return "object-" + String(repeating: "0", count: 7 - digits.utf8.count) + digits
    }

    private static func token(of target: String) -> Int? {
        guard let start = target.range(of: "continuation-token=")?.upperBound else { return nil }
        return Int(target[start...].prefix { $0.isNumber })
    }

    private static func contents(_ range: Range<Int>) -> String {
        range.map { index in
            "<Contents><Key>d/\(name(index))</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                + "<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>\(index)</Size></Contents>"
        }.joined()
    }

    private static func document(_ content: String, next: Int? = nil) -> [UInt8] {
        let token = next.map { "<NextContinuationToken>\($0)</NextContinuationToken>" } ?? ""
        return Array(
            ("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><IsTruncated>\(next != nil)</IsTruncated>"
                + "\(token)\(content)</ListBucketResult>").utf8)
    }

    private static func blockingWait(_ gate: OneShot<Bool>) -> Bool? { gate.wait() }
}

@Suite struct LargeListingTests {
    /// Both processes together, with what they have mapped of the index: as for a million known files.
    private static let bound = 300 << 20

    @Test func aHugeDirectoryIsListedAsItComesInBoundedMemory() async throws {
        try await withNode(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]) { node in
            let bucket = try EndlessBucket()
            defer { bucket.gate.set(true) }
            let mount = try await node.mount(
                "s3://bucket", "--endpoint", bucket.server.endpoint, "--metadata-ttl", "1h")
            let begin = ContinuousClock.now
            let reader = try await onThread {
                let reader = DirectoryReader(try Descriptor.open("\(mount)/d", O_RDONLY | O_DIRECTORY))
                let first = try reader.next()
                #expect(first.map { $0.description } == EndlessBucket.name(0))
                return Box(reader)
            }
            let early = bucket.pagesAsked
            #expect(early <= EndlessBucket.gated + 1, "the first names came only after \(early) pages")
            bucket.gate.set(true)
            let (seen, twice, foreign) = try await onThread {
                var seen = [Bool](repeating: false, count: EndlessBucket.pages * EndlessBucket.keysPerPage)
                seen[0] = true
                var (count, twice, foreign) = (1, 0, 0)
                while let name = try reader.value.next() {
                    guard name.hasPrefix("object-"), let index = Int(name.description.dropFirst(7)),
                        seen.indices.contains(index)
                    else {
                        foreign += 1
                        continue
                    }
                    if seen[index] { twice += 1 }
                    seen[index] = true
                    count += 1
                }
                return (count, twice, foreign)
            }
            #expect(seen == EndlessBucket.pages * EndlessBucket.keysPerPage && twice == 0 && foreign == 0)
            #expect(bucket.pagesAsked >= EndlessBucket.pages)
            let status = try await node.status()
            let peaks = try [status.coordinator.pid, try #require(status.mounts.first).pid].map(Self.peakMemory)
            print(
                "\(seen) names in \(ContinuousClock.now - begin), \(early) pages asked for at the first name; peak RSS:"
                    + " coordinator \(peaks[0] >> 20) MiB, mount \(peaks[1] >> 20) MiB")
            #expect(peaks.reduce(0, +) <= Self.bound)
        }
    }

    /// VmHWM (proc(5)), in bytes.
    private static func peakMemory(of pid: Int32) throws -> Int {
        let status = try #require(Machine.contents(of: "/proc/\(pid)/status"))
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        return try #require(Int(line.split(separator: " ")[1])) << 10
    }

    /// Used by one thread after the other.
    private struct Box: @unchecked Sendable {
        let value: DirectoryReader
        init(_ value: DirectoryReader) { self.value = value }
    }
}
