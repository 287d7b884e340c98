import Coordination
import Platform
import SystemPackage
import Testing

@testable import BlockCaching
@testable import Coordinator
@testable import UnderStores

/// Random writers of a few files, over a store that fails now and then, with kills in between; compared with arrays of
/// bytes after every commit and at the end.
@Suite struct StagedModelTests {
    private static let names: [ByteString] = ["a", "b", "dir/c"]
    private static let largest = 600_000

    private struct Model {
        /// What each file holds now, while it is staged.
        var contents: [ByteString: [UInt8]] = [:]
        var open: [ByteString: StagedFile] = [:]
        /// What a close has promised to be in the store, now or later.
        var promised: [ByteString: [UInt8]] = [:]
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64]) func anyStreamOfWritesCommitsAndKillsLosesNothing(
        seed: UInt64
    ) async throws {
        var random = ModelRandom(state: seed)
        let bench = try StagingBench()
        var model = Model()
        for _ in 0..<120 {
            let name = Self.names[random.below(Self.names.count)]
            switch random.below(20) {
            case 0..<9: try await write(name, &model, bench, &random)
            case 9..<11: try await truncate(name, &model, bench, &random)
            case 11..<14: try await commit(name, &model, bench, &random)
            case 14..<17: try await close(name, &model, bench)
            case 17: if let file = model.open[name] { await bench.uploadAhead(file) }
            case 18: try await kill(&model, bench, &random)
            default: plan(bench, &random)
            }
        }
        bench.faults.heal()
        for name in Self.names { try await close(name, &model, bench) }
        let outcome = await bench.service.flush { _ in true }
        #expect(outcome.failures.isEmpty)
        await bench.settle()
        for name in Self.names {
            let difference = difference(bench.object(name), model.promised[name])
            #expect(difference == nil, "\(name) at the end; \(lastCalls(bench, on: name))")
        }
        #expect(bench.service.conflicts.isEmpty && bench.service.pending.isEmpty && bench.stagingFiles.isEmpty)
    }

    /// The kernel moves a file's times before it copies the bytes of a write: a commit in between must not take the times
    /// for a proof.
    @Test func aWriteUnderWayWhileAnotherCommitLooksIsNotTakenForCommitted() async throws {
        let bench = try StagingBench()
        let file = try await bench.service.create(bench.target("a"))
        let (service, descriptor) = (bench.service, try file.descriptor())
        for turn in 1...200 {
            let bytes = [UInt8](repeating: UInt8(turn), count: 400_000)
            async let other = service.commit(file, .background)
            let writing = Task.detached { try bytes.withUnsafeBytes { try descriptor.write($0, at: 0) } }
            try await writing.value
            _ = try? await other
            try await service.commit(file, .close)
            let isRight = bench.object("a") == bytes
            #expect(isRight, "turn \(turn)")
        }
    }

    /// A writer comes back at every moment of the end of what it wrote before.
    @Test func aFileThatIsWrittenAgainWhileItIsFinishedLosesNothing() async throws {
        let bench = try StagingBench()
        for round in 0..<20 {
            let name = ByteString("file \(round)")
            var bytes: [UInt8] = []
            for turn in 0..<30 {
                let file: StagedFile
                if let found = bench.service.files.first(where: { $0.path == name }), bench.service.reopen(found) {
                    file = found
                } else if turn > 0 {
                    file = try await bench.opened(name, type: .asyncThrough)
                } else {
                    file = try await bench.service.create(bench.target(name, type: .asyncThrough))
                }
                try bench.write([UInt8(turn)], to: file, at: UInt64(bytes.count))
                bytes.append(UInt8(turn))
                try await bench.service.commit(file, .close)
                await bench.service.release(file)
            }
            _ = await bench.service.flush { _ in true }
            await bench.settle()
            #expect(bench.object(name) == bytes)
        }
        #expect(bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
    }

    private func staged(_ name: ByteString, _ model: inout Model, _ bench: StagingBench) async throws -> StagedFile? {
        if let file = model.open[name] { return file }
        if let file = bench.service.files.first(where: { $0.path == name }), bench.service.reopen(file) {
            model.open[name] = file
            return file
        }
        let type: WriteType = name == "b" ? .asyncThrough : .cacheThrough
        do {
            let isThere = try await bench.memory.lookup(name) != nil
            let file =
                isThere
                ? try await bench.opened(name, type: type)
                : try await bench.service.create(bench.target(name, type: type))
            model.open[name] = file
            model.contents[name] = model.promised[name] ?? []
            let difference = difference(try bench.contents(of: file), model.contents[name])
            #expect(difference == nil, "\(name) when it was opened; \(lastCalls(bench, on: name))")
            return file
        } catch is CoordinationError {
            return nil  // a planned fault met the read of the base
        }
    }

    private func write(
        _ name: ByteString, _ model: inout Model, _ bench: StagingBench, _ random: inout ModelRandom
    ) async throws {
        guard let file = try await staged(name, &model, bench) else { return }
        let size = model.contents[name]?.count ?? 0
        let offset = random.below(3) == 0 ? size : random.below(size + 70_000)
        let count = min(1 + random.below(random.below(2) == 0 ? 200 : 90_000), Self.largest - offset)
        guard count > 0 else { return }
        let bytes = pattern(count, seed: random.next())
        try bench.write(bytes, to: file, at: UInt64(offset))
        var known = model.contents[name] ?? []
        if known.count < offset + count { known += [UInt8](repeating: 0, count: offset + count - known.count) }
        known.replaceSubrange(offset..<offset + count, with: bytes)
        model.contents[name] = known
    }

    private func truncate(
        _ name: ByteString, _ model: inout Model, _ bench: StagingBench, _ random: inout ModelRandom
    ) async throws {
        guard let file = try await staged(name, &model, bench) else { return }
        let size = random.below(Self.largest)
        try file.descriptor().resize(to: UInt64(size))
        let known = model.contents[name] ?? []
        model.contents[name] =
            known.count >= size ? Array(known[..<size]) : known + [UInt8](repeating: 0, count: size - known.count)
    }

    private func commit(
        _ name: ByteString, _ model: inout Model, _ bench: StagingBench, _ random: inout ModelRandom
    ) async throws {
        guard let file = model.open[name] else { return }
        do {
            try await bench.service.commit(file, random.below(2) == 0 ? .close : .synchronize)
        } catch {
            return  // kept, and tried again
        }
        model.promised[name] = model.contents[name]
        guard file.writeType == .cacheThrough else { return }
        let difference = difference(bench.object(name), model.contents[name])
        #expect(difference == nil, "\(name) after its commit; \(lastCalls(bench, on: name))")
    }

    /// The last close: whatever it answers, the bytes reach the store in the end.
    private func close(_ name: ByteString, _ model: inout Model, _ bench: StagingBench) async throws {
        guard let file = model.open.removeValue(forKey: name) else { return }
        model.promised[name] = model.contents[name]
        _ = try? await bench.service.commit(file, .close)
        await bench.service.release(file)
    }

    /// Everything dies; what writers had written is still promised, for the files survive the process.
    private func kill(_ model: inout Model, _ bench: StagingBench, _ random: inout ModelRandom) async throws {
        try await bench.restart()
        for name in Self.names where model.open.removeValue(forKey: name) != nil {
            model.promised[name] = model.contents[name]
        }
        _ = await bench.service.recover(for: bench.faults)
        if random.below(2) == 0 {
            bench.clock.endGrace()
            await bench.settle()
        }
    }

    private func plan(_ bench: StagingBench, _ random: inout ModelRandom) {
        bench.faults.heal()
        let operations: [StoreCallLog.Operation] = [
            .put, .beginUpload, .uploadPart, .completeUpload, .copyPart, .lookup,
        ]
        let operation = operations[random.below(operations.count)]
        let error = StoreError(.unavailable, "planned")
        let first = 1 + random.below(3)
        bench.faults.add(
            .init(
                operation, calls: first...first + random.below(3), random.below(2) == 0 ? .fail(error) : .lose(error)))
    }
}

/// Where two contents differ, in a line; nil when they do not.
private func difference(_ actual: [UInt8]?, _ expected: [UInt8]?) -> String? {
    if actual == expected { return nil }
    guard let actual, let expected else { return "\(actual?.count as Int?) bytes, not \(expected?.count as Int?)" }
    let differing = zip(actual, expected).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
    return "\(actual.count) bytes, not \(expected.count); \(differing.count) differ"
        + " from \(differing.first ?? -1) to \(differing.last ?? -1)"
}

private func lastCalls(_ bench: StagingBench, on name: ByteString) -> String {
    bench.faults.calls.all.filter { $0.path == name }.suffix(30)
        .map { "\($0.operation)\($0.range.map { " \($0)" } ?? "")" }.joined(separator: ", ")
}

/// SplitMix64.
private struct ModelRandom {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(max(bound, 1))) }
}
