import Glibc
import Platform
import SystemPackage

extension Tier {
    /// Takes the tier out of use after a failed read or write, and has it tried again later. Errors that do not speak
    /// of the disk (EMFILE, ENOMEM) only pause writing, as a full disk does.
    func noteFailure(
        _ error: Errno, doing what: String, probeAfter interval: Duration, onRecovery: @escaping @Sendable () -> Void
    ) {
        let full = [.noSpace, .fileTooLarge, Errno(rawValue: EDQUOT), .tooManyOpenFiles, .noMemory].contains(error)
        let health: CacheStatistics.Tier.State = full ? .full("\(what): \(error)") : .failed("\(what): \(error)")
        let (denied, isNew) = state.withLock { state in
            let isNew = state.health == .ok
            if isNew || !full { state.health = health }
            defer { state.waiting = [] }
            return (state.waiting, isNew)
        }
        for waiter in denied { waiter.continuation.resume(returning: false) }
        guard isNew else { return }
        logger.warning(
            "cache tier takes nothing more for now; reads go past it", metadata: ["error": "\(what): \(error)"])
        scheduleProbe(after: interval, onRecovery)
    }

    private func scheduleProbe(after interval: Duration, _ onRecovery: @escaping @Sendable () -> Void) {
        worker.submit(after: interval) { [weak self] in
            guard let self else { return }
            do {
                try probe()
                state.withLock { $0.health = .ok }
                logger.notice("cache tier works again")
                onRecovery()
            } catch {
                scheduleProbe(after: interval, onRecovery)
            }
        }
    }

    /// Writes, reads back and removes a file, as a fetch would.
    private func probe() throws(Errno) {
        let path = configuration.path + "/.probe"
        let file = try Descriptor.open(path, O_RDWR | O_CREAT | O_TRUNC)
        defer { unlink(path) }
        let bytes = [UInt8](repeating: 0xA5, count: 256 << 10)
        try bytes.withUnsafeBufferPointer { buffer throws(Errno) in
            try file.write(UnsafeRawBufferPointer(buffer), at: 0)
        }
        try file.synchronizeData()
        guard try directory.space().bytes >= configuration.floorFreeBytes else { throw .noSpace }
    }
}
