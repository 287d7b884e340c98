import Platform
import Synchronization

extension BlockCache {
    /// Ends fetches, writes everything to the disks and marks the cache clean, so that a later boot can trust it.
    /// Handles and loans that are left fail from now on; their descriptors stay readable.
    package func shutdown() async {
        guard engine.index != nil else { return }
        await stopFetching()
        let engine = engine
        await withCheckedContinuation { continuation in
            engine.flusher.submit {
                engine.flush()
                engine.markClean()
                continuation.resume()
            }
        }
        engine.abandon()
    }

    /// Refuses new work and waits for the end of fetches that run; nothing arrives any more.
    func stopFetching() async {
        for task in engine.beginClosing() { await task.value }
    }

    /// Waits until every change so far is saved and in the index.
    package func flush() async {
        let engine = engine
        guard !engine.isClosed else { return }
        await withCheckedContinuation { continuation in
            engine.flusher.submit {
                engine.flush()
                continuation.resume()
            }
        }
    }
}

extension Engine {
    /// Flush thread.
    fileprivate func markClean() {
        // Without the mark the next boot verifies all blocks.
        guard !tiers.contains(where: { $0.isDistrusted.load(ordering: .acquiring) }) else { return }
        do {
            for tier in tiers { try tier.directory.synchronize() }
            try index?.commit([
                .state(IndexState(bootIdentifier: configuration.bootIdentifier, isClean: true, trust: trust))
            ])
        } catch {
            logger.error("the cache could not be closed cleanly", metadata: ["error": "\(error)"])
        }
    }
}
