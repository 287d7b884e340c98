import BlockCaching
import Coordination
import Platform
import SystemPackage

extension ClientSession {
    private static let defaultParallelism = 8
    /// A step of a file's load: its share of a progress message, and what one file keeps in flight.
    private static let step: UInt64 = 32 << 20
    private static let reportInterval: UInt64 = 250_000_000

    /// Fetches everything under an inode, several files at once, reporting four times a second.
    func load(_ request: WireLoad, _ id: UInt64) async throws(CoordinationError) {
        let parallelism = request.parallel == 0 ? Self.defaultParallelism : min(Int(request.parallel), 64)
        let progress = LoadProgress()
        // One walk first, so that a person sees how much there is: it costs the listings that the load needs anyway.
        try await TreeWalk(namespace: services.namespace).run(from: request.inode) {
            (_, record) throws(CoordinationError) in
            guard try services.leases.cachedID(record) != nil else { return }
            progress.found(bytes: record.attributes.size)
        }
        progress.totalKnown()
        session.reply(to: id, .progress(progress.message()))
        let walkError = await withTaskGroup(of: Void.self) { group -> CoordinationError? in
            var running = 0
            var reportedAt = MonotonicClock.now()
            do throws(CoordinationError) {
                try await TreeWalk(namespace: services.namespace).run(from: request.inode) {
                    (inode, record) async throws(CoordinationError) in
                    guard let object = try services.leases.cachedObject(inode, record) else {
                        if try services.leases.cachedID(record) != nil { progress.finished(bytes: 0, error: nil) }
                        return
                    }
                    if running >= parallelism { await group.next() } else { running += 1 }
                    group.addTask(executorPreference: services.pool) { await Self.load(object, progress) }
                    let now = MonotonicClock.now()
                    if now - reportedAt > Self.reportInterval {
                        reportedAt = now
                        session.reply(to: id, .progress(progress.message()))
                    }
                }
            } catch { return error }
            // A group cannot be both awaited and timed, so the reports of the last files come from a task of their own.
            let reporter = Task(executorPreference: services.pool) { [session] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: .milliseconds(250))
                    if !Task.isCancelled { session.reply(to: id, .progress(progress.message())) }
                }
            }
            await group.waitForAll()
            reporter.cancel()
            await reporter.value
            return nil
        }
        if let walkError { throw walkError }
        var last = progress.message()
        last.end = true
        session.reply(to: id, .progress(last))
    }

    private static func load(_ object: CachedObject, _ progress: LoadProgress) async {
        var offset: UInt64 = 0
        while offset < object.id.size {
            let end = min(object.id.size, offset + step)
            do {
                if case .readThrough = try await object.ensure(offset..<end, urgency: .prefetch) {
                    return progress.finished(bytes: 0, error: "no cache tier can take \(object.id.key)")
                }
            } catch { return progress.finished(bytes: 0, error: "\(error)") }
            progress.loaded(bytes: end - offset)
            offset = end
        }
        progress.finished(bytes: 0, error: nil)
    }
}

/// How far a load is. Any thread.
final class LoadProgress: Sendable {
    private let progress = Lock(WireProgress())

    func found(bytes: UInt64) {
        progress.withLock {
            $0.filesTotal += 1
            $0.bytesTotal += bytes
        }
    }
    func totalKnown() { progress.withLock { $0.totalKnown = true } }
    func loaded(bytes: UInt64) { progress.withLock { $0.bytesDone += bytes } }
    func finished(bytes: UInt64, error: String?) {
        progress.withLock {
            $0.filesDone += 1
            $0.bytesDone += bytes
            guard let error else { return }
            $0.failures += 1
            $0.lastError = error
        }
    }
    func message() -> WireProgress { progress.withLock { $0 } }
}
