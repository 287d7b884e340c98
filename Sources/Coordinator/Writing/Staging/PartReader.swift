import Platform
import SystemPackage
import UnderStores

/// Reads parts that are about to be sent, each once. For a store that wants their MD5, which costs more than all else of an
/// upload, several are read side by side.
final class PartReader: Sendable {
    private typealias Reading = Task<Result<[PartContent], StagingFailure>, Never>

    private struct State {
        /// By number: what is read, and which of it is the part.
        var begun: [Int: (reading: Reading, place: Int)] = [:]
        var asked: Set<Int> = []
    }

    private let state = Lock(State())

    /// The content of part `number` as it is now, or was when a part near it was read.
    /// - Parameters:
    ///   - last: the parts up to this one will be asked for as well, where the store lacks them.
    ///   - range: of a part.
    func content(
        _ number: Int, upTo last: Int, of file: StagedFile, _ session: UploadSession, _ service: StagingService,
        range: @escaping @Sendable (Int) -> Range<UInt64>
    ) async throws(StagingFailure) -> PartContent {
        let near = session.missing(
            after: max(0, number - MD5Lanes.count), upTo: last, count: 2 * MD5Lanes.count)
        let (reading, place) = state.withLock { state -> (Reading, Int) in
            state.asked.insert(number)
            if let known = state.begun.removeValue(forKey: number) { return known }
            let others = near.filter { !state.asked.contains($0) && state.begun[$0] == nil }
            let together = [number] + others.prefix(MD5Lanes.count - 1)
            let reading = Reading(executorPreference: service.pool) {
                do throws(StagingFailure) {
                    return .success(try await service.read(file, together: together.map(range)))
                } catch { return .failure(error) }
            }
            for (place, other) in together.enumerated().dropFirst() { state.begun[other] = (reading, place) }
            return (reading, 0)
        }
        return try await reading.value.get()[place]
    }
}

extension StagingService {
    // Fewer are read one by one: a lane alone is slower than that.
    private static let fewest = 3

    fileprivate func read(
        _ file: StagedFile, together ranges: [Range<UInt64>]
    ) async throws(StagingFailure) -> [PartContent] {
        guard ranges.count >= Self.fewest else {
            var contents: [PartContent] = []
            for range in ranges { contents.append(try await read(file, range, withMD5: true)) }
            return contents
        }
        let blockSize = file.file.blockSize
        let contents: [PartContent]
        do throws(Errno) {
            contents = try await blocking { () throws(Errno) in
                try PartContent.read(together: ranges, of: try file.descriptor(), blockSize: blockSize)
            }
        } catch { throw .disk(error) }
        guard zip(contents, ranges).allSatisfy({ $0.print.length == UInt64($1.count) }) else { throw .changed }
        return contents
    }
}
