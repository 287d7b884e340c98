import Platform
import TestSupport
import Testing

@testable import UnderStores

/// What a store enforces is found out, and where it enforces nothing, looks before and after take its place.
@Suite struct WriteConditions {
    private static let wrong = ObjectVersion("\"00000000000000000000000000000000\"")

    @Test func whatMotoEnforcesIsFoundOutOnceForAll() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket)
        #expect(!store.conditions.isKnown)
        let found = try await withThrowingTaskGroup(of: EnforcedConditions.self) { group in
            for _ in 0..<4 { group.addTask { try await store.probeConditions(in: "d") } }
            var all: Set<EnforcedConditions> = []
            for try await found in group { all.insert(found) }
            return all
        }
        let before = store.counters.changeRequests
        #expect(found == [store.conditions] && store.conditions.isKnown)
        #expect(store.conditions.putAbsent && store.conditions.putVersion && store.conditions.completeAbsent)
        _ = try await store.probeConditions(in: "elsewhere")
        #expect(store.counters.changeRequests == before, "it is asked once")
        #expect(try await bucketKeys(store).isEmpty)
    }

    private func bucketKeys(_ store: S3Store) async throws -> [ByteString] {
        let listing = store.keys(under: "")
        var keys: [ByteString] = []
        while let page = try await listing.nextPage() { keys += page.map(\.key) }
        return keys
    }

    @Test func theFirstConditionalWriteFindsOutByItself() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket)
        let first = try await store.put("d/o", uploadBody([1]), .init(), if: .absent)
        #expect(store.conditions == EnforcedConditions(isKnown: true), "the gateway ignores conditions")
        let second = try await caughtStoreError { try await store.put("d/o", uploadBody([2]), .init(), if: .absent) }
        #expect(second.kind == .versionChanged)
        let version = try #require(first.version)
        _ = try await store.put("d/o", uploadBody([3, 4]), .init(), if: .version(version))
        let third = try await caughtStoreError {
            try await store.put("d/o", uploadBody([5]), .init(), if: .version(version))
        }
        #expect(third.kind == .versionChanged)
        #expect(try await store.bytes("d/o", 0..<2) == [3, 4])
        #expect(try await bucketKeys(store) == ["d/o"])
    }

    @Test func anObjectThatIsReplacedInTheWindowIsALostRace() async throws {
        let bucket = ScriptedWrites()
        let server = try FaultyServer { request in
            guard request.method == "PUT" else { return bucket.answer(request) }
            // Ignores the condition, and another writer comes right after.
            bucket.objects.withLock { $0["/lake/o"] = .init(bytes: [9], headers: HTTPHeaders(), tag: "\"other\"") }
            return .answer(200, headers: [("ETag", ScriptedWrites.tag(request.body)), ("Content-Length", "0")])
        }
        var behaviour = S3Behaviour()
        behaviour.conditions.isKnown = true
        let store = try await impatientStore(server).assume(behaviour)
        let made = try await store.put("o", uploadBody([1]), .init(), if: .absent)
        let version = try #require(made.version)
        let error = try await caughtStoreError { _ = try await store.look("o", for: .version(version)) }
        #expect(error.kind == .versionChanged)
        _ = bucket.objects.withLock { $0.removeValue(forKey: "/lake/o") }
        let gone = try await caughtStoreError { _ = try await store.look("o", for: .version(version)) }
        #expect(gone.kind == .notFound, "a removal is told from a replacement")
        #expect(try await store.look("o", for: .absent).condition == .absent)
    }

    @Test func aPutReliesOnALookOfAMomentAgoAndOnNoOther() async throws {
        let bucket = ScriptedWrites()
        let heads = Lock(0)
        let server = try FaultyServer { request in
            if request.method == "HEAD" { heads.withLock { $0 += 1 } }
            // Ignores every condition.
            guard request.method == "PUT" else { return bucket.answer(request) }
            let tag = ScriptedWrites.tag(request.body)
            let path = request.target
            bucket.objects.withLock { $0[path] = .init(bytes: request.body, headers: HTTPHeaders(), tag: tag) }
            return .answer(200, headers: [("ETag", tag), ("Content-Length", "0")])
        }
        var behaviour = S3Behaviour()
        behaviour.conditions.isKnown = true
        let store = try await impatientStore(server).assume(behaviour)
        // As fresh as can be, however slow this machine is.
        let now = UInt64.max / 2
        let fresh = ConditionLook(.absent, asked: now)
        let made = try await store.put("o", uploadBody([1]), .init(), if: .absent, seen: fresh)
        #expect(heads.withLock { $0 } == 0, "the store has been looked at already")
        let other = try await caughtStoreError {
            let look = ConditionLook(.version(Self.wrong), asked: now)
            _ = try await store.put("o", uploadBody([2]), .init(), if: .absent, seen: look)
        }
        #expect(other.kind == .versionChanged, "a look for something else says nothing")
        let old = try await caughtStoreError {
            _ = try await store.put("o", uploadBody([2]), .init(), if: .absent, seen: ConditionLook(.absent, asked: 0))
        }
        #expect(old.kind == .versionChanged && heads.withLock { $0 } == 2, "an old look is asked again")
        _ = try await store.put("o", uploadBody([3]), .init(), if: .version(try #require(made.version)))
        #expect(heads.withLock { $0 } == 3 && bucket.objects.withLock { $0["/lake/o"]?.bytes } == [3])
    }

    @Test func aLookIsGoodForAsLongAsIsPromised() {
        let look = ConditionLook(.absent, asked: 5_000_000_000)
        #expect(look.covers(.absent, at: 6_000_000_000) && !look.covers(.absent, at: 6_000_000_001))
        #expect(look.covers(.absent, at: 0), "clocks of two threads may differ by a little")
        #expect(!look.covers(.none, at: 5_000_000_000) && !look.covers(.version(Self.wrong), at: 5_000_000_000))
    }

    @Test func aStoreThatRefusesARightVersionIsSentNone() async throws {
        // As radosgw 16 does.
        let bucket = ScriptedWrites()
        let server = try FaultyServer { request in
            request.headers["if-match"] != nil && request.method == "PUT"
                ? .error(412, "PreconditionFailed") : bucket.answer(request)
        }
        let store = try impatientStore(server)
        let first = try await store.put("o", uploadBody([1]), .init(), if: .absent)
        #expect(store.conditions.putAbsent && !store.conditions.putVersion)
        let made = try await store.put("o", uploadBody([2, 3]), .init(), if: .version(try #require(first.version)))
        #expect(made.size == 2)
        let error = try await caughtStoreError {
            try await store.put("o", uploadBody([4]), .init(), if: .version(Self.wrong))
        }
        #expect(error.kind == .versionChanged && bucket.objects.withLock { $0["/lake/o"]?.bytes } == [2, 3])
    }

    @Test(arguments: 0..<14)
    func aProbeThatFailsLeavesNothingAndIsAskedAgain(_ failing: Int) async throws {
        let bucket = ScriptedWrites()
        let changes = Lock(0)
        let server = try FaultyServer { request in
            guard request.method != "HEAD", request.method != "DELETE" else { return bucket.answer(request) }
            let index = changes.withLock { count in
                defer { count += 1 }
                return count
            }
            return index == failing ? .error(400, "Strange") : bucket.answer(request)
        }
        let store = try impatientStore(server)
        _ = try? await store.probeConditions(in: "")
        #expect(bucket.objects.withLock { $0.isEmpty })
        _ = try await store.probeConditions(in: "")
        #expect(store.conditions.isKnown && bucket.objects.withLock { $0.isEmpty })
    }

    @Test func whoMayNotMakeObjectsOfOtherNamesIsServedByLooks() async throws {
        let bucket = ScriptedWrites()
        let server = try FaultyServer { request in
            request.target.contains("larder-probe") && request.method == "PUT"
                ? .error(403, "AccessDenied") : bucket.answer(request)
        }
        let store = try impatientStore(server)
        _ = try await store.put("o", uploadBody([1]), .init(), if: .absent)
        #expect(store.conditions == EnforcedConditions(isKnown: true))
        let error = try await caughtStoreError { try await store.put("o", uploadBody([2]), .init(), if: .absent) }
        #expect(error.kind == .versionChanged)
    }
}
